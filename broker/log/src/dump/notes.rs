//! Small files that hold a few numbers each, of a partition, of the data folder and of the metadata log: which names they have and what their
//! numbers mean. Knows nothing of what they are for; those that write them say so.

use std::path::Path;

use tidelog_protocol::messages::{RaftBallot, RaftPosition};
use tidelog_protocol::{ClusterId, IncarnationId, Message, ProtocolVersion, TopicId};

use super::{DumpEntry, DumpError, misfit, read, small_with_version};
use crate::small_file::{Fields, Kind};

/// A name, and what one number or id under it is.
pub type Field = (&'static str, FieldValue);

/// What stands in a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldValue {
    /// A number.
    Number(u64),
    /// An id, as it is written for people.
    Id(String),
    /// Yes or no.
    Flag(bool),
}

type Read = fn(&[u8]) -> Option<Vec<Vec<Field>>>;

/// Name, kind and content of each file. Some have their kind where they are written, in the broker; a test dumps every file of a data folder.
const FILES: [(&str, Kind, Read); 11] = [
    ("format", crate::data_dir::KIND, |body| {
        let mut fields = Fields(body);
        let (cluster, incarnation) = (ClusterId(fields.take()?), IncarnationId(fields.take()?));
        whole(&fields, vec![id("cluster", cluster), id("incarnation", incarnation)])
    }),
    (crate::noted_start::FILE_NAME, crate::noted_start::KIND, |body| number(body, "log_start")),
    ("written-since", crate::written_since::KIND, |body| number(body, "offset")),
    ("metadata-seen", kind(*b"TLms"), |body| number(body, "metadata_index")),
    ("closed-cleanly", kind(*b"TLCE"), |body| number(body, "broker_epoch")),
    ("folder-stamps", kind(*b"TLFS"), |body| {
        let (stamps, rest) = body.as_chunks();
        let entry = |bytes: &[u8; 8]| vec![("stamp", FieldValue::Number(u64::from_be_bytes(*bytes)))];
        rest.is_empty().then(|| stamps.iter().map(entry).collect())
    }),
    ("broker-id", kind(*b"TLID"), |body| {
        let mut fields = Fields(body);
        let broker = fields.u32()?;
        whole(&fields, vec![("broker_id", FieldValue::Number(broker.into()))])
    }),
    ("high-watermarks", Kind { magic: *b"TLHW", version: 2 }, |body| {
        let mut fields = Fields(body);
        let mut entries = Vec::new();
        while !fields.0.is_empty() {
            let (topic, partition, offset) = (TopicId(fields.take()?), fields.u32()?, fields.u64()?);
            let [partition, offset] = [u64::from(partition), offset].map(FieldValue::Number);
            entries.push(vec![id("topic_id", topic), ("partition", partition), ("offset", offset)]);
        }
        Some(entries)
    }),
    ("vote", kind(*b"TLqv"), |body| {
        let RaftBallot { term, member, elected } = RaftBallot::from_body(body, MARKS).ok()?;
        let mut fields = vec![("term", FieldValue::Number(term)), ("elected", FieldValue::Flag(elected))];
        if let Some(member) = member {
            fields.push(("broker_id", FieldValue::Number(member.broker_id.0.into())));
            fields.push(id("incarnation", member.incarnation));
        }
        Some(vec![fields])
    }),
    ("purged", kind(*b"TLqp"), |body| {
        let RaftPosition { term, index } = RaftPosition::from_body(body, MARKS).ok()?;
        Some(vec![vec![("term", FieldValue::Number(term)), ("index", FieldValue::Number(index))]])
    }),
    // Its records are those of the metadata log; here it is only checked to be whole.
    ("snapshot", kind(*b"TLqs"), |body| Some(vec![vec![("body_bytes", FieldValue::Number(body.len() as u64))]])),
];
/// Overwritten in place: term, index, and the checksum of both.
const SETTLED: &str = "settled";
/// The version of the messages that the marks of the metadata log hold.
const MARKS: ProtocolVersion = ProtocolVersion(1);

/// The entries of one of these files; `None` where the name is none of theirs.
pub(super) fn entries(name: &str, path: &Path) -> Result<Option<Vec<DumpEntry>>, DumpError> {
    let (file, notes) = if name == SETTLED {
        (SETTLED, settled(&read(path)?))
    } else {
        let Some((file, kind, decode)) = FILES.iter().find(|(file, ..)| *file == name) else { return Ok(None) };
        (*file, decode(&small_with_version(path, *kind)?.1))
    };
    let notes = notes.ok_or_else(|| misfit(path))?;
    Ok(Some(notes.into_iter().map(|fields| DumpEntry::Note { file, fields }).collect()))
}

/// The names of these files.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, ..)| *name).chain([SETTLED])
}

const fn kind(magic: [u8; 4]) -> Kind {
    Kind { magic, version: 1 }
}

fn id(name: &'static str, id: impl ToString) -> Field {
    (name, FieldValue::Id(id.to_string()))
}

fn number(body: &[u8], name: &'static str) -> Option<Vec<Vec<Field>>> {
    let mut fields = Fields(body);
    let number = fields.u64()?;
    whole(&fields, vec![(name, FieldValue::Number(number))])
}

fn whole(rest: &Fields<'_>, fields: Vec<Field>) -> Option<Vec<Vec<Field>>> {
    rest.0.is_empty().then(|| vec![fields])
}

fn settled(bytes: &[u8]) -> Option<Vec<Vec<Field>>> {
    let (content, stored) = bytes.split_last_chunk::<4>()?;
    let mut fields = Fields(content);
    let [term, index] = [fields.u64()?, fields.u64()?].map(FieldValue::Number);
    let is_whole = fields.0.is_empty() && crc32c::crc32c(content) == u32::from_be_bytes(*stored);
    is_whole.then(|| vec![vec![("term", term), ("index", index)]])
}
