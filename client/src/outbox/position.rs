//! How far a shard of the relay is, as a record that is part of the transaction with the events themselves. Pure: bytes in and out.
//!
//! It names the rows of its transaction. Once a relay is killed between the commit and the settling of these rows, the next one finds them
//! here, settles them and sends none of them again. Only the last such record is ever needed, as a shard sends nothing before the rows
//! of the transaction before are settled. Places alone (all rows up to a number) would be shorter, and wrong once a database is
//! restored from a copy: then new events come under numbers that were published before.

use super::row::Mark;

/// The first byte of the record's value.
const VERSION: u8 = 1;
/// Rows of one transaction at most.
pub(crate) const ROWS_MAX: usize = 10_000;
/// The longest id of a row, in bytes.
const ID_MAX: usize = 255;
/// Bytes of one record at most, whatever its topic takes: a relay that reads it must have room for it.
const BYTES_MAX: usize = 1 << 20;
/// What stands around the value in a batch of its own, which is what a topic's limit is of: the header of the batch, the key, lengths.
const AROUND: usize = 256;
/// The least that the topic must take in one batch: a record with one row of the longest id fits.
pub(crate) const BATCH_BYTES_MIN: usize = 1_024;

/// What the last transaction of a shard published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Published {
    /// The database that the rows are of.
    pub(crate) database: String,
    /// The rows.
    pub(crate) rows: Vec<Mark>,
}

impl Published {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.database.len() + self.rows.len() * 46);
        bytes.push(VERSION);
        put_text(&mut bytes, &self.database);
        bytes.extend_from_slice(&(self.rows.len() as u32).to_be_bytes());
        for row in &self.rows {
            bytes.extend_from_slice(&row.seq.to_be_bytes());
            put_text(&mut bytes, &row.id);
        }
        bytes
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        match take(&mut rest, 1)? {
            [VERSION] => {}
            [version] => return Err(format!("is of version {version}, and this release knows {VERSION} at most")),
            _ => return Err("is empty".into()),
        }
        let database = text(&mut rest)?;
        let count = number(take(&mut rest, 4)?) as usize;
        if count > ROWS_MAX {
            return Err(format!("names {count} rows, over the limit of {ROWS_MAX}"));
        }
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let seq = number(take(&mut rest, 8)?).cast_signed();
            rows.push(Mark { seq, id: text(&mut rest)? });
        }
        if rest.is_empty() { Ok(Self { database, rows }) } else { Err(format!("has {} bytes too many", rest.len())) }
    }
}

/// How many rows of these ids, the first of them, the record of one transaction can name, where its topic takes `batch_bytes_max` bytes. At least one: the topic
/// takes [`BATCH_BYTES_MIN`].
pub(crate) fn fitting<'a>(database: &str, ids: impl IntoIterator<Item = &'a str>, batch_bytes_max: usize) -> usize {
    let room = batch_bytes_max.saturating_sub(AROUND).min(BYTES_MAX);
    // Where an id cannot be named, nothing is sent with it.
    let ends = ids.into_iter().scan(1 + 1 + database.len() + 4, |bytes, id| {
        *bytes += 8 + 1 + id.len().min(ID_MAX);
        Some(*bytes)
    });
    ends.take(ROWS_MAX).take_while(|end| *end <= room).count().max(1)
}

/// An id that the record can name.
pub(crate) fn is_nameable(id: &str) -> bool {
    id.len() <= ID_MAX
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    debug_assert!(is_nameable(text));
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (taken, left) = rest.split_at_checked(count).ok_or("ends too early")?;
    *rest = left;
    Ok(taken)
}

fn text(rest: &mut &[u8]) -> Result<String, String> {
    let length = number(take(rest, 1)?) as usize;
    let bytes = take(rest, length)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| "holds a text that is none".into())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn published(rows: Vec<(i64, String)>) -> Published {
        Published { database: "d-1".into(), rows: rows.into_iter().map(|(seq, id)| Mark { seq, id }).collect() }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(rows in prop::collection::vec((any::<i64>(), "[ -~]{0,40}"), 0..20)) {
            let published = published(rows);
            prop_assert_eq!(Published::decode(&published.encode()).unwrap(), published);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = Published::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }

    #[test]
    fn as_many_rows_go_together_as_the_record_has_room_for_and_no_more() {
        for limit in [BATCH_BYTES_MIN, 2_000, 20_000, (1 << 20) + 12, 64 << 20] {
            for length in [0, 1, 36, 200, ID_MAX] {
                let id = "i".repeat(length);
                let count = fitting("d-1", std::iter::repeat_n(&*id, 2 * ROWS_MAX), limit);
                let bytes = |count: usize| published(vec![(i64::MAX, id.clone()); count]).encode().len();
                assert!((1..=ROWS_MAX).contains(&count), "{limit} {length}: {count}");
                assert!(bytes(count) + AROUND <= limit && bytes(count) <= BYTES_MAX, "{limit} {length}: {count}");
                let one_more = bytes(count + 1);
                assert!(
                    count == ROWS_MAX || one_more + AROUND > limit || one_more > BYTES_MAX,
                    "{limit} {length}: {count}"
                );
            }
        }
        assert_eq!(fitting("d-1", ["a", "b"], 64 << 20), 2);
    }

    #[test]
    fn the_least_that_a_topic_takes_holds_one_row_whatever_it_is_called() {
        let longest = "i".repeat(ID_MAX);
        let rows = vec![Mark { seq: i64::MAX, id: longest.clone() }];
        assert!(Published { database: longest, rows }.encode().len() + AROUND <= BATCH_BYTES_MIN);
    }

    #[test]
    fn a_cut_or_a_later_version_is_refused() {
        let bytes = published(vec![(1, "one".into()), (2, "two".into())]).encode();
        for end in 0..bytes.len() {
            assert!(Published::decode(&bytes[..end]).is_err(), "{end}");
        }
        let later = [&[2][..], &bytes[1..]].concat();
        assert!(Published::decode(&later).unwrap_err().contains("version 2"));
    }

    #[test]
    fn room_is_made_only_for_what_can_be_there() {
        let mut bytes = published(Vec::new()).encode();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Published::decode(&bytes).unwrap_err().contains("over the limit"));
    }
}
