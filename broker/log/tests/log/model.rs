//! A log against a list: whatever is appended, flushed, cut, deleted, crashed and opened again, both say the same.

#![allow(clippy::unwrap_used)] // Tests only; clippy sees just the functions marked as one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{EPOCH, batch, options, read_all};
use proptest::prelude::*;
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{Group, Log, RetentionLimits};
use tidelog_protocol::{Offset, Timestamp};

#[derive(Clone, Debug)]
enum Step {
    Append { batches: Vec<(u32, usize)> },
    Flush,
    Tidy,
    Roll,
    Truncate { part: u64 },
    Delete { part: u64 },
    Retain { bytes: u64 },
    Close,
    Kill,
    KillDuring { skip: u64, next: Box<Step> },
    LosePower { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = prop::collection::vec((1u32..4, 0usize..600), 1..6).prop_map(|batches| Step::Append { batches });
    let calm = prop_oneof![
        8 => append,
        3 => Just(Step::Flush),
        2 => Just(Step::Tidy),
        1 => Just(Step::Roll),
        1 => (0u64..100).prop_map(|part| Step::Truncate { part }),
        1 => (0u64..100).prop_map(|part| Step::Delete { part }),
        1 => (0u64..10_000).prop_map(|bytes| Step::Retain { bytes }),
    ];
    let step = prop_oneof![
        12 => calm.clone(),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => (0u64..12, calm).prop_map(|(skip, next)| Step::KillDuring { skip, next: Box::new(next) }),
        2 => any::<u64>().prop_map(|seed| Step::LosePower { seed }),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    base: u64,
    records: u32,
    payload: Vec<u8>,
}

struct World {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    disk: Arc<FaultDisk>,
    log: Option<Log>,
    entries: Vec<Entry>,
    log_start: u64,
    /// Where it began as that was promised last: what a crash cut short may come back once more as power fails.
    promised_start: u64,
    flushed_end: u64,
    stamp: u8,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("topic-0");
        let disk = FaultDisk::new();
        let (log, _) = Log::open(options(&dir, disk.clone())).unwrap();
        Self {
            _temp: temp,
            dir,
            disk,
            log: Some(log),
            entries: vec![],
            log_start: 0,
            promised_start: 0,
            flushed_end: 0,
            stamp: 0,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.base + u64::from(entry.records)).max(self.log_start)
    }

    /// The answer is false if the step failed, which only a dead process may make it.
    fn apply(&mut self, step: &Step) -> bool {
        let (start, end) = (self.log_start, self.end());
        match step {
            Step::Append { batches } => {
                for (records, size) in batches.clone() {
                    self.stamp = self.stamp.wrapping_add(1);
                    let payload = vec![self.stamp; size];
                    let (header, bytes) = batch(records, i64::from(self.stamp), &payload);
                    let Ok(done) = self.log().append(&[Group::new(&bytes, &[header])], EPOCH) else { return false };
                    assert_eq!(done.base_offset.0, self.end());
                    self.entries.push(Entry { base: done.base_offset.0, records, payload });
                }
            }
            Step::Flush => {
                if self.log().flush().is_err() {
                    return false;
                }
                self.flushed_end = end;
            }
            Step::Tidy => return self.log().tidy().is_ok(),
            Step::Roll => return self.log().roll().is_ok(),
            Step::Truncate { part } => {
                let offset = start + (end - start) * part / 100;
                let Ok(cut) = self.log().truncate_to(Offset(offset)) else { return false };
                assert!(cut.0 <= offset);
                self.entries.retain(|entry| entry.base < cut.0 && cut.0 > start);
                self.flushed_end = cut.0;
            }
            Step::Delete { part } => {
                let offset = start + (end - start) * part / 100;
                let Ok(moved) = self.log().retention().delete_records(Offset(offset)) else { return false };
                assert_eq!(moved.0, offset);
                self.log_start = offset;
                self.promised_start = offset;
            }
            Step::Retain { bytes } => {
                let limits = RetentionLimits { bytes: Some(*bytes), age: None, below: Offset(end) };
                if self.log().retention().apply(Timestamp(0), &limits).is_err() {
                    return false;
                }
                self.log_start = self.log().reader().log_start().0;
                self.promised_start = self.log_start;
            }
            Step::Close => {
                self.log.take().unwrap().close().unwrap();
                self.disk.restart();
                self.reopen(end..=end);
            }
            Step::Kill => {
                self.disk.restart();
                self.reopen(end..=end);
            }
            Step::KillDuring { skip, next } => {
                self.disk.arm(Operation::Change, *skip, Fault::CrashAfter(40));
                let survived = self.apply(next);
                // Upkeep may have failed without failing the step.
                let after = self.end();
                self.disk.restart();
                let low = match **next {
                    Step::Truncate { part } if !survived => start + (end - start) * part / 100,
                    _ => after,
                };
                let low = self.entries.iter().rev().map(|e| e.base).find(|&base| base <= low).unwrap_or(start).min(low);
                // Less than a batch reaches the page cache, so an append that nobody was told about leaves a torn tail at most.
                self.reopen(low..=after.max(end));
            }
            Step::LosePower { seed } => {
                self.disk.lose_power(*seed).unwrap();
                let flushed = self.flushed_end.max(start);
                self.log_start = self.promised_start;
                self.reopen(flushed..=end);
            }
        }
        true
    }

    /// Opens again, expects an end within the bounds, and takes over what is left.
    fn reopen(&mut self, ends: std::ops::RangeInclusive<u64>) {
        self.log = None;
        let (mut log, report) = Log::open(options(&self.dir, self.disk.clone())).unwrap();
        let reader = log.reader();
        if let Some(hole) = report.holes.first() {
            // Written back out of order: fenced. A follower cuts there and fetches again.
            assert!(hole.from.0 >= *ends.start(), "{hole:?} but flushed to {ends:?}");
            let cut = log.truncate_to(hole.from).unwrap();
            assert_eq!(cut, hole.from);
        }
        assert!(ends.contains(&log.end().0), "{} is not in {ends:?}", log.end());
        let start = reader.log_start().0;
        assert!(start >= self.log_start || start == self.log_start, "{start} {}", self.log_start);
        self.log_start = start;
        let end = log.end().0;
        self.entries.retain(|entry| entry.base + u64::from(entry.records) <= end);
        self.flushed_end = end;
        self.log = Some(log);
        self.check();
        // Opening twice finds the same.
        let again = Log::open(options(&self.dir, self.disk.clone())).unwrap();
        assert_eq!(again.0.end().0, end);
        assert!(again.1.holes.is_empty() && again.1.torn_bytes == 0, "{:?}", again.1);
        self.log = Some(again.0);
    }

    fn check(&mut self) {
        let reader = self.log().reader();
        assert_eq!(reader.log_start().0, self.log_start);
        assert_eq!(reader.written_end().0, self.end());
        let start = self.log_start;
        let expected: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.base + u64::from(entry.records) > start)
            .map(|entry| (entry.base, entry.payload.clone()))
            .collect();
        assert_eq!(read_all(&reader, Offset(start)).unwrap(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_log_says_what_a_list_says(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            prop_assert!(world.apply(step), "{step:?} failed");
            world.check();
        }
    }
}
