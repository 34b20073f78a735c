//! What is shown of the entries of a log file: as lines under a heading, as JSON. Knows nothing of how they were read.

use serde_json::{Value, json};
use tidelog_log::checkpoint::{Checkpoint, Shutdown};
use tidelog_log::{BatchEntry, CrcCheck, DumpEntry, FieldValue};
use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::SequenceSpan;
use tidelog_protocol::records::{BatchHeader, Record};

use crate::byte_size::display_count;
use crate::record_format::PrintedRecord;
use crate::start_position::display_time;

/// A record whose topic and partition the file does not tell.
pub(super) fn printed<'a>(record: &Record<'a>) -> PrintedRecord<'a> {
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

/// A record as a line.
pub(super) fn record_text(record: &Record<'_>) -> String {
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
const PRODUCERS: &str = "   PRODUCER  EPOCH  LAST SEQUENCE    LAST BATCH AT  MAX TIMESTAMP";

/// The heading of a kind of entry, and the entry.
pub(super) fn entry_text(entry: &DumpEntry) -> (&'static str, String) {
    match entry {
        DumpEntry::Batch(batch) => (BATCHES, batch_text(batch)),
        DumpEntry::Damage { position, bytes } => {
            ("", format!("{position:>11}  DAMAGED: {} bytes are no batch", display_count(*bytes)))
        }
        DumpEntry::Misfit { position, bytes, reason } => {
            ("", format!("DAMAGED: {} bytes at position {position}: {reason}", display_count(*bytes)))
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
        DumpEntry::Producer(producer) => {
            let (id, epoch) = (producer.producer_id.0, producer.epoch.0);
            let last = producer.batches.last().map_or_else(String::new, |batch| {
                let time = display_time(batch.timestamp);
                format!("  {:>13}  {:>15}  {time}", batch.last.0, batch.base_offset.0)
            });
            (PRODUCERS, format!("{id:>11}  {epoch:>5}{last}"))
        }
        DumpEntry::Compaction { seen_to, cleaned_to, dropped_below } => (
            "",
            format!(
                "looked at up to         {seen_to}\nclean up to             {cleaned_to}\ndeletions forgotten to  {dropped_below}"
            ),
        ),
        DumpEntry::Note { fields, .. } => {
            let lines =
                fields.iter().map(|(name, value)| format!("{:<15} {}", name.replace('_', " "), field_text(value)));
            ("", lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

fn field_text(value: &FieldValue) -> String {
    match value {
        FieldValue::Number(number) => number.to_string(),
        FieldValue::Id(id) => id.clone(),
        FieldValue::Flag(flag) => if *flag { "yes" } else { "no" }.into(),
    }
}

fn field_json(value: &FieldValue) -> Value {
    match value {
        FieldValue::Number(number) => json!(number),
        FieldValue::Id(id) => json!(id),
        FieldValue::Flag(flag) => json!(flag),
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
    let shutdown = match (checkpoint.shutdown, checkpoint.reserved_bytes) {
        (Shutdown::Clean, _) => "clean: the log was closed right after".to_owned(),
        (Shutdown::Running, 0) => "none seen: the writer went on".to_owned(),
        (Shutdown::Running, least) => {
            format!("none seen: the writer went on, in a last segment of {least} bytes at least")
        }
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

/// An entry as JSON; its `kind` says which.
pub(super) fn entry_json(entry: &DumpEntry) -> Value {
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
        DumpEntry::Misfit { position, bytes, reason } => {
            json!({"kind": "damage", "position": position, "bytes": bytes, "reason": reason})
        }
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
        DumpEntry::Producer(producer) => {
            let batch = |batch: &SequenceSpan| {
                json!({
                    "first_sequence": batch.first.0,
                    "last_sequence": batch.last.0,
                    "base_offset": batch.base_offset.0,
                    "max_timestamp_ms": batch.timestamp.0,
                })
            };
            json!({
                "kind": "producer",
                "producer_id": producer.producer_id.0,
                "producer_epoch": producer.epoch.0,
                "batches": producer.batches.iter().map(batch).collect::<Vec<_>>(),
            })
        }
        DumpEntry::Compaction { seen_to, cleaned_to, dropped_below } => json!({
            "kind": "compaction",
            "seen_to": seen_to.0,
            "cleaned_to": cleaned_to.0,
            "dropped_below": dropped_below.0,
        }),
        DumpEntry::Note { file, fields } => {
            let mut object = json!({"kind": file});
            for (name, value) in fields {
                object[*name] = field_json(value);
            }
            object
        }
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
        "last_segment_least_bytes": (checkpoint.reserved_bytes > 0).then_some(checkpoint.reserved_bytes),
        "segments": segments.collect::<Vec<_>>(),
        "holes": holes.collect::<Vec<_>>(),
    })
}
