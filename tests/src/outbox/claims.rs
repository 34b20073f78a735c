//! What must hold of what an outbox published. Pure: knows nothing of databases or brokers.

use std::collections::BTreeMap;

/// An event as it was read: of which aggregate, and which of its events, from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Read {
    /// The aggregate.
    pub key: String,
    /// Its number.
    pub number: i64,
}

/// Something that must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Claim {
    /// What was committed is published.
    NothingLost,
    /// Once.
    NothingDoubled,
    /// In the order of an aggregate's commits.
    OrderPerKey,
    /// What was not committed is not published.
    NothingMadeUp,
}

/// Where claims do not hold: `committed` says how many events each aggregate has, `read` what was read, of each aggregate in its order.
#[must_use]
pub fn violations(committed: &BTreeMap<String, i64>, read: &[Read]) -> Vec<(Claim, String)> {
    let mut found = Vec::new();
    let mut by_key: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for event in read {
        by_key.entry(&event.key).or_default().push(event.number);
    }
    for (key, numbers) in &by_key {
        let last = committed.get(*key).copied().unwrap_or(0);
        let mut seen: BTreeMap<i64, u32> = BTreeMap::new();
        numbers.iter().for_each(|number| *seen.entry(*number).or_default() += 1);
        for (number, times) in &seen {
            if *number < 1 || *number > last {
                found.push((Claim::NothingMadeUp, format!("{key} has {last} events, and event {number} was read")));
            }
            if *times > 1 {
                found.push((Claim::NothingDoubled, format!("event {number} of {key} was read {times} times")));
            }
        }
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] > pair[1]) {
            found.push((Claim::OrderPerKey, format!("of {key} event {} was read before {}", pair[0], pair[1])));
        }
    }
    for (key, last) in committed {
        let numbers = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let missing: Vec<i64> = (1..=*last).filter(|number| !numbers.contains(number)).collect();
        if !missing.is_empty() {
            found.push((Claim::NothingLost, format!("of {key} the events {missing:?} of {last} were not read")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn broken(events: &[(&str, i64)]) -> Vec<Claim> {
        let committed = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)]);
        let read: Vec<_> = events.iter().map(|(key, number)| Read { key: (*key).into(), number: *number }).collect();
        violations(&committed, &read).into_iter().map(|(claim, _)| claim).collect()
    }

    #[test]
    fn each_claim_is_noticed_where_it_is_broken() {
        assert_eq!(broken(&[("a", 1), ("b", 1), ("a", 2), ("a", 3)]), []);
        assert_eq!(broken(&[("a", 1), ("b", 1), ("a", 3)]), [Claim::NothingLost]);
        assert_eq!(broken(&[("a", 1), ("a", 2), ("a", 3)]), [Claim::NothingLost]);
        assert_eq!(broken(&[("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 3)]), [Claim::NothingDoubled]);
        assert_eq!(broken(&[("a", 2), ("b", 1), ("a", 1), ("a", 3)]), [Claim::OrderPerKey]);
        assert_eq!(broken(&[("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]), [Claim::NothingMadeUp]);
        assert_eq!(broken(&[("a", 1), ("b", 1), ("a", 2), ("a", 3), ("c", 1)]), [Claim::NothingMadeUp]);
    }
}
