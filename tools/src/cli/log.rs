//! `tidelog log dump`: what stands in one file of a log, without a broker. The log crate reads and judges the file; here it is
//! only printed, entry by entry, however large the file is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_log::{BatchEntry, CrcCheck, Dump, DumpEntry, DumpError};
use tidelog_protocol::records::{RawBatch, Record, Scratch};

use super::Context;
use super::dump_view::{entry_json, entry_text, printed, record_text};
use crate::exit::{Exit, Failure};
use crate::output::OutputFormat;
use crate::record_format::record_json;

/// What to do with the files of a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what stands in one file of a data folder: segments, indexes, and the small files beside them. Changes nothing.
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
    /// The file: <offset>.log, .index, .timeindex or .producers, <offset>.<offset>.swap; checkpoint, log-start, leader-epochs, compaction,
    /// identity or written-since of a partition; vote, purged, settled or snapshot of the metadata log; format, broker-id, metadata-seen, closed-cleanly,
    /// folder-stamps or high-watermarks of the data folder.
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
    let mut printer =
        Printer { out: BufWriter::with_capacity(64 << 10, out), output, records, heading: "", damaged: 0 };
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
        DumpEntry::Damage { .. } | DumpEntry::Misfit { .. } => true,
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
        assert_eq!(
            entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect::<Vec<_>>(),
            ["batch", "batch", "zeros"]
        );
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
    fn an_index_that_breaks_its_rules_ends_with_the_code_of_damage() {
        let folder = tempfile::tempdir().unwrap();
        // One ends within an entry, the entries of the other do not grow.
        for (name, bytes) in [("00000000000000000000.index", 13), ("00000000000000000000.timeindex", 24)] {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![0xff; bytes]).unwrap();
            for output in [OutputFormat::Table, OutputFormat::Json] {
                let (text, result) = dumped(&path, output);
                assert_eq!(result.map_err(|failure| failure.exit()), Err(Exit::Damaged), "{name}: {text}");
            }
        }
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
