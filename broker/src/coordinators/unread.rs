//! A shard whose log cannot be read: what whoever asks is told, and when it is tried again. Knows nothing of what is kept there.

use std::ops::Range;
use std::time::Duration;

use tidelog_coordination::counted;
use tidelog_log::ReadError;
use tidelog_protocol::{ErrorCode, Offset, WireError};

use super::loading::Unreadable;
use super::shard::{RETRY_MS, loading};
use crate::partition::Handle;
use crate::partition::refusals;

/// It is read again after so long, twice as long each time, and no longer than the latter. Sooner where damage was mended.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is known of a log that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unread {
    /// What whoever asks is told.
    pub(super) error: WireError,
    /// What is damaged, in order; nothing where it is something else.
    pub(super) damaged: Vec<Range<Offset>>,
    /// The log knows of damage, and will know when there is none any more.
    is_noted: bool,
}

impl Unread {
    pub(super) fn new(partition: &Handle, why: Unreadable) -> Self {
        let is_noted = partition.reader().is_damaged();
        let place = format!("{}, partition {}", partition.topic(), partition.partition());
        let has_peers = partition.tail().borrow().has_peers;
        let (error, damaged) = match why {
            Unreadable::Damaged(damaged) if has_peers => {
                let sentence = format!(
                    "what is kept in {place}, cannot be read: {} there; it is being fetched from another replica. If this lasts, let another lead: tidelog cluster elect",
                    ranges(&damaged)
                );
                (
                    WireError { retry_after_ms: RETRY_MS, ..WireError::new(ErrorCode::CoordinatorLoading, sentence) },
                    damaged,
                )
            }
            Unreadable::Damaged(damaged) => {
                let (topic, index) = (partition.topic(), partition.partition());
                let before = damaged.last().map_or(Offset::ZERO, |range| range.end);
                let sentence = format!(
                    "what is kept in {place}, cannot be read: {} on the disk, and no other replica has what was there. The way out loses what it said: tidelog records delete {topic} --partition {index} --before {before} --accept-loss (its --help says what that means)",
                    ranges(&damaged)
                );
                (
                    WireError { range: damaged_range(&damaged), ..WireError::new(ErrorCode::CorruptLog, sentence) },
                    damaged,
                )
            }
            Unreadable::Strange(why) => {
                let sentence = format!(
                    "what is kept in {place}, cannot be read: {why}. A later release may have written it: run that one, nothing is lost"
                );
                let error = match has_peers {
                    // Another broker may be of that release.
                    true => WireError { message: sentence, ..loading() },
                    false => WireError::new(ErrorCode::CorruptLog, sentence),
                };
                (error, Vec::new())
            }
            Unreadable::Refused(ReadError::Storage(error)) if !error.is_transient() && !has_peers => {
                let sentence = format!("what is kept in {place}, cannot be read: {error}; it is tried again");
                (WireError::new(ErrorCode::StorageFailed, sentence), Vec::new())
            }
            Unreadable::Refused(error) => {
                let told = refusals::of_read(&error);
                let sentence = format!("what is kept in {place}, cannot be read yet: {}", told.message);
                (WireError { message: sentence, ..loading() }, Vec::new())
            }
        };
        Self { error, damaged, is_noted }
    }

    /// Is it to be read again, so long after it was tried for the `attempts`th time in a row?
    pub(super) fn is_due(&self, partition: &Handle, waited: Duration, attempts: u32) -> bool {
        let is_mended = self.is_noted && !partition.reader().is_damaged();
        waited >= if is_mended { PAUSE } else { pause(attempts) }
    }
}

fn pause(attempts: u32) -> Duration {
    PAUSE.saturating_mul(1 << attempts.min(16)).min(PAUSE_MAX)
}

fn damaged_range(damaged: &[Range<Offset>]) -> Option<(Offset, Offset)> {
    Some((damaged.first()?.start, damaged.last()?.end))
}

/// In words.
pub(super) fn ranges(damaged: &[Range<Offset>]) -> String {
    /// So many are named.
    const NAMED: usize = 4;
    let mut named: Vec<String> =
        damaged.iter().take(NAMED).map(|range| format!("{} to {} (exclusive)", range.start, range.end)).collect();
    if let Some(more) = damaged.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!(
            "{} more, the last of which ends at {}",
            counted(more, "range"),
            damaged[damaged.len() - 1].end
        ));
    }
    format!("offsets {} are damaged", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_unread_is_tried_ever_more_rarely() {
        let pauses = [0, 1, 2, 6, 7, 60].map(|attempts| pause(attempts).as_millis());
        assert_eq!(pauses, [250, 500, 1_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn damage_is_named_and_a_lot_of_it_counted() {
        let range = |from: u64| Offset(from)..Offset(from + 2);
        assert_eq!(ranges(&[range(3)]), "offsets 3 to 5 (exclusive) are damaged");
        let many: Vec<_> = (0..6).map(|n| range(n * 10)).collect();
        assert!(
            ranges(&many).ends_with("30 to 32 (exclusive), 2 ranges more, the last of which ends at 52 are damaged")
        );
    }
}
