//! Named invariants, judged by comparing a history with what was read afterwards. Knows nothing of how either came about, so every suite
//! shares them.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::contents::PartitionContents;
use crate::history::{Outcome, Sent};

/// What happened and what is there.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Every send, in the order of sending.
    pub sent: Vec<Sent>,
    /// What was read after all faults were healed; several reads of a partition may stand here.
    pub contents: Vec<PartitionContents>,
}

/// Something that must hold of every run.
pub trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A sentence for each place where it does not hold.
    fn violations(&self, run: &Run) -> Vec<String>;
}

/// Every acknowledged value can be read.
#[derive(Clone, Copy, Debug)]
pub struct NoAckedRecordLost;

impl Invariant for NoAckedRecordLost {
    fn name(&self) -> &'static str {
        "NoAckedRecordLost"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        lost(run, |_| true)
    }
}

/// Every value that was acknowledged as flushed can be read: holds after a power loss, too.
#[derive(Clone, Copy, Debug)]
pub struct AckedIsDurable;

impl Invariant for AckedIsDurable {
    fn name(&self) -> &'static str {
        "AckedIsDurable"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        lost(run, |replicas_flushed| replicas_flushed > 0)
    }
}

fn lost(run: &Run, counts: impl Fn(u16) -> bool) -> Vec<String> {
    let mut read: HashSet<(u32, &str)> = HashSet::new();
    for contents in &run.contents {
        read.extend(contents.records.iter().map(|(_, value)| (contents.partition, value.as_str())));
    }
    let missing = run.sent.iter().filter_map(|sent| match sent.outcome {
        Outcome::Acked { offset, replicas_flushed } if counts(replicas_flushed) => {
            let (value, partition) = (sent.value(), sent.partition);
            let gone = !read.contains(&(partition, value.as_str()));
            gone.then(|| format!("{value} was acknowledged at {partition}/{offset} and cannot be read"))
        }
        _ => None,
    });
    missing.collect()
}

/// Nothing is read that was never sent there, and nothing that was refused.
#[derive(Clone, Copy, Debug)]
pub struct NoPhantomRead;

impl Invariant for NoPhantomRead {
    fn name(&self) -> &'static str {
        "NoPhantomRead"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        let sent: HashMap<(u32, String), &Outcome> =
            run.sent.iter().map(|sent| ((sent.partition, sent.value()), &sent.outcome)).collect();
        let mut found = Vec::new();
        for (partition, offset, value) in reads(run) {
            match sent.get(&(partition, value.clone())) {
                None => found.push(format!("{value} at {partition}/{offset} was never sent there")),
                Some(Outcome::Refused { error }) => {
                    found.push(format!("{value} at {partition}/{offset} was refused: {error}"));
                }
                Some(_) => {}
            }
        }
        found
    }
}

/// An offset names one value, whoever reads it and whatever was acknowledged there.
#[derive(Clone, Copy, Debug)]
pub struct OneValuePerOffset;

impl Invariant for OneValuePerOffset {
    fn name(&self) -> &'static str {
        "OneValuePerOffset"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        let mut values: HashMap<(u32, u64), String> = HashMap::new();
        let acked = run.sent.iter().filter_map(|sent| Some((sent.partition, sent.acked_at()?, sent.value())));
        let mut found = Vec::new();
        for (partition, offset, value) in acked.chain(reads(run).map(|(p, o, v)| (p, o, v.clone()))) {
            let known = values.entry((partition, offset)).or_insert_with(|| value.clone());
            if *known != value {
                found.push(format!("{partition}/{offset} is both {known} and {value}"));
            }
        }
        found
    }
}

/// A read from the beginning to the end has no gap but those that the broker answered with an error.
#[derive(Clone, Copy, Debug)]
pub struct ContiguousOffsets;

impl Invariant for ContiguousOffsets {
    fn name(&self) -> &'static str {
        "ContiguousOffsets"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        let mut found = Vec::new();
        for contents in &run.contents {
            for pair in contents.records.windows(2) {
                let (before, after) = (pair[0].0, pair[1].0);
                let told = contents.damaged.iter().any(|range| *range == (before + 1..after));
                if after != before + 1 && !told {
                    found.push(format!("partition {}: offset {after} follows {before}", contents.partition));
                }
            }
        }
        found
    }
}

