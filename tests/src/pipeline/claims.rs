//! What must hold of a pipeline, judged by its input and by what was read of its output. Pure: knows nothing of how any of it was read.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::job::{Half, Made};

/// A place in the output.
pub type At = (u32, u64);

/// What a consumer was shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Where it stands.
    pub at: At,
    /// The record.
    pub made: Made,
    /// When, by the clock of [`Asked`].
    pub read_at: u64,
}

/// What was read of a pipeline once it had come to rest.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The values of the input, each as often as it stands there.
    pub input: Vec<String>,
    /// The output as a fresh consumer that reads what is committed sees it.
    pub committed: BTreeMap<At, Made>,
    /// The same with everything that was undone.
    pub everything: BTreeMap<At, Made>,
    /// What consumers of what is committed were shown while the faults lasted, each reading in its order.
    pub along: Vec<Vec<Shown>>,
    /// When the commit of each try was asked for, where it was.
    pub asked: Asked,
}

/// Something that must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Claim {
    /// Every input record came out: each half of it.
    PipelineExactlyOnce,
    /// And not more than once.
    NoDuplicate,
    /// Of what one try wrote everything is committed, or nothing.
    TransactionAllOrNothing,
    /// A consumer of what is committed was shown nothing before its commit was asked for; and what it was shown while the faults lasted is what
    /// stands there in the end, in the same order, without gaps.
    NothingReadAboveStableOffset,
}

/// How much of each kind is told.
const TOLD_MAX: usize = 10;

/// Where claims do not hold, a sentence each; of each claim the first few.
#[must_use]
pub fn violations(reading: &Reading) -> Vec<(Claim, String)> {
    let mut found = Vec::new();
    let mut tell = |claim, sentences: Vec<String>| {
        let more = sentences.len().saturating_sub(TOLD_MAX);
        found.extend(sentences.into_iter().take(TOLD_MAX).map(|sentence| (claim, sentence)));
        if more > 0 {
            found.push((claim, format!("and {more} more")));
        }
    };
    let (missing, doubled) = compared(reading);
    tell(Claim::PipelineExactlyOnce, missing);
    tell(Claim::NoDuplicate, doubled);
    tell(Claim::TransactionAllOrNothing, torn(reading));
    tell(Claim::NothingReadAboveStableOffset, too_early(reading));
    tell(Claim::NothingReadAboveStableOffset, taken_back(reading));
    found
}

fn compared(reading: &Reading) -> (Vec<String>, Vec<String>) {
    let mut wanted: BTreeMap<(&str, Half), i64> = BTreeMap::new();
    for value in &reading.input {
        for half in Half::BOTH {
            *wanted.entry((value, half)).or_default() += 1;
        }
    }
    for made in reading.committed.values() {
        *wanted.entry((&made.input, made.half)).or_default() -= 1;
    }
    let (mut missing, mut doubled) = (Vec::new(), Vec::new());
    for ((value, half), left) in wanted {
        if left > 0 {
            missing.push(format!("{value} did not come out: {half:?}"));
        } else if left < 0 {
            let places: Vec<_> =
                reading.committed.iter().filter(|(_, made)| made.input == value && made.half == half).collect();
            doubled.push(format!("{value} came out {} times too often: {places:?}", -left));
        }
    }
    (missing, doubled)
}

fn torn(reading: &Reading) -> Vec<String> {
    let mut tries: BTreeMap<&str, (BTreeSet<At>, BTreeSet<At>)> = BTreeMap::new();
    for (at, made) in &reading.everything {
        tries.entry(&made.attempt).or_default().0.insert(*at);
    }
    let mut found = Vec::new();
    for (at, made) in &reading.committed {
        tries.entry(&made.attempt).or_default().1.insert(*at);
        if reading.everything.get(at) != Some(made) {
            found.push(format!("{made:?} is read at {at:?} by those who read what is committed only"));
        }
    }
    let torn = tries.iter().filter(|(_, (written, committed))| !committed.is_empty() && written != committed);
    found.extend(torn.map(|(attempt, (written, committed))| {
        format!("of try {attempt}, which wrote at {written:?}, only {committed:?} is committed")
    }));
    found
}

/// Nobody commits what nobody has asked for yet.
fn too_early(reading: &Reading) -> Vec<String> {
    let shown = reading.along.iter().flatten();
    let early = shown.filter_map(|Shown { at, made, read_at }| match reading.asked.get(&made.attempt) {
        Some(asked_at) if read_at < asked_at => {
            let before = (asked_at - read_at) / 1_000;
            Some(format!("{made:?} was shown at {at:?}, {before} µs before its commit was asked for"))
        }
        Some(_) => None,
        None => Some(format!("{made:?} was shown at {at:?}, and nobody asked for its commit")),
    });
    early.collect()
}

