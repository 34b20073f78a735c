//! What producers did and were told: one JSON line for each send and one for each outcome. Knows nothing of clients and brokers.
//!
//! Every value is unique. A send without an outcome, or with a timeout, is *unknown*, never *failed*: it may be in the log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

/// One send, named by its place among all sends of the history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Operation(usize);

/// What a producer was told of a send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the log.
    Acked {
        /// At this offset.
        offset: u64,
        /// On the disk of so many replicas at that moment.
        replicas_flushed: u16,
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

/// One send and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Who sent it.
    pub producer: u32,
    /// Its number among the sends of that producer, from 0.
    pub sequence: u64,
    /// Where to.
    pub partition: u32,
    /// What the producer was told.
    pub outcome: Outcome,
}

impl Sent {
    /// The unique value that was sent.
    #[must_use]
    pub fn value(&self) -> String {
        value_of(self.producer, self.sequence)
    }

    /// The offset that was promised, if one was.
    #[must_use]
    pub const fn acked_at(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Acked { offset, .. } => Some(offset),
            Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
        }
    }
}

fn value_of(producer: u32, sequence: u64) -> String {
    format!("p{producer}-{sequence}")
}

/// The history of one run. Its file goes with it, unless the test fails: then it stays as evidence and its path is printed.
#[derive(Debug)]
pub struct History {
    begin: Instant,
    path: PathBuf,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: BufWriter<File>,
    sent: Vec<Sent>,
    sequences: HashMap<u32, u64>,
    cut_off: bool,
    completed: usize,
    /// When which partition acknowledged something, in the order of telling.
    acks: Vec<(Instant, u32)>,
}

