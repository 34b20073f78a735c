//! What is shown of a topic: as a table row, as a page, as JSON. Knows nothing of how it was asked for.

use serde_json::{Value, json};
use tidelog_protocol::messages::{CompactionStage, CompactionState, LogHealth, PartitionDescription, TopicDescription};

use super::figures::{self, Sum};
use super::leading::{Leading, Led};
use crate::byte_size::display_byte_size;
use crate::output::{Align, Columns};
use crate::start_position::display_time;

/// Records that can be read, all partitions together.
pub(super) fn records(topic: &TopicDescription, leading: &Leading) -> Sum {
    Sum::of(&topic.partitions, leading, |partition| partition.high_watermark.since(partition.log_start))
}

/// Bytes of log, all partitions together.
pub(super) fn size_bytes(topic: &TopicDescription, leading: &Leading) -> Sum {
    Sum::of(&topic.partitions, leading, |partition| partition.size_bytes)
}

/// How its worst partition is.
fn worst_health(topic: &TopicDescription) -> LogHealth {
    topic
        .partitions
        .iter()
        .map(|partition| partition.health)
        .max_by_key(|health| *health as u8)
        .unwrap_or(LogHealth::Healthy)
}

/// The same in words.
const fn health(health: LogHealth) -> &'static str {
    match health {
        LogHealth::Healthy => "healthy",
        LogHealth::Full => "disk full",
        LogHealth::Corrupt => "damaged",
        LogHealth::Poisoned => "out of service",
        LogHealth::Offline => "offline",
    }
}

/// What compaction does with a log now.
pub(super) fn compaction_stage(compaction: &CompactionState) -> String {
    let CompactionState { segment, segments, failures, retry_in_ms, .. } = compaction;
    match compaction.stage {
        CompactionStage::Idle => "nothing".into(),
        CompactionStage::Learning => format!("learns keys, segment {segment} of {segments}"),
        CompactionStage::Rewriting => format!("rewrites, segment {segment} of {segments}"),
        CompactionStage::Waiting => {
            format!("failed {failures} in a row, tried again in {} s", retry_in_ms.div_ceil(1_000))
        }
    }
}

fn compaction_json(compaction: &CompactionState) -> Value {
    let stage = match compaction.stage {
        CompactionStage::Idle => "idle",
        CompactionStage::Learning => "learning",
        CompactionStage::Rewriting => "rewriting",
        CompactionStage::Waiting => "waiting",
    };
    json!({
        "dirty_bytes": compaction.dirty_bytes,
        "clean_bytes": compaction.clean_bytes,
        "dirty_ratio": compaction.dirty_ratio(),
        "last_pass_ms": compaction.cleaned_at.map(|at| at.0),
        "stage": stage,
        "segment": compaction.segment,
        "segments": compaction.segments,
        "failures": compaction.failures,
        "last_error": compaction.last_error,
        "retry_in_ms": compaction.retry_in_ms,
    })
}

/// How far compaction is, of a topic that has it.
fn compactions(topic: &TopicDescription) -> Option<Columns> {
    let mut columns = Columns::new(&[
        ("PARTITION", Align::Right),
        ("DIRTY", Align::Right),
        ("OF IT", Align::Right),
        ("LAST COMPACTED", Align::Left),
        ("COMPACTION", Align::Left),
    ]);
    let mut is_compacted = false;
    for partition in &topic.partitions {
        let Some(compaction) = &partition.compaction else { continue };
        is_compacted = true;
        let error = compaction.last_error.as_ref();
        columns.row([
            partition.partition.to_string(),
            display_byte_size(compaction.dirty_bytes),
            format!("{:.0} %", compaction.dirty_ratio() * 100.0),
            compaction.cleaned_at.map_or("never".into(), display_time),
            error.map_or_else(
                || compaction_stage(compaction),
                |error| format!("{}: {error}", compaction_stage(compaction)),
            ),
        ]);
    }
    is_compacted.then_some(columns)
}

