//! `tidelog topics`: create, list, describe, alter, delete, add partitions.

use clap::Subcommand;
use serde_json::{Value, json};
use tidelog_client::{Admin, ClientError, NewTopic};
use tidelog_protocol::messages::{LogHealth, TopicDescription};
use tidelog_protocol::{ErrorCode, TopicName};

use super::Context;
use crate::byte_size::{display_byte_size, display_count};
use crate::connect::failure;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns, OutputFormat, print_json, print_text};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create a topic.
    #[command(after_help = "\
Examples:
  tidelog topics create logs --partitions 3
  tidelog topics create events --durability written --config retention.ms=86400000
  tidelog topics create logs --if-not-exists")]
    Create {
        /// Its name: letters, digits, '.', '_' and '-', 249 bytes at most.
        name: TopicName,
        /// How many partitions; the broker's default if absent.
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        partitions: Option<u32>,
        /// How many replicas of each partition; the broker's default if absent.
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        replication_factor: Option<u16>,
        /// What an acknowledged record has survived: 'flushed' (it is on disk; the default) or 'written' (it is in the
        /// page cache, and a power loss may take it).
        #[arg(long, value_enum)]
        durability: Option<Durability>,
        /// A configuration value; may be given several times. 'topics describe' lists the keys.
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_config)]
        config: Vec<(String, String)>,
        /// Succeed where the topic exists already, whatever its configuration.
        #[arg(long)]
        if_not_exists: bool,
        /// Only check, create nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List topics.
    List {
        /// Include the broker's own topics.
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions and configuration of topics.
    Describe {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<TopicName>,
        /// Show every configuration key with its description, not only what differs from the defaults.
        #[arg(long)]
        all: bool,
    },
    /// Change the configuration of a topic, all of it or nothing.
    #[command(after_help = "\
Examples:
  tidelog topics alter logs --set retention.ms=86400000
  tidelog topics alter logs --reset retention.ms --set durability=written")]
    Alter {
        /// Its name.
        name: TopicName,
        /// A value to set; may be given several times.
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_config, required_unless_present = "reset")]
        set: Vec<(String, String)>,
        /// A key to put back to its default; may be given several times.
        #[arg(short, long, value_name = "KEY")]
        reset: Vec<String>,
    },
    /// Delete topics and their data.
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<TopicName>,
        /// Succeed where a topic does not exist.
        #[arg(long)]
        if_exists: bool,
    },
    /// Add partitions to a topic. Keys may then go to other partitions than before.
    #[command(after_help = "Example:\n  tidelog topics add-partitions logs --total 6")]
    AddPartitions {
        /// Its name.
        name: TopicName,
        /// How many partitions it shall have in all.
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        total: u32,
    },
}

/// What an acknowledged record has survived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Durability {
    /// It is on disk.
    Flushed,
    /// It is in the page cache.
    Written,
}

impl Durability {
    /// Its name as a configuration value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flushed => "flushed",
            Self::Written => "written",
        }
    }
}

/// Reads `key=value`.
pub(super) fn parse_config(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("'{text}' is no KEY=VALUE")),
    }
}

pub(super) async fn run(command: TopicsCommand, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client("tidelog").await?;
    let admin = client.admin();
    match command {
        TopicsCommand::Create { name, partitions, replication_factor, durability, config, if_not_exists, dry_run } => {
            let mut topic = NewTopic::named(name.as_str());
            topic = partitions.into_iter().fold(topic, NewTopic::partitions);
            topic = replication_factor.into_iter().fold(topic, NewTopic::replication_factor);
            topic =
                durability.into_iter().fold(topic, |topic, durability| topic.config("durability", durability.name()));
            topic = config.into_iter().fold(topic, |topic, (key, value)| topic.config(key, value));
            if dry_run {
                topic = topic.validate_only();
            }
            let existing = if if_not_exists { Existing::Accepted } else { Existing::Refused };
            create(&admin, &name, &topic, existing, context).await?;
        }
        TopicsCommand::List { internal } => list(&admin, internal, context).await?,
        TopicsCommand::Describe { names, all } => describe(&admin, &names, all, context).await?,
        TopicsCommand::Alter { name, set, reset } => alter(&admin, &name, &set, &reset, context).await?,
        TopicsCommand::Delete { names, if_exists } => delete(&admin, &names, if_exists, context).await?,
        TopicsCommand::AddPartitions { name, total } => {
            let total = admin.create_partitions(name.as_str(), total).await.map_err(failure)?;
            let text = format!("topic '{name}' has {total} partitions now\n");
            print(context, &text, || json!({"topic": name.as_str(), "partitions": total}))?;
        }
    }
    Ok(Exit::Done)
}