/// The records of one producer stand in a partition in the order of their sending. A value that stands twice, because its first
/// acknowledgement was lost, counts where it stands first: see [`duplicates`].
#[derive(Clone, Copy, Debug)]
pub struct ProducerOrder;

impl Invariant for ProducerOrder {
    fn name(&self) -> &'static str {
        "ProducerOrder"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        let sequences: HashMap<String, (u32, u64)> =
            run.sent.iter().map(|sent| (sent.value(), (sent.producer, sent.sequence))).collect();
        let mut found = Vec::new();
        for contents in &run.contents {
            let mut seen = HashSet::new();
            let mut last: HashMap<u32, u64> = HashMap::new();
            for (offset, value) in &contents.records {
                let Some((producer, sequence)) = sequences.get(value) else { continue };
                if !seen.insert(value) {
                    continue;
                }
                let before = last.insert(*producer, *sequence);
                if let Some(before) = before.filter(|before| before > sequence) {
                    let partition = contents.partition;
                    found.push(format!("{value} at {partition}/{offset} stands behind p{producer}-{before}"));
                }
            }
        }
        found
    }
}

/// No value stands twice, though it was sent again and again: what an idempotent producer is for.
#[derive(Clone, Copy, Debug)]
pub struct NoDuplicate;

impl Invariant for NoDuplicate {
    fn name(&self) -> &'static str {
        "NoDuplicate"
    }

    fn violations(&self, run: &Run) -> Vec<String> {
        let mut found = Vec::new();
        for contents in &run.contents {
            let mut first: HashMap<&str, u64> = HashMap::new();
            for (offset, value) in &contents.records {
                let stands_at = *first.entry(value).or_insert(*offset);
                if stands_at != *offset {
                    found.push(format!("{value} stands at {}/{stands_at} and {offset}", contents.partition));
                }
            }
        }
        found
    }
}

/// How many records stand more than once: what a retry after a lost acknowledgement leaves.
#[must_use]
pub fn duplicates(run: &Run) -> usize {
    let twice = |contents: &PartitionContents| {
        let mut seen = HashSet::new();
        contents.records.iter().filter(|(_, value)| !seen.insert(value)).count()
    };
    run.contents.iter().map(twice).sum()
}

fn reads(run: &Run) -> impl Iterator<Item = (u32, u64, &String)> {
    run.contents
        .iter()
        .flat_map(|contents| contents.records.iter().map(|(offset, value)| (contents.partition, *offset, value)))
}

/// What an invariant found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The invariant.
    pub invariant: &'static str,
    /// Where it does not hold.
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} violations", self.invariant, self.violations.len())?;
        self.violations.iter().take(20).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// Everything that holds where no power was lost.
pub const ALL: &[&dyn Invariant] =
    &[&NoAckedRecordLost, &NoPhantomRead, &OneValuePerOffset, &ContiguousOffsets, &ProducerOrder, &NoDuplicate];

