//! `tidelog dead-letters`: records that consumers could not process; which there are and why, and sending them back.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_client::TopicName;
use tidelog_client::group::{DeadLetter, RedriveFilter};

use super::consume_group::group_failure;
use super::{Context, topics::print};
use crate::byte_size::counted;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::display_time;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters: where each comes from, which group failed, and why.
    #[command(after_help = "\
Examples:
  tidelog dead-letters list orders
  tidelog dead-letters list orders --cause 'no such customer' --output json")]
    List {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// List this many at most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        max: usize,
    },
    /// Send dead letters back to where they come from, once the cause is mended. They stay where they are, too.
    #[command(after_help = "\
It goes on where the last redrive with the same filter stopped. One that is interrupted may send up to a hundred again; let one run at a time.

Examples:
  tidelog dead-letters redrive orders
  tidelog dead-letters redrive orders --group billing --cause 'no such customer'")]
    Redrive {
        /// Which.
        #[command(flatten)]
        which: Which,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub struct Which {
    /// The topic that they come from; its dead letters are in TOPIC.dead-letters.
    topic: TopicName,
    /// Take them from this topic instead.
    #[arg(long, value_name = "TOPIC")]
    from: Option<TopicName>,
    /// Only those that this group failed.
    #[arg(short, long)]
    group: Option<String>,
    /// Only those whose cause contains this.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only those with this key.
    #[arg(short, long)]
    key: Option<String>,
}

impl Which {
    fn filter(&self) -> RedriveFilter {
        RedriveFilter {
            // In a topic of its own name there are only its own.
            topic: self.from.is_some().then(|| self.topic.to_string()),
            group: self.group.clone(),
            cause: self.cause.clone(),
            key: self.key.as_ref().map(|key| key.clone().into_bytes()),
        }
    }
}

pub(super) async fn run(command: DeadLettersCommand, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client_in_time("tidelog").await?;
    let letters = |which: &Which| match &which.from {
        Some(from) => client.admin().dead_letters_in(from.as_str()),
        None => client.admin().dead_letters(which.topic.as_str()),
    };
    match command {
        DeadLettersCommand::List { which, max } => {
            let listing = async { letters(&which).list(&which.filter(), max).await.map_err(group_failure) };
            let listed = context.connect.in_time(listing).await?;
            print_letters(&listed, context)?;
        }
        DeadLettersCommand::Redrive { which } => {
            let letters = letters(&which);
            let done = letters.redrive(&which.filter()).await.map_err(group_failure)?;
            let text =
                format!("sent back {}, passed {}\n", counted(done.sent, "record"), counted(done.passed, "other"));
            let group = letters.progress_group(&which.filter());
            print(context, &text, || json!({"sent": done.sent, "passed": done.passed, "progress_group": group}))?;
        }
    }
    Ok(Exit::Done)
}

fn print_letters(letters: &[DeadLetter], context: &Context) -> Result<(), Failure> {
    let mut columns = Columns::new(&[
        ("AT", Align::Left),
        ("FROM", Align::Left),
        ("TIME", Align::Left),
        ("GROUP", Align::Left),
        ("TRIES", Align::Right),
        ("SENT BACK", Align::Left),
        ("CAUSE", Align::Left),
    ]);
    for letter in letters {
        let (at, origin) = (&letter.record, &letter.origin);
        columns.row([
            format!("{}/{}", at.partition(), at.offset),
            format!("{}/{}/{}", origin.topic, origin.partition, origin.offset),
            display_time(origin.timestamp),
            letter.group.clone(),
            letter.attempts.to_string(),
            if letter.redriven { "yes" } else { "no" }.into(),
            letter.cause.escape_debug().to_string(),
        ]);
    }
    print(context, &columns.to_string(), || Value::Array(letters.iter().map(document).collect()))
}

fn document(letter: &DeadLetter) -> Value {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    json!({
        "partition": letter.record.partition().0,
        "offset": letter.record.offset.0,
        "origin": {
            "topic": letter.origin.topic,
            "partition": letter.origin.partition.0,
            "offset": letter.origin.offset.0,
            "timestamp_ms": letter.origin.timestamp.0,
        },
        "group": letter.group,
        "attempts": letter.attempts,
        "redriven": letter.redriven,
        "cause": letter.cause,
        "key": text(letter.record.key.as_deref()),
        "value": text(letter.record.value.as_deref()),
    })
}
