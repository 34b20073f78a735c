//! A partition folder full of arbitrary bytes: opening it never panics and never takes bytes for a failing disk; opening it again finds
//! the same; what is appended then is there the next time.

use std::fs;
use std::path::Path;

use tidelog_log::{
    FlusherHandle, Group, Identity, Log, LogOptions, OpenError, OsDisk, ReadError, ReadOutcome, SegmentOptions, Unheard,
};
use tidelog_protocol::records::{BatchBuilder, Batches, Compression, NO_HEADERS, RawBatch};
use tidelog_protocol::{IncarnationId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

use super::mend;

/// In the kind byte of a section: checksums are put right first.
pub const MEND: u8 = 0x40;
/// In the kind byte of a section: preallocated zeros follow.
pub const ZEROS: u8 = 0x20;
/// In the kind byte of a section: its first two bytes (little-endian) are a position in the file as it is; the rest replaces what is
/// there, or cuts the file where there is no rest.
pub const PATCH: u8 = 0x10;
/// In the kind byte of a section: not a file. A broker opens the folder, appends a batch for each byte of the section, and closes the
/// log or, if the lowest bit is set, dies.
pub const LIFE: u8 = 0x80;
/// In the kind byte of a life: the first half of what is there then is deleted.
pub const DELETES: u8 = 0x02;
/// Which file a section is, in the lowest three bits of its kind byte.
pub const FILES: [&str; 8] =
    ["log", "log", "log-start", "checkpoint", "leader-epochs", "index", "timeindex", "identity"];

/// Sections back to back, each a kind byte, a length (u16, little-endian) and bytes. Segments follow one another: the
/// next is named by the offset at which the one before ends.
pub fn check(input: &[u8]) {
    let folder = folder();
    let partition = folder.path().join("t-3");
    let trust = lay_out(&partition, input);

    if trust == Trust::Lying {
        // Refused or not: what could such a folder be read as?
        let _ = Log::open(options(&partition));
        return;
    }
    let Some((first, _)) = open(&partition) else { return };
    let before = logs(&partition);
    let (second, log) = open(&partition).expect("what opened once opens again");
    assert_eq!(first, second, "opening twice finds two things");
    if trust == Trust::Honest {
        assert_eq!(before, logs(&partition), "opening twice leaves other bytes than opening once");
    }

    // Offsets end somewhere; nobody appends near there.
    if log.end().0 < 1 << 62 {
        append(log, &partition);
    }
}

/// Whether what the checkpoint and the epochs say was true once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    Honest,
    /// They are damaged, too. The first opening mends them, so the second knows more about where the segments end.
    Damaged,
    /// Their checksums are right though no log wrote them, or batches lie where they know others: no disk does that, so
    /// only a panic of opening counts.
    Lying,
}

/// In memory where that can be, for speed.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder can be made")
}

fn lay_out(partition: &Path, mut input: &[u8]) -> Trust {
    fs::create_dir(partition).expect("the folder is new");
    // A folder with segments and no identity is refused; that is one input, not all.
    fs::write(partition.join("identity"), identity_file()).expect("the folder takes files");
    let mut trust = Trust::Honest;
    let mut base = 0;
    let mut lived = false;
    while let [kind, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, after) = rest.split_at(length);
        input = after;
        if kind & LIFE != 0 {
            live(*kind, bytes, partition);
            lived = true;
            continue;
        }
        let name = match FILES[usize::from(kind & 7)] {
            "log" if kind & PATCH != 0 => format!("{:020}.log", 0),
            "log" => format!("{base:020}.log"),
            "index" => format!("{:020}.index", 0),
            "timeindex" => format!("{:020}.timeindex", 0),
            small => small.to_owned(),
        };
        let path = partition.join(&name);
        let mut content = if kind & PATCH != 0 { patched(&path, bytes) } else { bytes.to_vec() };
        if name.ends_with(".log") {
            let mut whole = content.clone();
            let (_, next) = mend::batches(&mut whole);
            if kind & MEND != 0 {
                content = whole;
            }
            if lived && (kind & PATCH == 0 || kind & MEND != 0) {
                trust = Trust::Lying;
            }
            if kind & PATCH == 0 {
                base = next.filter(|next| *next > base).unwrap_or(base + 1);
            }
        } else if kind & MEND != 0
            && let Some(magic) = magic(&name)
        {
            trust = Trust::Lying;
            mend::small_file(magic, &mut content);
        } else if lived && trust == Trust::Honest {
            trust = Trust::Damaged;
        }
        if kind & ZEROS != 0 {
            content.resize(content.len() + 4096, 0);
        }
        fs::write(path, content).expect("the folder takes files");
    }
    trust
}

fn magic(name: &str) -> Option<[u8; 4]> {
    match name {
        "checkpoint" => Some(*b"TLcp"),
        "log-start" => Some(*b"TLls"),
        "leader-epochs" => Some(*b"TLep"),
        _ => None,
    }
}

