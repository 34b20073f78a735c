//! Proof that a fault happened: what was counted while it lasted. Knows nothing of faults.

use std::fmt;

/// Counts, each of which must be above zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evidence(Vec<(String, u64)>);

impl Evidence {
    /// So many of these.
    #[must_use]
    pub fn of(what: &str, count: impl TryInto<u64>) -> Self {
        Self::default().and(what, count)
    }

    /// And so many of these.
    #[must_use]
    pub fn and(mut self, what: &str, count: impl TryInto<u64>) -> Self {
        self.0.push((what.into(), count.try_into().unwrap_or(u64::MAX)));
        self
    }

    /// And those of another.
    pub fn add(&mut self, other: Self) {
        for (what, count) in other.0 {
            match self.0.iter_mut().find(|(known, _)| *known == what) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => self.0.push((what, count)),
            }
        }
    }

    /// The first assertion of a fault test.
    ///
    /// # Panics
    /// Where nothing was counted: the test would prove nothing.
    #[track_caller]
    pub fn assert_happened(&self) {
        assert!(!self.0.is_empty(), "the fault left no evidence");
        let missing: Vec<_> = self.0.iter().filter(|(_, count)| *count == 0).map(|(what, _)| what.as_str()).collect();
        assert!(missing.is_empty(), "the fault did not happen: no {}", missing.join(", no "));
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_one_kind_add_up() {
        let mut evidence = Evidence::of("kills", 1_u64);
        evidence.add(Evidence::of("kills", 2_u64).and("drops", 3_u64));
        assert_eq!(evidence.to_string(), "3 kills, 3 drops");
        evidence.assert_happened();
    }

    #[test]
    #[should_panic(expected = "no drops")]
    fn what_was_not_counted_did_not_happen() {
        Evidence::of("kills", 1_u64).and("drops", 0_u64).assert_happened();
    }

    #[test]
    #[should_panic(expected = "no evidence")]
    fn a_fault_without_evidence_is_none() {
        Evidence::default().assert_happened();
    }
}