fn taken_back(reading: &Reading) -> Vec<String> {
    let mut found = Vec::new();
    for along in &reading.along {
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        for Shown { at: (partition, offset), made, .. } in along {
            if reading.committed.get(&(*partition, *offset)) != Some(made) {
                found.push(format!("{made:?} was shown at {partition}/{offset} and is not committed there"));
            }
            let before = newest.insert(*partition, *offset);
            let from = before.map_or(0, |before| before + 1);
            if before.is_some_and(|before| before >= *offset) {
                found.push(format!("{partition}/{offset} was shown after {before:?}"));
            } else if let Some((skipped, _)) = reading.committed.range((*partition, from)..(*partition, *offset)).next()
            {
                found.push(format!("{skipped:?} is committed and was left out before {partition}/{offset}"));
            }
        }
    }
    found
}

/// Records of the output that were undone: proof that there was something to undo.
#[must_use]
pub fn undone(reading: &Reading) -> usize {
    reading.everything.len() - reading.committed.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(input: &str, half: Half, attempt: &str) -> Made {
        Made { input: input.into(), half, attempt: attempt.into() }
    }

    /// Two inputs; the first try of `b` was undone.
    fn well() -> Reading {
        let mut reading = Reading { input: vec!["a".into(), "b".into()], ..Reading::default() };
        for (at, (input, attempt)) in (0..).zip([("a", "1"), ("b", "2"), ("b", "3")]) {
            for (partition, half) in (0..).zip(Half::BOTH) {
                reading.everything.insert((partition, at), made(input, half, attempt));
                if attempt != "2" {
                    reading.committed.insert((partition, at), made(input, half, attempt));
                }
            }
        }
        reading.asked = Asked::from([("1", 10), ("2", 20), ("3", 30)].map(|(attempt, at)| (String::from(attempt), at)));
        let shown = |(at, made): (&At, &Made)| Shown { at: *at, made: made.clone(), read_at: 40 };
        reading.along = vec![reading.committed.iter().map(shown).collect()];
        reading
    }

    #[track_caller]
    fn broken(change: impl FnOnce(&mut Reading)) -> BTreeSet<Claim> {
        let mut reading = well();
        change(&mut reading);
        violations(&reading).into_iter().map(|(claim, _)| claim).collect()
    }

    #[test]
    fn a_pipeline_that_works_breaks_no_claim() {
        assert_eq!(violations(&well()), []);
        assert_eq!(undone(&well()), 2);
    }

    #[test]
    fn a_lost_record_is_noticed() {
        let lost = broken(|reading| reading.input.push("c".into()));
        assert_eq!(lost, BTreeSet::from([Claim::PipelineExactlyOnce]));
    }

    #[test]
    fn a_doubled_record_is_noticed() {
        let doubled = broken(|reading| {
            for (partition, half) in (0..).zip(Half::BOTH) {
                reading.everything.insert((partition, 9), made("a", half, "4"));
                reading.committed.insert((partition, 9), made("a", half, "4"));
            }
        });
        assert_eq!(doubled, BTreeSet::from([Claim::NoDuplicate]));
    }

    #[test]
    fn half_a_transaction_is_noticed() {
        let torn = broken(|reading| {
            let half = reading.everything[&(0, 1)].clone();
            reading.committed.insert((0, 1), half);
        });
        assert!(torn.contains(&Claim::TransactionAllOrNothing), "{torn:?}");
    }

    #[test]
    fn a_record_shown_too_soon_is_noticed_and_one_left_out_is() {
        let soon = broken(|reading| {
            let undone = Shown { at: (0, 1), made: reading.everything[&(0, 1)].clone(), read_at: 40 };
            reading.along[0].insert(1, undone);
        });
        assert_eq!(soon, BTreeSet::from([Claim::NothingReadAboveStableOffset]));
        let left_out = broken(|reading| drop(reading.along[0].remove(0)));
        assert_eq!(left_out, BTreeSet::from([Claim::NothingReadAboveStableOffset]));
    }

    #[test]
    fn a_record_shown_before_its_commit_was_asked_for_is_noticed_though_it_is_committed_later() {
        let too_early = broken(|reading| reading.along[0][0].read_at = 9);
        assert_eq!(too_early, BTreeSet::from([Claim::NothingReadAboveStableOffset]));
        assert_eq!(broken(|reading| reading.along[0][0].read_at = 10), BTreeSet::new());
        let unasked = broken(|reading| reading.asked.retain(|attempt, _| attempt != "3"));
        assert_eq!(unasked, BTreeSet::from([Claim::NothingReadAboveStableOffset]));
    }
}
