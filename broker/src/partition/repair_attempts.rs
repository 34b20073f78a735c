//! What came of the attempts to repair damaged ranges from other replicas: which range none that is complete has whole, so that readers need
//! not wait for it, when it is worth to ask again, and what of it is worth a line in the log. Pure; knows nothing of how a range is fetched,
//! nor of who reads.

use std::time::{Duration, Instant};

use tidelog_log::Hole;
use tidelog_protocol::{BrokerId, Offset, PartitionEpoch};

/// A range that no complete replica has whole is asked for again after so long, though the replicas in sync are the same: a disk may have
/// been put right.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// So long a replica that is not in sync is waited for: after a restart of many brokers, most are in a moment.
const ABSENT_PATIENCE: Duration = Duration::from_secs(10);

/// What has not changed is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(3_600);

/// The attempts to repair what is damaged in one partition, the latest of each range. No more than there are damaged ranges.
#[derive(Debug, Default)]
pub struct RepairAttempts {
    attempts: Vec<Attempt>,
    /// What was told last of each range and replica.
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    hole: Hole,
    source: BrokerId,
    answer: String,
    at: Instant,
}

/// Why an attempt came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The partition epoch under which the replicas in sync were asked.
    pub epoch: PartitionEpoch,
    /// Whether every one of them was heard, and does not have the range whole.
    pub nobody_has_it: bool,
    /// Replicas that are not in sync, and may have it.
    pub absent: Vec<BrokerId>,
}

#[derive(Debug)]
struct Attempt {
    hole: Hole,
    first_at: Instant,
    last_at: Instant,
    failed: Failed,
    /// When it was told last that no complete replica has it.
    told_at: Option<Instant>,
}

impl Attempt {
    fn is_final(&self) -> bool {
        let waited = self.last_at.saturating_duration_since(self.first_at);
        self.failed.nobody_has_it && (self.failed.absent.is_empty() || waited >= ABSENT_PATIENCE)
    }

    /// Is it to be told that no complete replica has it?
    fn tells(&mut self, now: Instant) -> bool {
        if !self.is_final() {
            self.told_at = None;
            return false;
        }
        let tells = self.told_at.is_none_or(|told_at| now.saturating_duration_since(told_at) >= TELL_AGAIN);
        if tells {
            self.told_at = Some(now);
        }
        tells
    }
}

impl RepairAttempts {
    /// Forgets what is not damaged any more.
    pub fn retain(&mut self, damaged: &[Hole]) {
        self.attempts.retain(|attempt| damaged.contains(&attempt.hole));
        self.told.retain(|told| damaged.contains(&told.hole));
    }

    /// Is a range to be asked for, under this partition epoch?
    #[must_use]
    pub fn is_due(&self, hole: &Hole, epoch: PartitionEpoch, now: Instant) -> bool {
        let found = self.attempts.iter().find(|attempt| attempt.hole == *hole);
        found.is_none_or(|attempt| {
            let waited = now.saturating_duration_since(attempt.last_at);
            !attempt.is_final() || attempt.failed.epoch != epoch || waited >= ASK_AGAIN
        })
    }