fn patched(path: &Path, patch: &[u8]) -> Vec<u8> {
    let mut content = fs::read(path).unwrap_or_default();
    let [low, high, bytes @ ..] = patch else { return content };
    let at = usize::from(u16::from_le_bytes([*low, *high])).min(content.len());
    if bytes.is_empty() {
        content.truncate(at);
    } else {
        let end = (at + bytes.len()).max(content.len());
        content.resize(end, 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }
    content
}

/// A broker uses the folder for a while.
fn live(kind: u8, appends: &[u8], partition: &Path) {
    let Ok((mut log, _)) = Log::open(options(partition)) else { return };
    for byte in appends.iter().take(32) {
        if log.end().0 < 1 << 62 {
            append_one(&mut log, *byte);
        }
    }
    if kind & DELETES != 0 {
        let (start, end) = (log.reader().log_start().0, log.end().0);
        log.retention().delete_records(Offset(start + (end - start) / 2)).expect("the disk is well");
    }
    if kind & 1 == 0 {
        log.close().expect("the disk is well");
    }
}

/// The identity that every log here is opened under.
fn identity() -> Identity {
    Identity { topic: TopicId([7; 16]), partition: PartitionId(3), incarnation: IncarnationId([9; 16]) }
}

fn identity_file() -> Vec<u8> {
    let mut bytes = [&[0; 14][..], &[7; 16], &3u32.to_be_bytes(), &[9; 16]].concat();
    mend::small_file(*b"TLid", &mut bytes);
    bytes
}

/// What a log holds, as its readers see it: damage counts the same whether opening found it or reading did.
#[derive(PartialEq, Debug)]
pub struct Contents {
    start: Offset,
    end: Offset,
    /// Base offset and bytes of each batch; damaged ranges without bytes.
    batches: Vec<(Offset, Vec<u8>)>,
}

/// Opens a log of small segments in `partition`, and reads all of it.
pub fn open(partition: &Path) -> Option<(Contents, Log)> {
    let (log, _) = match Log::open(options(partition)) {
        Ok(opened) => opened,
        Err(OpenError::Storage(error)) => panic!("bytes in files were taken for a failing disk: {error}"),
        Err(_) => return None,
    };
    let contents = read(&log);
    Some((contents, log))
}

fn options(partition: &Path) -> LogOptions {
    LogOptions {
        dir: partition.to_owned(),
        disk: OsDisk::shared(),
        identity: identity(),
        segment: SegmentOptions { segment_bytes: 16 << 10, index_interval_bytes: 256, first_allocation_bytes: 512 },
        flusher: FlusherHandle::detached(),
        listener: std::sync::Arc::new(Unheard),
    }
}

fn read(log: &Log) -> Contents {
    let reader = log.reader();
    let (start, end) = (reader.log_start(), reader.written_end());
    assert!(start <= end, "the log starts at {start} and ends at {end}");
    let mut batches = Vec::new();
    let mut at = start;
    while at < end {
        match reader.read_blocking(at, Offset::MAX, 4096) {
            Ok(ReadOutcome::Batches(found)) => {
                assert!(found.next > at && found.next <= end, "read at {at} goes on at {}, end {end}", found.next);
                for batch in Batches::compacted(&found.bytes) {
                    let batch = batch.expect("a reader gives whole batches");
                    assert_eq!(batch.verify_crc(), Ok(()), "damage was served");
                    batches.push((batch.header().base_offset, batch.bytes().to_vec()));
                }
                at = found.next;
            }
            Ok(other) => panic!("at {at} of {end}: {other:?}"),
            Err(ReadError::Corrupt { from, to }) => {
                assert!(from <= at && at < to, "asked for {at}, told of {from} to {to}");
                batches.push((from, Vec::new()));
                at = to;
            }
            Err(error) => panic!("at {at} of {start} to {end}: {error}"),
        }
    }
    Contents { start, end, batches }
}

/// Name and batches of every segment that has any; preallocated zeros may come and go.
fn logs(partition: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(partition).expect("the folder is there").map(|entry| entry.expect("it can be listed"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("names are text"));
    let mut logs: Vec<_> = names.filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    let content = |name: &String| {
        let mut bytes = fs::read(partition.join(name)).expect("it can be read");
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        bytes
    };
    logs.into_iter().map(|name| (name.clone(), content(&name))).filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// Appends a batch whose value is `byte`, repeated; says what it is and where it went.
fn append_one(log: &mut Log, byte: u8) -> (Offset, Offset, Vec<u8>) {
    let mut builder = BatchBuilder::new(4096);
    let value = vec![byte; 1 + usize::from(byte) * 4];
    builder.append(Timestamp(i64::from(byte)), Some(b"key"), Some(&value), NO_HEADERS).expect("it fits");
    let batch = builder.finish(Compression::None).expect("it has a record");
    let header = *RawBatch::parse(&batch).expect("just built").header();
    let epoch = log.reader().latest_epoch().unwrap_or(LeaderEpoch(0));
    let done = log.append(&[Group::new(&batch, &[header])], epoch).expect("an opened log takes batches");
    (done.base_offset, done.next_offset, batch.to_vec())
}

fn append(mut log: Log, partition: &Path) {
    let (base, next, batch) = append_one(&mut log, 5);
    log.flush().expect("the disk is well");
    drop(log);

    let (contents, _log) = open(partition).expect("what was open opens again");
    let last = contents.batches.last().expect("a batch was appended");
    assert_eq!((last.0, contents.end), (base, next));
    assert_eq!(last.1[16..], batch[16..], "the appended batch came back different");
}