/// How a partition is, whoever leads it and whatever is in it.
fn state(partition: &PartitionDescription, leading: &Leading) -> &'static str {
    leading.of(partition.leader).words().unwrap_or_else(|| health(partition.health))
}

/// How its worst partition is: one that nobody leads who is there, one whose leader has no lease, one that ails.
pub(super) fn worst_state(topic: &TopicDescription, leading: &Leading) -> &'static str {
    let worst = topic.partitions.iter().map(|partition| leading.of(partition.leader)).max();
    worst.and_then(Led::words).unwrap_or_else(|| health(worst_health(topic)))
}

/// What `topics list` says of a topic.
pub(super) fn summary_json(topic: &TopicDescription, leading: &Leading) -> Value {
    let (records, bytes) = (records(topic, leading), size_bytes(topic, leading));
    json!({
        "topic": topic.name.as_str(),
        "id": topic.topic_id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "records": records.all(),
        "records_at_least": records.at_least(),
        "size_bytes": bytes.all(),
        "size_bytes_at_least": bytes.at_least(),
        "state": worst_state(topic, leading),
    })
}

/// What `topics describe` says of a topic.
pub(super) fn description_json(topic: &TopicDescription, leading: &Leading) -> Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            let told = |figure: u64| figures::is_told(partition, leading).then_some(figure);
            json!({
                "partition": partition.partition.0,
                "leader": partition.leader.map(|leader| leader.0),
                "leader_epoch": partition.leader_epoch.0,
                "log_start": told(partition.log_start.0),
                "high_watermark": told(partition.high_watermark.0),
                "log_end": told(partition.log_end.0),
                "flushed_end": told(partition.flushed_end.0),
                "size_bytes": told(partition.size_bytes),
                "segments": told(partition.segments.into()),
                "state": state(partition, leading),
                "compaction": partition.compaction.as_ref().map(compaction_json),
            })
        })
        .collect();
    let configs: Vec<_> = topic
        .configs
        .iter()
        .map(
            |config| json!({"key": config.key, "value": config.value, "default": config.is_default, "doc": config.doc}),
        )
        .collect();
    json!({
        "topic": topic.name.as_str(),
        "id": topic.topic_id.to_string(),
        "internal": topic.internal,
        "partitions": partitions,
        "configs": configs,
    })
}

