//! `tidelog dead-letters`: records that consumers could not process; which there are and why, and sending them back.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_client::group::{DeadLetter, DeadLetterTopic, DeadLetters, RedriveFilter, Redriven};
use tidelog_client::{Client, ClientError, ConsumeError, GroupError, TopicName, TransactionError};

use super::consume_group::group_failure;
use super::{Context, topics::print};
use crate::byte_size::{counted, display_count};
use crate::connect::{failure, transaction_failure, unknown_topic};
use crate::escape::{printable, printed};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::display_time;
use crate::stop_signal::StopSignal;

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
Each is sent back once, whatever the filters were and whenever the command was interrupted: that it was is noted beside it, in its own topic. One
that nothing takes, since its topic or partition is gone, is left and named, and the exit code is 8; the next redrive tries it again.

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
    /// Only those whose cause contains this: as it is, or, where there is none, as 'dead-letters list' prints it.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only those with this key.
    #[arg(short, long)]
    key: Option<String>,
}

impl Which {
    /// Refuses a topic that can have no dead-letter topic of its own.
    fn check(&self) -> Result<(), Failure> {
        let (bytes, limit) = (self.topic.as_str().len() + DeadLetterTopic::SUFFIX.len(), TopicName::MAX_BYTES);
        if self.from.is_some() || bytes <= limit {
            return Ok(());
        }
        let (topic, suffix) = (&self.topic, DeadLetterTopic::SUFFIX);
        let sentence = format!(
            "topic '{topic}' has no dead-letter topic of its own: with '{suffix}' behind it the name would have {bytes} bytes, and may have {limit} at most"
        );
        Err(Failure::new(Exit::Usage, sentence).hint("--from says which topic holds its dead letters"))
    }

    /// Which these are among the letters: the cause may be as it was printed.
    async fn filter(&self, letters: &DeadLetters) -> Result<RedriveFilter, GroupError> {
        let filter = RedriveFilter {
            // In a topic of its own name there are only its own.
            topic: self.from.is_some().then(|| self.topic.to_string()),
            group: self.group.clone(),
            cause: self.cause.clone(),
            key: self.key.as_ref().map(|key| key.clone().into_bytes()),
        };
        match self.cause.as_deref().and_then(printed) {
            Some(text) if letters.list(&filter, 1).await?.is_empty() => {
                Ok(RedriveFilter { cause: Some(text), ..filter })
            }
            _ => Ok(filter),
        }
    }
}

pub(super) async fn run(command: DeadLettersCommand, context: &Context) -> Result<Exit, Failure> {
    let (DeadLettersCommand::List { which, .. } | DeadLettersCommand::Redrive { which }) = &command;
    which.check()?;
    // Sending back goes on for as long as there is something: the timeout bounds only how long each answer is waited for.
    let client = context.connect.in_time(context.connect.client("tidelog")).await?;
    let letters = |which: &Which| match &which.from {
        Some(from) => client.admin().dead_letters_in(from.as_str()),
        None => client.admin().dead_letters(which.topic.as_str()),
    };
    match command {
        DeadLettersCommand::List { which, max } => {
            check_origin(&client, &which).await?;
            let listing = async {
                let letters = letters(&which);
                let listed = async { letters.list(&which.filter(&letters).await?, max).await };
                match listed.await {
                    Err(error) if is_not_there(&error, &which) => Ok(Vec::new()),
                    listed => listed.map_err(group_failure),
                }
            };
            let listed = context.connect.in_time(listing).await?;
            print_letters(&listed, &which, context)?;
            Ok(Exit::Done)
        }
        DeadLettersCommand::Redrive { which } => {
            check_origin(&client, &which).await?;
            let mut stop = StopSignal::listen()?;
            let letters = letters(&which);
            tokio::select! {
                done = redrive(&letters, &which, context) => done,
                () = stop.received() => {
                    // Asked again, it is left to the timeout.
                    let _ = stop.unless_again(undo(&client, &letters, context)).await;
                    Ok(Exit::Interrupted)
                }
            }
        }
    }
}