impl History {
    /// An empty history in the folder for temporary files.
    ///
    /// # Panics
    /// Where the file cannot be created.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidelog-history-{name}-{}-{number}.jsonl", std::process::id()));
        let file = BufWriter::new(File::create(&path).unwrap());
        Self {
            begin: Instant::now(),
            path,
            log: Mutex::new(Log {
                file,
                sent: Vec::new(),
                sequences: HashMap::new(),
                cut_off: false,
                completed: 0,
                acks: Vec::new(),
            }),
        }
    }

    /// Where its lines are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A send begins; returns the unique value to be sent.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn invoke(&self, producer: u32, partition: u32) -> (Operation, String) {
        let mut log = self.log.lock().unwrap();
        let next = log.sequences.entry(producer).or_default();
        let sequence = *next;
        *next += 1;
        let operation = log.sent.len();
        let value = value_of(producer, sequence);
        let line = json!({
            "at_us": self.begin.elapsed().as_micros() as u64,
            "event": "invoke", "operation": operation, "producer": producer, "partition": partition, "value": value,
        });
        writeln!(log.file, "{line}").unwrap();
        let outcome = Outcome::Unknown { error: "the test ended before an answer came".into() };
        log.sent.push(Sent { producer, sequence, partition, outcome });
        (Operation(operation), value)
    }

    /// From now on (until `reconnected`) no acknowledgement counts. A real power loss stops the broker in the same instant as its disk; cut off
    /// by an ioctl, the disk stops first, and the kernel may call a flush done that was under way (the extents' conversion fails
    /// unnoticed). What is told after the cut, nobody would have heard.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    pub fn cut_off(&self) {
        self.log.lock().unwrap().cut_off = true;
    }

    /// Acknowledgements count again.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    pub fn reconnected(&self) {
        self.log.lock().unwrap().cut_off = false;
    }

    /// A send ends.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn complete(&self, operation: Operation, outcome: Outcome) {
        let mut log = self.log.lock().unwrap();
        let outcome = match outcome {
            Outcome::Acked { .. } if log.cut_off => Outcome::Unknown { error: "answered after the cut".into() },
            outcome => outcome,
        };
        let mut line = match &outcome {
            Outcome::Acked { offset, replicas_flushed } => {
                json!({"outcome": "acked", "offset": offset, "replicas_flushed": replicas_flushed})
            }
            Outcome::Refused { error } => json!({"outcome": "refused", "error": error}),
            Outcome::Unknown { error } => json!({"outcome": "unknown", "error": error}),
        };
        line["event"] = "complete".into();
        line["operation"] = operation.0.into();
        line["at_us"] = (self.begin.elapsed().as_micros() as u64).into();
        writeln!(log.file, "{line}").unwrap();
        log.completed += 1;
        if matches!(outcome, Outcome::Acked { .. }) {
            let partition = log.sent[operation.0].partition;
            log.acks.push((Instant::now(), partition));
        }
        log.sent[operation.0].outcome = outcome;
    }

    /// Sends that have no outcome yet.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.sent.len() - log.completed
    }

    /// The longest time from `from` until `to` in which a partition acknowledged nothing.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    #[must_use]
    pub fn longest_silence(&self, partition: u32, from: Instant, to: Instant) -> Duration {
        let log = self.log.lock().unwrap();
        let acks = log.acks.iter().filter(|(at, of)| *of == partition && (from..to).contains(at)).map(|(at, _)| *at);
        let mut before = from;
        let silences = acks.chain([to]).map(|at| at - std::mem::replace(&mut before, at));
        silences.max().unwrap_or_default()
    }

    /// Everything sent so far, in the order of sending.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.log.lock().unwrap().sent.clone()
    }

    /// How many sends to a partition were acknowledged so far.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    #[must_use]
    pub fn acked_in(&self, partition: u32) -> usize {
        self.log.lock().unwrap().acks.iter().filter(|(_, of)| *of == partition).count()
    }

    /// How many sends were acknowledged so far.
    ///
    /// # Panics
    /// Where a producer panicked while it wrote.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.log.lock().unwrap().sent.iter().filter(|sent| sent.acked_at().is_some()).count()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Ok(log) = self.log.get_mut() {
                // What cannot be written is missing from the evidence, no more.
                let _ = log.file.flush();
            }
            eprintln!("the history of this run: {}", self.path.display());
        } else {
            // A leftover in the folder for temporary files harms nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_without_an_answer_is_unknown() {
        let history = History::new("unknown");
        let (first, value) = history.invoke(3, 1);
        let (_, second) = history.invoke(3, 0);
        assert_eq!((value.as_str(), second.as_str()), ("p3-0", "p3-1"));
        history.complete(first, Outcome::Acked { offset: 7, replicas_flushed: 1 });
        let sent = history.sent();
        assert_eq!(sent[0].acked_at(), Some(7));
        assert!(matches!(sent[1].outcome, Outcome::Unknown { .. }));
        assert_eq!(history.acked(), 1);
    }

    #[test]
    fn an_answer_after_the_cut_counts_for_nothing() {
        let history = History::new("cut");
        let (operation, _) = history.invoke(0, 0);
        history.cut_off();
        history.complete(operation, Outcome::Acked { offset: 0, replicas_flushed: 1 });
        history.reconnected();
        assert_eq!(history.acked(), 0);
    }

    #[test]
    fn the_longest_silence_of_a_partition_is_told() {
        let history = History::new("silence");
        let from = Instant::now();
        let ack = |partition| {
            let (operation, _) = history.invoke(0, partition);
            history.complete(operation, Outcome::Acked { offset: 0, replicas_flushed: 1 });
        };
        ack(0);
        std::thread::sleep(Duration::from_millis(20));
        ack(1);
        ack(0);
        let to = Instant::now();
        let silence = history.longest_silence(0, from, to);
        assert!(silence >= Duration::from_millis(20) && silence <= to - from, "{silence:?}");
        assert_eq!(history.longest_silence(2, from, to), to - from);
        let _ = history.invoke(0, 0);
        assert_eq!(history.unanswered(), 1);
    }

    #[test]
    fn each_event_is_a_json_line() {
        let history = History::new("lines");
        let (operation, _) = history.invoke(0, 0);
        history.complete(operation, Outcome::Refused { error: "\"full\"\n".into() });
        history.log.lock().unwrap().file.flush().unwrap();
        let text = std::fs::read_to_string(history.path()).unwrap();
        let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["event"], &events[1]["outcome"]), (&json!("invoke"), &json!("refused")));
    }
}