/// Judges a run by some invariants.
///
/// # Panics
/// Where one does not hold, with the evidence.
#[track_caller]
pub fn assert_holds(run: &Run, invariants: &[&dyn Invariant]) {
    let verdicts = invariants
        .iter()
        .map(|invariant| Verdict { invariant: invariant.name(), violations: invariant.violations(run) });
    let broken: Vec<String> =
        verdicts.filter(|verdict| !verdict.violations.is_empty()).map(|verdict| verdict.to_string()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(producer: u32, sequence: u64, offset: u64) -> Sent {
        Sent { producer, sequence, partition: 0, outcome: Outcome::Acked { offset, replicas_flushed: 1 } }
    }

    fn read(records: &[(u64, &str)]) -> Vec<PartitionContents> {
        let records = records.iter().map(|(offset, value)| (*offset, (*value).to_string())).collect();
        vec![PartitionContents { partition: 0, records, damaged: vec![] }]
    }

    fn good() -> Run {
        Run { sent: vec![acked(0, 0, 0), acked(0, 1, 1)], contents: read(&[(0, "p0-0"), (1, "p0-1")]) }
    }

    fn breaks(run: &Run) -> Vec<&'static str> {
        ALL.iter().filter(|invariant| !invariant.violations(run).is_empty()).map(|invariant| invariant.name()).collect()
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        assert_holds(&good(), ALL);
        assert_eq!(duplicates(&good()), 0);
    }

    #[test]
    fn a_lost_record_is_found() {
        let run = Run { contents: read(&[(0, "p0-0")]), ..good() };
        assert_eq!(breaks(&run), ["NoAckedRecordLost"]);
        assert_eq!(AckedIsDurable.violations(&run).len(), 1);
    }

    #[test]
    fn a_record_acked_before_its_flush_may_be_lost_but_is_not_durable_either() {
        let outcome = Outcome::Acked { offset: 1, replicas_flushed: 0 };
        let sent = vec![acked(0, 0, 0), Sent { producer: 0, sequence: 1, partition: 0, outcome }];
        let run = Run { sent, contents: read(&[(0, "p0-0")]) };
        assert!(AckedIsDurable.violations(&run).is_empty());
        assert_eq!(NoAckedRecordLost.violations(&run).len(), 1);
    }

    #[test]
    fn a_value_that_nobody_sent_is_found() {
        let run = Run { contents: read(&[(0, "p0-0"), (1, "p0-1"), (2, "p9-9")]), ..good() };
        assert_eq!(breaks(&run), ["NoPhantomRead"]);
    }

    #[test]
    fn a_refused_value_that_is_there_is_found() {
        let mut run = good();
        run.sent[1].outcome = Outcome::Refused { error: "full".into() };
        assert_eq!(breaks(&run), ["NoPhantomRead"]);
    }

    #[test]
    fn a_value_in_the_wrong_partition_is_found() {
        let mut run = good();
        run.contents.push(PartitionContents { partition: 1, records: vec![(0, "p0-0".into())], damaged: vec![] });
        assert_eq!(breaks(&run), ["NoPhantomRead"]);
    }

    #[test]
    fn an_offset_with_two_values_is_found() {
        let mut run = good();
        run.contents.extend(read(&[(0, "p0-0"), (1, "p0-0")]));
        assert_eq!(breaks(&run), ["OneValuePerOffset", "NoDuplicate"]);
        let run = Run { contents: read(&[(0, "p0-0"), (1, "p0-0"), (2, "p0-1")]), ..good() };
        assert_eq!(breaks(&run), ["OneValuePerOffset", "NoDuplicate"]);
    }

    #[test]
    fn a_gap_is_found() {
        let mut run = good();
        run.sent[1] = acked(0, 1, 2);
        run.contents = read(&[(0, "p0-0"), (2, "p0-1")]);
        assert_eq!(breaks(&run), ["ContiguousOffsets"]);
    }

    #[test]
    fn a_gap_that_was_told_is_none_but_what_was_acked_in_it_is_lost() {
        let mut run = good();
        run.sent.push(acked(0, 2, 3));
        run.contents = read(&[(0, "p0-0"), (1, "p0-1"), (3, "p0-2")]);
        run.contents[0].damaged.push(2..3);
        assert_holds(&run, ALL);
        run.contents = read(&[(0, "p0-0"), (3, "p0-2")]);
        run.contents[0].damaged.push(1..3);
        assert_eq!(breaks(&run), ["NoAckedRecordLost"]);
    }

    #[test]
    fn a_reversed_pair_is_found() {
        let run = Run { sent: vec![acked(0, 0, 1), acked(0, 1, 0)], contents: read(&[(0, "p0-1"), (1, "p0-0")]) };
        assert_eq!(breaks(&run), ["ProducerOrder"]);
    }

    #[test]
    fn what_a_retry_wrote_twice_is_counted_and_told() {
        let sent = vec![acked(0, 0, 2), acked(0, 1, 3)];
        let run = Run { sent, contents: read(&[(0, "p0-0"), (1, "p0-1"), (2, "p0-0"), (3, "p0-1")]) };
        assert_eq!(breaks(&run), ["NoDuplicate"]);
        assert_eq!(NoDuplicate.violations(&run), ["p0-0 stands at 0/0 and 2", "p0-1 stands at 0/1 and 3"]);
        assert_eq!(duplicates(&run), 2);
    }

    #[test]
    fn an_unknown_send_may_be_there_or_not() {
        let mut run = good();
        run.sent[1].outcome = Outcome::Unknown { error: "timeout".into() };
        assert_holds(&run, ALL);
        run.contents = read(&[(0, "p0-0")]);
        assert_holds(&run, ALL);
    }

    #[test]
    fn the_evidence_names_value_and_place() {
        let run = Run { contents: read(&[(0, "p0-0")]), ..good() };
        assert_eq!(NoAckedRecordLost.violations(&run), ["p0-1 was acknowledged at 0/1 and cannot be read"]);
    }
}