/// Whether a topic that is there already is as good as a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Accepted,
    Refused,
}

async fn create(
    admin: &Admin,
    name: &TopicName,
    topic: &NewTopic,
    existing: Existing,
    context: &Context,
) -> Result<(), Failure> {
    match admin.create_topic(topic).await {
        Ok(created) => {
            let plural = if created.partitions == 1 { "" } else { "s" };
            let text = format!("created topic '{name}' with {} partition{plural}\n", created.partitions);
            print(
                context,
                &text,
                || json!({"topic": name.as_str(), "id": created.topic_id.to_string(), "partitions": created.partitions, "created": true}),
            )
        }
        Err(error) if existing == Existing::Accepted && error.code() == Some(ErrorCode::TopicExists) => {
            let text = format!("topic '{name}' exists already\n");
            print(context, &text, || json!({"topic": name.as_str(), "created": false}))
        }
        Err(error) => Err(failure(error)),
    }
}

async fn list(admin: &Admin, internal: bool, context: &Context) -> Result<(), Failure> {
    let mut topics = admin.describe_all_topics().await.map_err(failure)?;
    topics.retain(|topic| internal || !topic.internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut columns = Columns::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("RECORDS", Align::Right),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
    ]);
    for topic in &topics {
        columns.row([
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            display_count(records(topic)),
            display_byte_size(topic.partitions.iter().map(|partition| partition.size_bytes).sum()),
            health(worst_health(topic)).into(),
        ]);
    }
    if topics.is_empty() {
        context.verbosity.say("there are no topics; create one with 'tidelog topics create NAME'");
    }
    let text = if topics.is_empty() { String::new() } else { columns.to_string() };
    print(context, &text, || topics.iter().map(summary_json).collect())
}

async fn describe(admin: &Admin, names: &[TopicName], all: bool, context: &Context) -> Result<(), Failure> {
    let names: Vec<_> = names.iter().map(TopicName::as_str).collect();
    let topics = admin.describe_topics(&names).await.map_err(failure)?;
    let text: Vec<_> = topics.iter().map(|topic| description(topic, all)).collect();
    print(context, &text.join("\n"), || topics.iter().map(description_json).collect())
}

async fn alter(
    admin: &Admin,
    name: &TopicName,
    set: &[(String, String)],
    reset: &[String],
    context: &Context,
) -> Result<(), Failure> {
    let set: Vec<_> = set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let reset: Vec<_> = reset.iter().map(String::as_str).collect();
    let configs = admin.alter_topic(name.as_str(), &set, &reset).await.map_err(failure)?;
    let mut text = match configs.len() {
        0 => format!("topic '{name}' has the default configuration now\n"),
        _ => format!("topic '{name}' differs from the defaults in:\n"),
    };
    for config in &configs {
        text.push_str(&format!("  {}={}\n", config.key, config.value));
    }
    print(context, &text, || {
        let configs: serde_json::Map<_, _> =
            configs.iter().map(|config| (config.key.clone(), json!(config.value))).collect();
        json!({"topic": name.as_str(), "configs": configs})
    })
}

