//! A record that failed for good, as it stands in its dead-letter topic: key, value and headers as they were, and behind them headers that
//! say where it comes from and why. Knows nothing of who writes or reads it.

use std::str::FromStr;

use tidelog_protocol::{Offset, PartitionId, Timestamp};

use crate::{ConsumerRecord, Record};

/// All headers that are ours begin with this.
const OURS: &str = "tidelog.dead-letter.";
const CAUSE: &str = "tidelog.dead-letter.cause";
const ATTEMPTS: &str = "tidelog.dead-letter.attempts";
const GROUP: &str = "tidelog.dead-letter.group";
const TOPIC: &str = "tidelog.dead-letter.topic";
const PARTITION: &str = "tidelog.dead-letter.partition";
const OFFSET: &str = "tidelog.dead-letter.offset";
const TIMESTAMP: &str = "tidelog.dead-letter.timestamp";
/// Of a record that is no dead letter, but says that the one at this offset of the partition was sent back.
const SENT_BACK: &str = "tidelog.dead-letter.sent-back";

/// What is kept of a cause: an error that quotes the whole record must not make its dead letter too large to be written.
const CAUSE_BYTES_MAX: usize = 4 << 10;

/// Where a dead letter comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// The record's own time.
    pub timestamp: Timestamp,
}

/// A dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The record as it stands in the dead-letter topic.
    pub record: ConsumerRecord,
    /// Where it comes from.
    pub origin: Origin,
    /// The group that failed.
    pub group: String,
    /// What the last try said.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// It was sent back to where it comes from already.
    pub redriven: bool,
}

/// Why a record failed for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failing<'a> {
    pub(super) group: &'a str,
    pub(super) cause: &'a str,
    pub(super) attempts: u32,
}

/// The dead letter of a record. What it says of an earlier failure is replaced.
pub(super) fn dead_letter(topic: &str, record: &ConsumerRecord, failing: &Failing<'_>) -> Record {
    let mut letter = copy(topic, record);
    let headers = [
        (CAUSE, shortened(failing.cause).to_owned()),
        (ATTEMPTS, failing.attempts.to_string()),
        (GROUP, failing.group.to_owned()),
        (TOPIC, record.topic().to_owned()),
        (PARTITION, record.partition().to_string()),
        (OFFSET, record.offset.to_string()),
        (TIMESTAMP, record.timestamp.to_string()),
    ];
    letter.headers.extend(headers.map(|(name, value)| (name.to_owned(), Some(value.into()))));
    letter
}

/// The record that a dead letter was, for where it comes from.
pub(super) fn revived(letter: &DeadLetter) -> Record {
    let record = copy(&letter.origin.topic, &letter.record).partition(letter.origin.partition);
    // Its own time: what reads by time finds it where it found the first one.
    if letter.origin.timestamp == Timestamp::NONE { record } else { record.timestamp(letter.origin.timestamp) }
}

/// What is written beside a dead letter, in its partition, as it is sent back: in one transaction with the record itself, so that neither is
/// there without the other.
pub(super) fn note(letter: &DeadLetter) -> Record {
    let offset = letter.record.offset.to_string();
    // Each under a key of its own: where the topic is compacted, all of them stay.
    let key = format!("{SENT_BACK}/{offset}");
    let note = Record::to(letter.record.topic()).partition(letter.record.partition()).key(key).value(offset.clone());
    note.header(SENT_BACK, offset)
}

/// The offset of the dead letter that was sent back, where the record says that.
pub(super) fn noted(record: &ConsumerRecord) -> Option<Offset> {
    let said = record.headers().find(|header| header.name() == SENT_BACK)?.value?;
    std::str::from_utf8(said).ok()?.parse().ok().map(Offset)
}

/// What a record of a dead-letter topic says of itself; `None` where it is no dead letter.
pub(super) fn read(record: ConsumerRecord) -> Option<DeadLetter> {
    let text = |name: &str| {
        let found = record.headers().filter(|header| header.name() == name).last()?;
        Some(String::from_utf8_lossy(found.value?).into_owned())
    };
    fn number<T: FromStr>(text: Option<String>) -> Option<T> {
        text?.parse().ok()
    }
    let origin = Origin {
        topic: text(TOPIC)?,
        partition: PartitionId(number(text(PARTITION))?),
        offset: Offset(number(text(OFFSET))?),
        timestamp: number(text(TIMESTAMP)).map_or(Timestamp::NONE, Timestamp),
    };
    let (group, cause) = (text(GROUP).unwrap_or_default(), text(CAUSE).unwrap_or_default());
    let attempts = number(text(ATTEMPTS)).unwrap_or_default();
    Some(DeadLetter { origin, group, cause, attempts, redriven: false, record })
}

