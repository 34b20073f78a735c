//! `tidelog log dump`: what stands in one file of a log, without a broker. The log crate reads and judges the file; here it is
//! only printed, entry by entry, however large the file is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_log::checkpoint::{Checkpoint, Shutdown};
use tidelog_log::{BatchEntry, CrcCheck, Dump, DumpEntry, DumpError};
use tidelog_protocol::PartitionId;
use tidelog_protocol::records::{BatchHeader, RawBatch, Record, Scratch};

use super::Context;
use crate::byte_size::display_count;
use crate::exit::{Exit, Failure};
use crate::output::OutputFormat;
use crate::record_format::{PrintedRecord, record_json};
use crate::start_position::display_time;

/// What to do with the files of a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what stands in a segment, index, checkpoint, leader epoch or identity file. Changes nothing.
    #[command(after_help = "\
With --output json each line is one JSON object. Damage is printed where it is found and ends the command with exit code 6;
behind the last batch of a segment that was being written it may be a torn tail, which recovery cuts.

Examples:
  tidelog log dump tidelog-data/logs-0/00000000000000000000.log
  tidelog log dump tidelog-data/logs-0/00000000000000000000.log --records --output json
  tidelog log dump tidelog-data/logs-0/checkpoint")]
    Dump(DumpArgs),
}

/// Arguments of `log dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The file: <offset>.log, <offset>.index, <offset>.timeindex, checkpoint, leader-epochs or identity.
    file: PathBuf,
    /// Print the records of each batch too.
    #[arg(short, long)]
    records: bool,
}

pub(super) fn run(command: LogCommand, context: &Context) -> Result<Exit, Failure> {
    let LogCommand::Dump(args) = command;
    dump(&args, context.output, io::stdout().lock())
}

fn dump(args: &DumpArgs, output: OutputFormat, out: impl Write) -> Result<Exit, Failure> {
    // Opened here too: for the records, and because its absence deserves a plain answer.
    let file = File::open(&args.file).map_err(|error| Failure::file(args.file.display(), &error))?;
    let dump = Dump::open(&args.file).map_err(dump_failure)?;
    let records = args.records.then(|| RecordReader { file, bytes: Vec::new(), scratch: Scratch::new() });
    let mut printer = Printer {
        out: BufWriter::with_capacity(64 << 10, out),
        output,
        records,
        heading: "",
        damaged: 0,
    };
    for entry in dump {
        let printed = entry.map_err(dump_failure).and_then(|entry| printer.print(&entry));
        match printed {
            Ok(Printed::Line) => {}
            Ok(Printed::NobodyReads) => return Ok(Exit::Done),
            Err(refused) => {
                // What was found before stands above the error.
                let _ = printer.out.flush();
                return Err(refused);
            }
        }
    }
    crate::output::quiet_on_closed_pipe(printer.out.flush()).map_err(|error| Failure::stdout(&error))?;
    match printer.damaged {
        0 => Ok(Exit::Done),
        damaged => {
            let places = if damaged == 1 { "place" } else { "places" };
            Err(Failure::new(
                Exit::Damaged,
                format!("{}: damaged in {damaged} {places}, see above", args.file.display()),
            ))
        }
    }
}