async fn delete(admin: &Admin, names: &[TopicName], if_exists: bool, context: &Context) -> Result<(), Failure> {
    let mut text = String::new();
    let mut outcome = Vec::new();
    for name in names {
        let deleted = match admin.delete_topic(name.as_str()).await {
            Ok(_) => true,
            Err(ClientError::UnknownTopic { .. }) if if_exists => false,
            Err(error) => {
                // What was done before stands, so it must be said before the error.
                print(context, &text, || Value::Array(std::mem::take(&mut outcome)))?;
                return Err(failure(error));
            }
        };
        let what = if deleted { "deleted topic" } else { "there was no topic" };
        text.push_str(&format!("{what} '{name}'\n"));
        outcome.push(json!({"topic": name.as_str(), "deleted": deleted}));
    }
    print(context, &text, || Value::Array(outcome))
}

/// Prints the text or the JSON document, as was asked for.
pub(super) fn print(context: &Context, text: &str, document: impl FnOnce() -> Value) -> Result<(), Failure> {
    match context.output {
        OutputFormat::Table => print_text(text),
        OutputFormat::Json => print_json(&document()),
    }
    .map_err(|error| Failure::stdout(&error))
}

fn records(topic: &TopicDescription) -> u64 {
    topic.partitions.iter().map(|partition| partition.high_watermark.since(partition.log_start)).sum()
}

fn worst_health(topic: &TopicDescription) -> LogHealth {
    topic
        .partitions
        .iter()
        .map(|partition| partition.health)
        .max_by_key(|health| *health as u8)
        .unwrap_or(LogHealth::Healthy)
}

const fn health(health: LogHealth) -> &'static str {
    match health {
        LogHealth::Healthy => "healthy",
        LogHealth::Full => "disk full",
        LogHealth::Corrupt => "damaged",
        LogHealth::Poisoned => "out of service",
        LogHealth::Offline => "offline",
    }
}

fn summary_json(topic: &TopicDescription) -> Value {
    json!({
        "topic": topic.name.as_str(),
        "id": topic.topic_id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "records": records(topic),
        "size_bytes": topic.partitions.iter().map(|partition| partition.size_bytes).sum::<u64>(),
        "state": health(worst_health(topic)),
    })
}

fn description_json(topic: &TopicDescription) -> Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition.0,
                "leader": partition.leader.map(|leader| leader.0),
                "leader_epoch": partition.leader_epoch.0,
                "log_start": partition.log_start.0,
                "high_watermark": partition.high_watermark.0,
                "log_end": partition.log_end.0,
                "flushed_end": partition.flushed_end.0,
                "size_bytes": partition.size_bytes,
                "segments": partition.segments,
                "state": health(partition.health),
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

fn description(topic: &TopicDescription, all: bool) -> String {
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
        partitions.row([
            partition.partition.to_string(),
            partition.leader.map_or("-".into(), |leader| leader.to_string()),
            partition.log_start.to_string(),
            partition.high_watermark.to_string(),
            partition.flushed_end.to_string(),
            display_byte_size(partition.size_bytes),
            partition.segments.to_string(),
            health(partition.health).into(),
        ]);
    }
    let mut text = format!("Topic {} (id {})\n\n{partitions}", topic.name, topic.topic_id);
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
    use tidelog_protocol::messages::{ConfigValue, PartitionDescription};
    use tidelog_protocol::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicId};

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
        let text = description(&topic(), false);
        assert!(text.contains("retention.ms") && !text.contains("segment.bytes"), "{text}");
        assert!(text.contains("damaged") && text.contains("2.0 KiB"), "{text}");
        assert!(description(&topic(), true).contains("7 (default)"));
    }

    #[test]
    fn a_topic_is_as_well_as_its_worst_partition() {
        let document = summary_json(&topic());
        assert_eq!(document["state"], "damaged");
        assert_eq!(document["records"], 200);
        assert_eq!(document["size_bytes"], 4096);
    }

    #[test]
    fn json_descriptions_carry_offsets_as_numbers() {
        let document = description_json(&topic());
        assert_eq!(document["partitions"][1]["high_watermark"], 110);
        assert_eq!(document["configs"][1]["default"], true);
    }

    #[test]
    fn a_config_needs_a_key_and_an_equals_sign() {
        assert_eq!(parse_config("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_config("a="), Ok(("a".into(), String::new())));
        assert!(parse_config("a").is_err());
        assert!(parse_config("=b").is_err());
    }
}