/// Key, value and headers, without ours.
fn copy(topic: &str, record: &ConsumerRecord) -> Record {
    let mut copy = Record::to(topic);
    (copy.key, copy.value) = (record.key.clone(), record.value.clone());
    let theirs = record.headers().filter(|header| !header.name().starts_with(OURS));
    let owned = theirs.map(|header| (header.name().into_owned(), header.value.map(bytes::Bytes::copy_from_slice)));
    copy.headers = owned.collect();
    copy
}

fn shortened(cause: &str) -> &str {
    let mut end = cause.len().min(CAUSE_BYTES_MAX);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    &cause[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidelog_protocol::records::{BatchBuilder, Compression, OwnedBatch};
    use tidelog_protocol::{TopicId, TopicName};

    fn received(record: &Record, partition: u32) -> ConsumerRecord {
        let mut batch = BatchBuilder::new(1 << 20);
        let refs = record.header_refs();
        batch
            .append(
                record.timestamp.unwrap_or(Timestamp(1)),
                record.key.as_deref(),
                record.value.as_deref(),
                refs.iter().copied(),
            )
            .unwrap();
        let mut bytes = batch.finish(Compression::None).unwrap();
        let batch = OwnedBatch::split_from(&mut bytes).unwrap();
        let source =
            crate::TopicPartition { topic: TopicName::new(&record.topic).unwrap(), partition: PartitionId(partition) };
        ConsumerRecord::new(
            Arc::new(source),
            TopicId([7; 16]),
            batch.records(1 << 20).unwrap().next().unwrap().unwrap(),
        )
    }

    #[test]
    fn a_dead_letter_says_where_it_comes_from_and_becomes_what_it_was() {
        let mut sent = Record::to("orders").key("k").value("v").header("origin", "web").timestamp(Timestamp(77));
        sent.headers.push(("empty".into(), None));
        let failed = received(&sent, 3);
        let failing = Failing { group: "billing", cause: "no such customer", attempts: 5 };
        let letter = dead_letter("orders.dead-letters", &failed, &failing);
        let letter = read(received(&letter, 3)).unwrap();
        let origin =
            Origin { topic: "orders".into(), partition: PartitionId(3), offset: Offset(0), timestamp: Timestamp(77) };
        assert_eq!((&letter.origin, letter.attempts, letter.redriven), (&origin, 5, false));
        assert_eq!((letter.group.as_str(), letter.cause.as_str()), ("billing", "no such customer"));
        assert_eq!(revived(&letter), sent.partition(PartitionId(3)));
    }

    #[test]
    fn a_note_names_the_letter_that_was_sent_back_and_is_none_itself() {
        let failing = Failing { group: "g", cause: "c", attempts: 1 };
        let letter = read(received(&dead_letter("d", &received(&Record::to("t").value("v"), 2), &failing), 2)).unwrap();
        assert_eq!(noted(&letter.record), None);
        let note = note(&letter);
        assert_eq!((note.topic.as_ref(), note.partition), (letter.record.topic(), Some(PartitionId(2))));
        let note = received(&note, 2);
        assert_eq!((noted(&note), read(note)), (Some(Offset(0)), None));
    }

    #[test]
    fn a_letter_that_fails_again_says_so_once() {
        let failing = |attempts| Failing { group: "g", cause: "c", attempts };
        let first = dead_letter("d", &received(&Record::to("t").value("v"), 0), &failing(1));
        let again = dead_letter("d", &received(&first, 0), &failing(2));
        assert_eq!(first.headers.len(), again.headers.len());
        assert_eq!(read(received(&again, 0)).unwrap().attempts, 2);
    }

    #[test]
    fn a_long_cause_is_cut_between_characters_and_a_stranger_is_no_dead_letter() {
        let cause = "ä".repeat(CAUSE_BYTES_MAX);
        assert_eq!(shortened(&cause).len(), CAUSE_BYTES_MAX);
        assert_eq!(shortened(&format!("x{cause}")).len(), CAUSE_BYTES_MAX - 1);
        assert_eq!(read(received(&Record::to("t").value("v"), 0)), None);
    }
}