/// The same for people; `all`: the configuration values that are defaults, too.
pub(super) fn description(topic: &TopicDescription, leading: &Leading, all: bool) -> String {
    let mut partitions = Columns::new(&[
        ("PARTITION", Align::Right),
        ("LEADER", Align::Right),
        ("LOG START", Align::Right),
        ("HIGH WATERMARK", Align::Right),
        ("FLUSHED END", Align::Right),
        ("SIZE", Align::Right),
        ("SEGMENTS", Align::Right),
        ("STATE", Align::Left),
    ]);
    for partition in &topic.partitions {
        let told = |shown: String| figures::of_one(partition, leading, shown);
        partitions.row([
            partition.partition.to_string(),
            partition.leader.map_or("-".into(), |leader| leader.to_string()),
            told(partition.log_start.to_string()),
            told(partition.high_watermark.to_string()),
            told(partition.flushed_end.to_string()),
            told(display_byte_size(partition.size_bytes)),
            told(partition.segments.to_string()),
            state(partition, leading).into(),
        ]);
    }
    let mut text = format!("Topic {} (id {})\n\n{partitions}", topic.name, topic.topic_id);
    if let Some(compactions) = compactions(topic) {
        text.push_str(&format!("\n{compactions}"));
    }
    let mut configs = Columns::new(&[("CONFIG", Align::Left), ("VALUE", Align::Left), ("WHAT IT DOES", Align::Left)]);
    let mut shown = 0;
    for config in topic.configs.iter().filter(|config| all || !config.is_default) {
        let value = if config.is_default { format!("{} (default)", config.value) } else { config.value.clone() };
        configs.row([config.key.clone(), value, config.doc.clone()]);
        shown += 1;
    }
    if shown > 0 {
        text.push_str(&format!("\n{configs}"));
    } else if !all {
        text.push_str("\nAll configuration values are the defaults (see them with --all).\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_protocol::messages::ConfigValue;
    use tidelog_protocol::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicId, TopicName};

    fn topic() -> TopicDescription {
        let partition = |index, health| PartitionDescription {
            partition: PartitionId(index),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            log_start: Offset(10),
            high_watermark: Offset(110),
            log_end: Offset(120),
            flushed_end: Offset(110),
            size_bytes: 2048,
            segments: 1,
            health,
            compaction: None,
        };
        let config = |key: &str, is_default| ConfigValue {
            key: key.into(),
            value: "7".into(),
            is_default,
            doc: "Something.".into(),
        };
        TopicDescription {
            topic_id: TopicId([1; 16]),
            name: TopicName::new("logs").unwrap(),
            internal: false,
            configs: vec![config("retention.ms", false), config("segment.bytes", true)],
            partitions: vec![partition(0, LogHealth::Healthy), partition(1, LogHealth::Corrupt)],
        }
    }

    #[test]
    fn a_description_shows_partitions_and_what_differs() {
        let leading = Leading::default();
        let text = description(&topic(), &leading, false);
        assert!(text.contains("retention.ms") && !text.contains("segment.bytes"), "{text}");
        assert!(text.contains("damaged") && text.contains("2.0 KiB"), "{text}");
        assert!(description(&topic(), &leading, true).contains("7 (default)"));
    }

    #[test]
    fn how_compaction_is_stands_in_words_and_numbers_where_there_is_any() {
        let mut topic = topic();
        let leading = Leading::default();
        assert!(!description(&topic, &leading, false).contains("COMPACTION"));
        let state = |stage, last_error: Option<&str>| CompactionState {
            dirty_bytes: 1024,
            clean_bytes: 3072,
            cleaned_at: None,
            stage,
            segment: 2,
            segments: 7,
            failures: 3,
            last_error: last_error.map(Into::into),
            retry_in_ms: 3_500,
        };
        topic.partitions[0].compaction = Some(state(CompactionStage::Rewriting, None));
        topic.partitions[1].compaction = Some(state(CompactionStage::Waiting, Some("the disk gave up")));
        let text = description(&topic, &leading, false);
        assert!(text.contains("25 %") && text.contains("rewrites, segment 2 of 7") && text.contains("never"), "{text}");
        assert!(text.contains("failed 3 in a row, tried again in 4 s: the disk gave up"), "{text}");
        let document = description_json(&topic, &leading);
        assert_eq!(document["partitions"][0]["compaction"]["dirty_ratio"], 0.25);
        assert_eq!(document["partitions"][1]["compaction"]["last_error"], "the disk gave up");
    }

    #[test]
    fn a_topic_is_as_well_as_its_worst_partition() {
        let document = summary_json(&topic(), &Leading::default());
        assert_eq!(document["state"], "damaged");
        let mut headless = topic();
        headless.partitions[0].leader = None;
        assert_eq!(worst_state(&headless, &Leading::default()), "offline");
        assert_eq!(document["records"], 200);
        assert_eq!(document["size_bytes"], 4096);
        let document = summary_json(&headless, &Leading::default());
        assert_eq!((&document["records"], &document["records_at_least"]), (&Value::Null, &json!(100)));
        let text = description(&headless, &Leading::default(), false);
        assert!(text.contains('?'), "{text}");
        assert_eq!(description_json(&headless, &Leading::default())["partitions"][0]["high_watermark"], Value::Null);
    }

    #[test]
    fn json_descriptions_carry_offsets_as_numbers() {
        let document = description_json(&topic(), &Leading::default());
        assert_eq!(document["partitions"][1]["high_watermark"], 110);
        assert_eq!(document["configs"][1]["default"], true);
    }
}
