//! One record, borrowed from the (uncompressed) bytes of its batch. Knows its own fields and nothing of the batch's header.

use std::borrow::Cow;

use super::RecordFault;
use super::varint::{take_i32, take_i64, take_short};
use crate::{Offset, Timestamp};

/// One record of a batch, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// The producer's time, or the broker's where the batch says so.
    pub timestamp: Timestamp,
    /// Its key; `None` is not the same as an empty one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone to compaction.
    pub value: Option<&'a [u8]>,
    /// Its headers, in the order they were given; names may repeat.
    pub headers: Headers<'a>,
}

/// A header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Its name: UTF-8 by agreement, which nobody enforces.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Its name as text, with replacement characters where it is not UTF-8.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// The headers of a record: an iterator that decodes one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: u32,
}

impl<'a> Headers<'a> {
    /// True where there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The header bytes and their count, all walked before.
    pub(super) const fn from_walked(bytes: &'a [u8], count: u32) -> Self {
        Self { rest: bytes, count }
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// The headers that `bytes` are, to their end.
    #[inline(never)]
    fn walk(bytes: &'a [u8], count: u32) -> Result<Self, RecordFault> {
        let mut rest = bytes;
        for _ in 0..count {
            take_header(&mut rest)?;
        }
        if rest.is_empty() { Ok(Self { rest: bytes, count }) } else { Err(RecordFault::Slack) }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        // Walked at construction, so this is never an error.
        take_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    match take_field(rest, RecordFault::HeaderKeyLength)? {
        Some(key) => Ok(Header { key, value: take_field(rest, RecordFault::HeaderValueLength)? }),
        None => Err(RecordFault::HeaderKeyLength),
    }
}

/// What stands in a record: offset and time are still relative to the batch.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Takes one record off the front of `rest`: every length checked, headers walked, no byte left over.
#[inline(always)]
pub(super) fn take_record<'a>(rest: &mut &'a [u8]) -> Result<Body<'a>, RecordFault> {
    let (body, after) = match usual_record(rest) {
        Some(found) => found,
        None => any_record(rest)?,
    };
    *rest = after;
    Ok(body)
}

/// The record at the front of `bytes` if it is a usual one: short numbers, no headers, nothing wrong. Twice as fast as
/// [`any_record`]: whatever is unusual leaves by one door, so all numbers stay in registers.
#[inline(always)]
fn usual_record(mut bytes: &[u8]) -> Option<(Body<'_>, &[u8])> {
    let length = take_short(&mut bytes)?;
    let (body, after) = bytes.split_at_checked(positive(length)?)?;
    let (_, mut fields) = body.split_first()?;
    let timestamp_delta = take_short(&mut fields)?;
    let timestamp_delta = (timestamp_delta >> 1) as i32 ^ -((timestamp_delta & 1) as i32);
    let offset_delta = positive(take_short(&mut fields)?)?;
    let key = take_short_field(&mut fields)?;
    let value = take_short_field(&mut fields)?;
    if *fields != [0] {
        return None;
    }
    let headers = Headers::default();
    Some((
        Body { timestamp_delta: timestamp_delta.into(), offset_delta: offset_delta as i32, key, value, headers },
        after,
    ))
}

#[inline(always)]
fn take_short_field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_short(rest)?;
    // −1 after zigzag: null.
    if length == 1 {
        return Some(None);
    }
    let (field, after) = rest.split_at_checked(positive(length)?)?;
    *rest = after;
    Some(Some(field))
}

/// The number whose zigzag form is `raw`, unless negative.
#[inline(always)]
const fn positive(raw: u32) -> Option<usize> {
    if raw & 1 == 0 { Some(raw as usize >> 1) } else { None }
}

/// The record at the front of `bytes`, whatever it is, and what follows it.
#[inline(never)]
fn any_record(mut bytes: &[u8]) -> Result<(Body<'_>, &[u8]), RecordFault> {
    if bytes.is_empty() {
        return Err(RecordFault::Absent);
    }
    let length = take_i32(&mut bytes)?;
    let Some((body, after)) = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length)) else {
        return Err(if length < 0 { RecordFault::Length } else { RecordFault::Overrun });
    };
    // The attributes byte of a record has no assigned bit.
    let Some((_, mut fields)) = body.split_first() else { return Err(RecordFault::EndsInField) };
    let timestamp_delta = take_i64(&mut fields)?;
    let offset_delta = take_i32(&mut fields)?;
    let key = take_field(&mut fields, RecordFault::KeyLength)?;
    let value = take_field(&mut fields, RecordFault::ValueLength)?;
    let count = take_i32(&mut fields)?;
    let headers = Headers::walk(fields, u32::try_from(count).map_err(|_| RecordFault::HeaderCount)?)?;
    Ok((Body { timestamp_delta, offset_delta, key, value, headers }, after))
}

/// A length and that many bytes; −1 is null.
#[inline(always)]
fn take_field<'a>(rest: &mut &'a [u8], fault: RecordFault) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = take_i32(rest)?;
    match usize::try_from(length) {
        Ok(length) => match rest.split_at_checked(length) {
            Some((field, after)) => {
                *rest = after;
                Ok(Some(field))
            }
            None => Err(fault),
        },
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small numbers and every length of longer ones, so that random bytes are often a record.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![8 => 0u8..16, 1 => 0x80u8..0x84, 1 => any::<u8>()]
    }

    proptest! {
        #[test]
        fn the_short_way_never_says_anything_else_than_the_long_one(
            mut bytes in prop::collection::vec(byte(), 0..24), honest_length: bool,
        ) {
            if honest_length && !bytes.is_empty() {
                bytes[0] = (bytes.len() as u8 - 1) << 1;
                *bytes.last_mut().expect("not empty") = 0;
            }
            if let Some((usual, usual_rest)) = usual_record(&bytes) {
                let any = any_record(&bytes);
                prop_assert!(any.is_ok());
                if let Ok((any, any_rest)) = any {
                    prop_assert_eq!((usual.timestamp_delta, usual.offset_delta), (any.timestamp_delta, any.offset_delta));
                    prop_assert_eq!((usual.key, usual.value), (any.key, any.value));
                    prop_assert_eq!(usual.headers, any.headers);
                    prop_assert_eq!(usual_rest, any_rest);
                }
            }
        }
    }

    #[test]
    fn a_usual_record_takes_the_short_way() {
        let record = [16, 0, 3, 4, 2, b'k', 2, b'v', 0, b'#'];
        let (body, rest) = usual_record(&record).expect("short numbers and no headers");
        assert_eq!((body.timestamp_delta, body.offset_delta), (-2, 2));
        assert_eq!((body.key, body.value, rest), (Some(&b"k"[..]), Some(&b"v"[..]), &b"#"[..]));
        let keyless = [12, 0, 0, 0, 1, 1, 0];
        assert!(usual_record(&keyless).is_some_and(|(body, _)| body.key.is_none() && body.value.is_none()));
    }
}
