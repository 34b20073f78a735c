//! `tidelog topics`: create, list, describe, alter, delete, add partitions.

use clap::Subcommand;
use serde_json::{Value, json};
use tidelog_client::{Admin, ClientError, DescribedTopics, NewTopic};
use tidelog_protocol::{ErrorCode, TopicName};

use super::leading::Leading;
use super::topic_view::{description, description_json, records, size_bytes, summary_json, worst_state};
use super::{Context, figures};
use crate::byte_size::{counted, display_byte_size, display_count};
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
        /// Its name: letters, digits, '.', '_' and '-', 249 bytes at most, not beginning with '__'.
        #[arg(value_parser = parse_new_name)]
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
        #[arg(short, long, visible_alias = "set", visible_short_alias = 's')]
        #[arg(value_name = "KEY=VALUE", value_parser = parse_config)]
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
  tidelog topics alter logs --config retention.ms=86400000
  tidelog topics alter logs --reset retention.ms --config durability=written")]
    Alter {
        /// Its name.
        name: TopicName,
        /// A value to set; may be given several times.
        #[arg(short, long, visible_alias = "set", visible_short_alias = 's')]
        #[arg(value_name = "KEY=VALUE", value_parser = parse_config, required_unless_present = "reset")]
        config: Vec<(String, String)>,
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

/// Reads the name of a topic that may be created.
fn parse_new_name(text: &str) -> Result<TopicName, String> {
    let name: TopicName = text.parse().map_err(|invalid: tidelog_protocol::InvalidTopicName| invalid.to_string())?;
    if text.starts_with("__") { Err("names that begin with '__' belong to the broker".into()) } else { Ok(name) }
}

/// Reads `key=value`.
pub(super) fn parse_config(text: &str) -> Result<(String, String), String> {
    parse_pair(text, "KEY=VALUE")
}

/// Reads two words with `=` between them, which are called so.
pub(super) fn parse_pair(text: &str, form: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("'{text}' is no {form}")),
    }
}

pub(super) async fn run(command: TopicsCommand, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client_in_time("tidelog").await?;
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
        TopicsCommand::List { internal } => return list(&admin, internal, context).await,
        TopicsCommand::Describe { names, all } => return describe(&admin, &names, all, context).await,
        TopicsCommand::Alter { name, config, reset } => alter(&admin, &name, &config, &reset, context).await?,
        TopicsCommand::Delete { names, if_exists } => delete(&admin, &names, if_exists, context).await?,
        TopicsCommand::AddPartitions { name, total } => {
            let total = admin.create_partitions(name.as_str(), total).await.map_err(failure)?;
            let text = format!("topic '{name}' has {} now\n", counted(total, "partition"));
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
            let text = format!("created topic '{name}' with {}\n", counted(created.partitions, "partition"));
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

async fn list(admin: &Admin, internal: bool, context: &Context) -> Result<Exit, Failure> {
    let DescribedTopics { mut topics, silent } = admin.describe_all_topics_as_answered().await.map_err(failure)?;
    let leading = leading(admin).await?.but_for(silent.keys().copied());
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
            records(topic, &leading).shown(display_count),
            size_bytes(topic, &leading).shown(display_byte_size),
            worst_state(topic, &leading).into(),
        ]);
    }
    if topics.is_empty() {
        context.verbosity.say("there are no topics; create one with 'tidelog topics create NAME'");
    }
    let text = if topics.is_empty() { String::new() } else { columns.to_string() };
    print(context, &text, || topics.iter().map(|topic| summary_json(topic, &leading)).collect())?;
    Ok(figures::told(topics.iter().flat_map(|topic| &topic.partitions), &leading, &silent))
}

async fn describe(admin: &Admin, names: &[TopicName], all: bool, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<_> = names.iter().map(TopicName::as_str).collect();
    let DescribedTopics { topics, silent } = admin.describe_topics_as_answered(&names).await.map_err(failure)?;
    let leading = leading(admin).await?.but_for(silent.keys().copied());
    let text: Vec<_> = topics.iter().map(|topic| description(topic, &leading, all)).collect();
    print(context, &text.join("\n"), || topics.iter().map(|topic| description_json(topic, &leading)).collect())?;
    Ok(figures::told(topics.iter().flat_map(|topic| &topic.partitions), &leading, &silent))
}

async fn leading(admin: &Admin) -> Result<Leading, Failure> {
    let cluster = admin.describe_cluster().await.map_err(failure)?;
    Ok(Leading::ask(admin, &cluster).await)
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
                if !outcome.is_empty() {
                    print(context, &text, || Value::Array(std::mem::take(&mut outcome)))?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_needs_a_key_and_an_equals_sign() {
        assert_eq!(parse_config("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_config("a="), Ok(("a".into(), String::new())));
        assert!(parse_config("a").is_err());
        assert!(parse_config("=b").is_err());
    }
}