/// Undoes what a redrive that is called off has open, so that who reads what is committed need not wait for its timeout.
async fn undo(client: &Client, letters: &DeadLetters, context: &Context) {
    let (admin, id) = (client.admin(), letters.transactional_id());
    // Where nothing is open there is nothing to undo, and where nobody answers it is undone later.
    let _ = tokio::time::timeout(context.connect.timeout(), admin.abort_transaction(&id)).await;
}

/// Where nothing of a topic has failed there is no dead-letter topic, which must not hide that there is no such topic either.
async fn check_origin(client: &Client, which: &Which) -> Result<(), Failure> {
    let dead = format!("{}{}", which.topic, DeadLetterTopic::SUFFIX);
    let metadata = client.admin().metadata().await.map_err(failure)?;
    let is_there = |name: &str| metadata.topics.iter().any(|topic| topic.name.as_str() == name);
    // Dead letters outlive their topic.
    match which.from.is_some() || is_there(which.topic.as_str()) || is_there(&dead) {
        true => Ok(()),
        false => Err(unknown_topic(which.topic.as_str())),
    }
}

/// There is no dead-letter topic, as nothing has failed for good yet.
fn is_not_there(error: &GroupError, which: &Which) -> bool {
    which.from.is_none()
        && matches!(
            error,
            GroupError::Client(ClientError::UnknownTopic { .. })
                | GroupError::Consume(ConsumeError::Client(ClientError::UnknownTopic { .. }))
        )
}

async fn redrive(letters: &DeadLetters, which: &Which, context: &Context) -> Result<Exit, Failure> {
    let redriven = async { letters.redrive(&which.filter(letters).await?).await };
    let done = match redriven.await {
        Ok(done) => done,
        Err(TransactionError::Client(error)) if is_not_there(&GroupError::Client(error.clone()), which) => {
            Redriven::default()
        }
        Err(TransactionError::Group(error)) if is_not_there(&error, which) => Redriven::default(),
        Err(TransactionError::Group(error)) => return Err(group_failure(error)),
        Err(TransactionError::Fenced { .. }) => {
            let sentence = format!("another redrive of '{}' has begun, which goes on from here", letters.topic());
            return Err(Failure::new(Exit::Failed, sentence).hint("let one run at a time"));
        }
        Err(error) => return Err(transaction_failure(error)),
    };
    let Redriven { sent, already, passed, left, causes } = &done;
    let mut text = format!("sent back {}", counted(*sent, "record"));
    for (count, what) in [(already, "sent back before"), (passed, "not meant"), (left, "left, as nothing takes them")] {
        if *count > 0 {
            text.push_str(&format!(", {} {what}", display_count(*count)));
        }
    }
    text.push('\n');
    let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
    print(
        context,
        &text,
        || json!({"sent": sent, "already": already, "passed": passed, "left": left, "causes": causes}),
    )?;
    for cause in &causes {
        eprintln!("warning: {cause}");
    }
    Ok(if *left > 0 { Exit::Partial } else { Exit::Done })
}

fn print_letters(letters: &[DeadLetter], which: &Which, context: &Context) -> Result<(), Failure> {
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
            printable(&letter.cause),
        ]);
    }
    let is_all = which.group.is_none() && which.cause.is_none() && which.key.is_none();
    let text = match (letters.is_empty(), is_all) {
        (true, true) => format!("there are no dead letters of '{}'\n", which.topic),
        (true, false) => format!("there are no such dead letters of '{}'\n", which.topic),
        (false, _) => columns.to_string(),
    };
    print(context, &text, || Value::Array(letters.iter().map(document).collect()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_whose_name_leaves_no_room_for_its_dead_letters_is_told_so() {
        let which = |bytes: usize, from: Option<&str>| Which {
            topic: TopicName::new(&"a".repeat(bytes)).unwrap(),
            from: from.map(|name| TopicName::new(name).unwrap()),
            group: None,
            cause: None,
            key: None,
        };
        let longest = TopicName::MAX_BYTES - DeadLetterTopic::SUFFIX.len();
        assert_eq!(which(longest, None).check(), Ok(()));
        assert_eq!(which(longest + 1, Some("others")).check(), Ok(()));
        let refused = which(longest + 1, None).check().unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        let told = format!("topic '{}' has no dead-letter topic", "a".repeat(longest + 1));
        assert!(refused.to_string().contains(&told) && refused.to_string().contains("250 bytes"), "{refused}");
    }
}