    /// Notes that an attempt came to nothing; true where it is to be told that no complete replica has the range whole: that is news, or was
    /// told long ago.
    pub fn note(&mut self, hole: Hole, failed: Failed, now: Instant) -> bool {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.hole == hole) {
            (attempt.last_at, attempt.failed) = (now, failed);
            return attempt.tells(now);
        }
        let mut attempt = Attempt { hole, first_at: now, last_at: now, failed, told_at: None };
        let tells = attempt.tells(now);
        self.attempts.push(attempt);
        tells
    }

    /// Is it to be told why a replica could not repair a range? Where it said the same before, only after long.
    pub fn is_news(&mut self, hole: &Hole, (source, answer): (BrokerId, &str), now: Instant) -> bool {
        let found = self.told.iter_mut().find(|told| told.hole == *hole && told.source == source);
        match found {
            Some(told) if told.answer == answer && now.saturating_duration_since(told.at) < TELL_AGAIN => false,
            Some(told) => {
                (told.answer, told.at) = (answer.to_owned(), now);
                true
            }
            None => {
                self.told.push(Told { hole: hole.clone(), source, answer: answer.to_owned(), at: now });
                true
            }
        }
    }

    /// Where no complete replica has the range that begins and ends there: those that may have it, and are not in sync.
    #[must_use]
    pub fn beyond_repair(&self, (from, to): (Offset, Offset)) -> Option<&[BrokerId]> {
        let overlaps = |attempt: &&Attempt| attempt.hole.from < to && from < attempt.hole.to;
        let found = self.attempts.iter().filter(overlaps).find(|attempt| attempt.is_final());
        found.map(|attempt| &attempt.failed.absent[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(from: u64, to: u64) -> Hole {
        Hole { from: Offset(from), to: Offset(to), segment: Offset(0), bytes: from * 10..to * 10 }
    }

    fn failed(epoch: u32, nobody_has_it: bool, absent: &[u32]) -> Failed {
        let absent = absent.iter().copied().map(BrokerId).collect();
        Failed { epoch: PartitionEpoch(epoch), nobody_has_it, absent }
    }

    const RANGE: (Offset, Offset) = (Offset(3), Offset(5));

    #[test]
    fn what_no_complete_replica_has_is_told_once_and_asked_for_again_once_others_are_in_sync() {
        let (mut attempts, now) = (RepairAttempts::default(), Instant::now());
        let epoch = PartitionEpoch(7);
        assert!(attempts.is_due(&hole(3, 5), epoch, now) && attempts.beyond_repair(RANGE).is_none());
        assert!(attempts.note(hole(3, 5), failed(7, true, &[]), now));
        assert_eq!(attempts.beyond_repair(RANGE), Some(&[][..]));
        assert_eq!(attempts.beyond_repair((Offset(5), Offset(9))), None, "that is another range");
        assert!(!attempts.note(hole(3, 5), failed(7, true, &[]), now), "it was told");
        assert!(!attempts.is_due(&hole(3, 5), epoch, now + ASK_AGAIN / 2));
        assert!(attempts.is_due(&hole(3, 5), epoch, now + ASK_AGAIN), "a disk may have been put right");
        assert!(attempts.is_due(&hole(3, 5), PartitionEpoch(8), now), "another replica may have it");
        assert!(attempts.is_due(&hole(8, 9), epoch, now), "of that one nothing is known");
        attempts.retain(&[hole(8, 9)]);
        assert_eq!(attempts.beyond_repair(RANGE), None, "it is whole again");
    }

    #[test]
    fn what_does_not_change_is_told_at_first_and_then_each_hour() {
        let (mut attempts, now) = (RepairAttempts::default(), Instant::now());
        let (mut lines, mut answers) = (0, 0);
        for minute in 0..150 {
            let now = now + ASK_AGAIN * minute;
            answers += u32::from(attempts.is_news(&hole(3, 5), (BrokerId(2), "it is damaged here, too"), now));
            lines += u32::from(attempts.note(hole(3, 5), failed(7, true, &[]), now));
        }
        assert_eq!((lines, answers), (3, 3), "at 0:00, 1:00 and 2:00");
        let now = now + ASK_AGAIN * 150;
        assert!(attempts.is_news(&hole(3, 5), (BrokerId(2), "it sent nothing"), now), "it answered otherwise");
        assert!(attempts.is_news(&hole(3, 5), (BrokerId(3), "it sent nothing"), now), "that is another replica");
        assert!(attempts.is_news(&hole(8, 9), (BrokerId(2), "it sent nothing"), now), "that is another range");
        assert!(!attempts.note(hole(3, 5), failed(7, false, &[]), now));
        assert!(attempts.note(hole(3, 5), failed(7, true, &[]), now), "it is nowhere again");
        attempts.retain(&[]);
        assert!(attempts.is_news(&hole(3, 5), (BrokerId(2), "it sent nothing"), now), "it was whole in between");
    }

    #[test]
    fn a_range_stays_to_be_fetched_as_long_as_one_in_sync_was_not_heard() {
        let (mut attempts, now) = (RepairAttempts::default(), Instant::now());
        for round in 0..100 {
            assert!(!attempts.note(hole(3, 5), failed(7, false, &[2]), now + ASK_AGAIN * round));
            assert!(attempts.beyond_repair(RANGE).is_none());
            assert!(attempts.is_due(&hole(3, 5), PartitionEpoch(7), now + ASK_AGAIN * round));
        }
        assert!(attempts.note(hole(3, 5), failed(7, true, &[]), now));
        assert!(!attempts.note(hole(3, 5), failed(8, false, &[]), now));
        assert!(attempts.beyond_repair(RANGE).is_none(), "one has come that may have it");
    }

    #[test]
    fn a_replica_that_is_not_in_sync_is_waited_for_and_not_for_ever() {
        let (mut attempts, now) = (RepairAttempts::default(), Instant::now());
        assert!(!attempts.note(hole(3, 5), failed(7, true, &[2]), now));
        assert!(attempts.beyond_repair(RANGE).is_none() && attempts.is_due(&hole(3, 5), PartitionEpoch(7), now));
        assert!(!attempts.note(hole(3, 5), failed(7, true, &[2]), now + ABSENT_PATIENCE / 2));
        assert!(attempts.note(hole(3, 5), failed(7, true, &[2]), now + ABSENT_PATIENCE));
        assert_eq!(attempts.beyond_repair(RANGE), Some(&[BrokerId(2)][..]));
    }
}
