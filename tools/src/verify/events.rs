//! The history of a run: one JSON line for everything that was done, told or read, in the order in which it became known. Knows nothing of
//! what is right.
//!
//! A send without a `complete` is *unknown*, never refused: it may be in the log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A line is no longer than this: the values of one batch stand in several where they are many.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Values in one line.
pub const VALUES_MAX: usize = 1_000;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since the run began.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run begins.
    Begin {
        /// Its name, which its values begin with.
        run: String,
        /// Its topic.
        topic: String,
        /// Whether nobody else writes to the topic.
        own_topic: bool,
        /// Partitions of the topic; record `sequence` of a producer goes to partition `sequence % partitions`.
        partitions: u32,
        /// Producers, numbered from 0.
        producers: u32,
        /// Whether they were idempotent: then no record may stand twice. Histories of earlier releases do not say, and allow it.
        #[serde(default)]
        idempotent: bool,
    },
    /// A producer is about to send a record.
    Invoke {
        /// The producer.
        producer: u32,
        /// The number of the record among those of the producer, from 0.
        sequence: u64,
    },
    /// A producer is told what became of it.
    Complete {
        /// The producer.
        producer: u32,
        /// The record.
        sequence: u64,
        /// What became of it.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A consumer that reads along was handed records.
    Read {
        /// Where from.
        partition: u32,
        /// Offset of the first; the others follow without a gap.
        offset: u64,
        /// Their values.
        values: Vec<String>,
    },
    /// A consumer that read along has come to the last of what was acknowledged. Where it never does, and in histories of earlier releases, this is
    /// missing.
    ReadDone {
        /// The partition.
        partition: u32,
        /// One past the last offset that it was handed, or went past.
        end: u64,
    },
    /// A fresh consumer was handed records, at the end.
    LastRead {
        /// Where from.
        partition: u32,
        /// Offset of the first; the others follow without a gap.
        offset: u64,
        /// Their values.
        values: Vec<String>,
    },
    /// A fresh consumer found that records were deleted before it could read them: by an operator's order, or by retention.
    Deleted {
        /// The partition.
        partition: u32,
        /// Offset of the first.
        from: u64,
        /// The offset after the last.
        to: u64,
    },
    /// A fresh consumer has read a partition to its end.
    LastReadDone {
        /// The partition.
        partition: u32,
        /// Its end.
        end: u64,
    },
}

/// What a producer was told of a record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is in the log.
    Acked {
        /// At this offset.
        offset: u64,
        /// The answer to an earlier try was lost: it may stand twice.
        maybe_twice: bool,
    },
    /// It is not in the log and never will be.
    Refused {
        /// Why.
        error: String,
    },
    /// It may be in the log or not.
    Unknown {
        /// Why nobody knows.
        error: String,
    },
}

/// A history that is being written.
#[derive(Debug)]
pub struct HistoryWriter {
    begin: Instant,
    file: Mutex<BufWriter<File>>,
}

impl HistoryWriter {
    /// An empty history.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { begin: Instant::now(), file: Mutex::new(BufWriter::new(File::create(path)?)) })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Where it cannot be written: a history with gaps judges nobody.
    pub fn note(&self, event: Event) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: lines stand in the order of their times.
        let at_us = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        serde_json::to_writer(&mut *file, &Line { at_us, event })?;
        file.write_all(b"\n")
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Reads a history line by line, in bounded memory.
///
/// # Errors
/// Where the file cannot be read, or a line is none of a history; the message says which.
pub fn for_each_line(path: &Path, mut take: impl FnMut(Line)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let limited = &mut io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let line = serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {error}")))?;
        take(line);
    }
    Ok(())
}

/// The value of a record.
#[must_use]
pub fn value(run: &str, producer: u32, sequence: u64) -> String {
    format!("{run}-{producer}-{sequence}")
}

/// The record that a value belongs to; `None` where it is of no such run.
#[must_use]
pub fn record_of(run: &str, value: &str) -> Option<(u32, u64)> {
    let (producer, sequence) = value.strip_prefix(run)?.strip_prefix('-')?.split_once('-')?;
    Some((producer.parse().ok()?, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let writer = HistoryWriter::create(&path).unwrap();
        let events = [
            Event::Begin {
                run: "r".into(),
                topic: "t".into(),
                own_topic: true,
                partitions: 1,
                producers: 1,
                idempotent: true,
            },
            Event::Invoke { producer: 0, sequence: 0 },
            Event::Complete { producer: 0, sequence: 0, outcome: Outcome::Acked { offset: 7, maybe_twice: true } },
            Event::Complete { producer: 0, sequence: 1, outcome: Outcome::Unknown { error: "\"x\"\n".into() } },
            Event::LastRead { partition: 0, offset: 7, values: vec!["r-0-0".into()] },
        ];
        events.iter().for_each(|event| writer.note(event.clone()).unwrap());
        writer.flush().unwrap();
        let mut read = Vec::new();
        for_each_line(&path, |line| read.push(line.event)).unwrap();
        assert_eq!(read, events);
        std::fs::write(&path, "{\"at_us\":1,\"event\":\"invoke\"}\n").unwrap();
        assert!(for_each_line(&path, |_| {}).unwrap_err().to_string().starts_with("line 1: "));
    }

    #[test]
    fn a_value_names_its_record() {
        assert_eq!(record_of("run", &value("run", 3, 99)), Some((3, 99)));
        for other in ["run", "run-1", "other-1-2", "run-1-2-3", "run--1-2"] {
            assert_eq!(record_of("run", other), None, "{other}");
        }
    }
}
