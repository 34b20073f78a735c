//! One record, borrowed from the (uncompressed) bytes of its batch. Knows its own fields and nothing of the batch's header.

use std::borrow::Cow;

use super::RecordFault;
use super::varint::{take_i32, take_i64};
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
    #[inline]
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
    if rest.is_empty() {
        return Err(RecordFault::Absent);
    }
    let length = take_i32(rest)?;
    let Some((body, after)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) else {
        return Err(if length < 0 { RecordFault::Length } else { RecordFault::Overrun });
    };
    *rest = after;
    // The attributes byte of a record has no assigned bit.
    let Some((_, mut fields)) = body.split_first() else { return Err(RecordFault::EndsInField) };
    let timestamp_delta = take_i64(&mut fields)?;
    let offset_delta = take_i32(&mut fields)?;
    let key = take_field(&mut fields, RecordFault::KeyLength)?;
    let value = take_field(&mut fields, RecordFault::ValueLength)?;
    let headers = match *fields {
        [0] => Headers::default(),
        _ => {
            let count = take_i32(&mut fields)?;
            Headers::walk(fields, u32::try_from(count).map_err(|_| RecordFault::HeaderCount)?)?
        }
    };
    Ok(Body { timestamp_delta, offset_delta, key, value, headers })
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