fn dump_failure(error: DumpError) -> Failure {
    let exit = match error {
        DumpError::UnknownKind { .. } => Exit::Usage,
        DumpError::Damaged { .. } => Exit::Damaged,
        DumpError::Storage(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// How a line was received.
enum Printed {
    Line,
    NobodyReads,
}

struct Printer<W: Write> {
    out: BufWriter<W>,
    output: OutputFormat,
    records: Option<RecordReader>,
    /// The heading that stands above the entries printed last.
    heading: &'static str,
    damaged: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, entry: &DumpEntry) -> Result<Printed, Failure> {
        if is_damage(entry) {
            self.damaged += 1;
        }
        let written = match self.output {
            OutputFormat::Json => self.json(entry),
            OutputFormat::Table => self.text(entry),
        };
        match written {
            Ok(()) => Ok(Printed::Line),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
            Err(error) => Err(Failure::stdout(&error)),
        }
    }

    fn json(&mut self, entry: &DumpEntry) -> io::Result<()> {
        let mut object = entry_json(entry);
        if let (DumpEntry::Batch(batch), Some(reader)) = (entry, &mut self.records) {
            let mut records = Vec::new();
            let read = reader.each(batch, |record| {
                records.push(record_json(&printed(record)));
                Ok(())
            })?;
            object["records"] = Value::Array(records);
            if let Err(reason) = read {
                object["records_error"] = json!(reason);
                self.damaged += u64::from(batch.crc == CrcCheck::Valid);
            }
        }
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }

    fn text(&mut self, entry: &DumpEntry) -> io::Result<()> {
        let (heading, line) = entry_text(entry);
        if heading != self.heading && !heading.is_empty() {
            writeln!(self.out, "{heading}")?;
            self.heading = heading;
        }
        writeln!(self.out, "{line}")?;
        if let (DumpEntry::Batch(batch), Some(reader)) = (entry, &mut self.records) {
            let out = &mut self.out;
            let read = reader.each(batch, |record| writeln!(out, "{}", record_text(record)))?;
            if let Err(reason) = read {
                writeln!(self.out, "    the records cannot be read: {reason}")?;
                self.damaged += u64::from(batch.crc == CrcCheck::Valid);
            }
        }
        Ok(())
    }
}

const fn is_damage(entry: &DumpEntry) -> bool {
    match entry {
        DumpEntry::Damage { .. } => true,
        DumpEntry::Batch(batch) => matches!(batch.crc, CrcCheck::Invalid),
        _ => false,
    }
}

/// Reads the records of batches that the dump has found.
struct RecordReader {
    file: File,
    bytes: Vec<u8>,
    scratch: Scratch,
}

impl RecordReader {
    /// Hands each record of a batch to `visit`; the inner result says why not all of them could be read.
    fn each(
        &mut self,
        batch: &BatchEntry,
        mut visit: impl FnMut(&Record<'_>) -> io::Result<()>,
    ) -> io::Result<Result<(), String>> {
        self.bytes.resize(batch.header.total_bytes(), 0);
        self.file.read_exact_at(&mut self.bytes, batch.position)?;
        let records = match RawBatch::parse_compacted(&self.bytes).and_then(|raw| raw.records(&mut self.scratch)) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for record in records {
            match record {
                Ok(record) => visit(&record)?,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        Ok(Ok(()))
    }
}

/// A record whose topic and partition the file does not tell.
fn printed<'a>(record: &Record<'a>) -> PrintedRecord<'a> {
    PrintedRecord {
        topic: "",
        partition: PartitionId(0),
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers.map(|header| (header.key, header.value)).collect(),
    }
}

fn record_text(record: &Record<'_>) -> String {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or("null".into(), |bytes| format!("\"{}\"", bytes.escape_ascii()));
    let headers: String =
        record.headers.map(|header| format!(" {}={}", header.key.escape_ascii(), bytes(header.value))).collect();
    let (time, key, value) = (display_time(record.timestamp), bytes(record.key), bytes(record.value));
    format!("    {:>11}  {time}  key {key}  value {value}{headers}", record.offset.0)
}

const BATCHES: &str =
    "   POSITION         FIRST          LAST   RECORDS       BYTES  CODEC   EPOCH  MAX TIMESTAMP             CRC";
const OFFSETS: &str = "       OFFSET     POSITION";
const TIMES: &str = "TIMESTAMP                        OFFSET";
const EPOCHS: &str = "  EPOCH  FIRST OFFSET";

/// The heading of a kind of entry, and the entry.
fn entry_text(entry: &DumpEntry) -> (&'static str, String) {
    match entry {
        DumpEntry::Batch(batch) => (BATCHES, batch_text(batch)),
        DumpEntry::Damage { position, bytes } => {
            ("", format!("{position:>11}  DAMAGED: {} bytes are no batch", display_count(*bytes)))
        }
        DumpEntry::Zeros { position, bytes } => {
            ("", format!("{position:>11}  {} zero bytes, reserved and not written yet", display_count(*bytes)))
        }
        DumpEntry::Offset { offset, entry } => (OFFSETS, format!("{:>13}  {:>11}", offset.0, entry.position)),
        DumpEntry::Time { offset, entry } => {
            (TIMES, format!("{:<24}  {:>13}", display_time(entry.timestamp), offset.0))
        }
        DumpEntry::Epoch(start) => (EPOCHS, format!("{:>7}  {:>12}", start.epoch.0, start.start.0)),
        DumpEntry::Identity(identity) => (
            "",
            format!(
                "topic        {}\npartition    {}\nincarnation  {}",
                identity.topic, identity.partition, identity.incarnation
            ),
        ),
        DumpEntry::Checkpoint(checkpoint) => ("", checkpoint_text(checkpoint)),
    }
}

fn batch_text(batch: &BatchEntry) -> String {
    let header = &batch.header;
    let crc = match batch.crc {
        CrcCheck::Valid => "ok",
        CrcCheck::Invalid => "WRONG: DAMAGED",
    };
    let epoch = header.leader_epoch.map_or("-".into(), |epoch| epoch.0.to_string());
    format!(
        "{:>11}  {:>12}  {:>12}  {:>8}  {:>10}  {:<6}  {epoch:>5}  {:<24}  {crc}{}",
        batch.position,
        header.base_offset.0,
        header.last_offset().0,
        header.record_count,
        header.total_bytes(),
        header.attributes.compression().name(),
        display_time(header.max_timestamp),
        flags(header).concat(),
    )
}

/// What is unusual about a batch.
fn flags(header: &BatchHeader) -> Vec<String> {
    let mut flags = Vec::new();
    if header.attributes.is_control() {
        flags.push("  control".into());
    }
    if header.attributes.is_transactional() {
        flags.push("  transactional".into());
    }
    if header.producer_id.0 >= 0 {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        flags.push(format!("  producer {id} epoch {epoch} sequence {sequence}"));
    }
    flags
}

fn checkpoint_text(checkpoint: &Checkpoint) -> String {
    let shutdown = match checkpoint.shutdown {
        Shutdown::Clean => "clean: the log was closed right after",
        Shutdown::Running => "none seen: the writer went on",
    };
    let mut text = format!(
        "log start       {}\nrecovery point  {}\nshutdown        {shutdown}\n",
        checkpoint.log_start, checkpoint.recovery_point
    );
    text.push_str("\n SEGMENT FROM            TO        BYTES  LARGEST TIMESTAMP         INDEX ENTRIES  TIME ENTRIES");
    for segment in &checkpoint.segments {
        text.push_str(&format!(
            "\n{:>13} {:>13} {:>12}  {:<24} {:>14} {:>13}",
            segment.base.0,
            segment.end.offset.0,
            segment.end.bytes,
            display_time(segment.end.largest),
            segment.marks.offsets.entries,
            segment.marks.times.entries,
        ));
    }
    for hole in &checkpoint.holes {
        text.push_str(&format!("\nlost: offsets {} up to, not including, {}", hole.from, hole.to));
    }
    text
}

fn entry_json(entry: &DumpEntry) -> Value {
    match entry {
        DumpEntry::Batch(batch) => {
            let header = &batch.header;
            json!({
                "kind": "batch",
                "position": batch.position,
                "bytes": header.total_bytes(),
                "base_offset": header.base_offset.0,
                "last_offset": header.last_offset().0,
                "record_count": header.record_count,
                "leader_epoch": header.leader_epoch.map(|epoch| epoch.0),
                "compression": header.attributes.compression().name(),
                "attributes": header.attributes.0,
                "control": header.attributes.is_control(),
                "transactional": header.attributes.is_transactional(),
                "base_timestamp_ms": header.base_timestamp.0,
                "max_timestamp_ms": header.max_timestamp.0,
                "producer_id": header.producer_id.0,
                "producer_epoch": header.producer_epoch.0,
                "base_sequence": header.base_sequence.0,
                "crc": header.crc,
                "crc_valid": batch.crc == CrcCheck::Valid,
            })
        }
        DumpEntry::Damage { position, bytes } => json!({"kind": "damage", "position": position, "bytes": bytes}),
        DumpEntry::Zeros { position, bytes } => json!({"kind": "zeros", "position": position, "bytes": bytes}),
        DumpEntry::Offset { offset, entry } => {
            json!({"kind": "offset", "offset": offset.0, "position": entry.position})
        }
        DumpEntry::Time { offset, entry } => {
            json!({"kind": "time", "timestamp_ms": entry.timestamp.0, "offset": offset.0})
        }
        DumpEntry::Epoch(start) => json!({"kind": "epoch", "epoch": start.epoch.0, "first_offset": start.start.0}),
        DumpEntry::Identity(identity) => json!({
            "kind": "identity",
            "topic_id": identity.topic.to_string(),
            "partition": identity.partition.0,
            "incarnation": identity.incarnation.to_string(),
        }),
        DumpEntry::Checkpoint(checkpoint) => checkpoint_json(checkpoint),
    }
}

fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    let segments = checkpoint.segments.iter().map(|segment| {
        json!({
            "base_offset": segment.base.0,
            "next_offset": segment.end.offset.0,
            "bytes": segment.end.bytes,
            "largest_timestamp_ms": segment.end.largest.0,
            "offset_index_entries": segment.marks.offsets.entries,
            "time_index_entries": segment.marks.times.entries,
        })
    });
    let holes = checkpoint.holes.iter().map(|hole| json!({"from": hole.from.0, "to": hole.to.0}));
    json!({
        "kind": "checkpoint",
        "log_start": checkpoint.log_start.0,
        "recovery_point": checkpoint.recovery_point.0,
        "clean_shutdown": checkpoint.shutdown == Shutdown::Clean,
        "segments": segments.collect::<Vec<_>>(),
        "holes": holes.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use std::path::Path;
    use tidelog_protocol::records::{BatchBuilder, Compression, stamp};
    use tidelog_protocol::{LeaderEpoch, Offset, Timestamp};

    /// A segment of two batches and reserved space behind them.
    fn segment(folder: &Path) -> PathBuf {
        let mut bytes = Vec::new();
        for (base, compression) in [(0, Compression::None), (2, Compression::Lz4)] {
            let mut builder = BatchBuilder::new(1 << 16);
            for value in [&b"plain"[..], b"\xff\n"] {
                let headers = [("origin", Some(&b"shell"[..]))];
                builder.append(Timestamp(1500), Some(b"k"), Some(value), headers).unwrap();
            }
            let mut batch = BytesMut::from(&builder.finish(compression).unwrap()[..]);
            stamp(&mut batch, Offset(base), LeaderEpoch(7));
            bytes.extend_from_slice(&batch);
        }
        bytes.resize(bytes.len() + 4096, 0);
        let path = folder.join("00000000000000000000.log");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn dumped(file: &Path, output: OutputFormat) -> (String, Result<Exit, Failure>) {
        let mut out = Vec::new();
        let result = dump(&DumpArgs { file: file.into(), records: true }, output, &mut out);
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn a_segment_is_shown_with_its_records() {
        let folder = tempfile::tempdir().unwrap();
        let (text, result) = dumped(&segment(folder.path()), OutputFormat::Table);
        assert_eq!(result, Ok(Exit::Done));
        for part in ["POSITION", "lz4", "key \"k\"  value \"\\xff\\n\" origin=\"shell\"", "4,096 zero bytes"] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let (heading, batch) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
        assert_eq!(heading.find("CRC"), batch.find("ok"), "{heading}\n{batch}");
    }

    #[test]
    fn json_has_one_object_per_entry() {
        let folder = tempfile::tempdir().unwrap();
        let (text, result) = dumped(&segment(folder.path()), OutputFormat::Json);
        assert_eq!(result, Ok(Exit::Done));
        let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["batch", "batch", "zeros"]);
        assert_eq!((&entries[1]["base_offset"], &entries[1]["leader_epoch"]), (&json!(2), &json!(7)));
        assert_eq!(entries[1]["records"][0]["offset"], 2);
        assert_eq!(entries[1]["records"][1]["value_base64"], "/wo=");
        assert_eq!(entries[1]["crc_valid"], true);
    }

    #[test]
    fn damage_is_shown_where_it_is_and_ends_with_its_own_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = segment(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (text, result) = dumped(&path, OutputFormat::Table);
        assert_eq!(result.unwrap_err().exit(), Exit::Damaged);
        assert!(text.contains("WRONG: DAMAGED") && text.contains("lz4"), "{text}");
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        assert_eq!(dumped(&path, OutputFormat::Table).1.unwrap_err().exit(), Exit::NotFound);
        std::fs::write(&path, "x").unwrap();
        let refused = dumped(&path, OutputFormat::Table).1.unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert!(refused.to_string().contains("leader-epochs"), "{refused}");
    }
}
