//! `tidelog records delete`: gives up the records of a partition below an offset.

use clap::Subcommand;
use serde_json::json;
use tidelog_client::{Offset, PartitionId, TopicName};

use super::{Context, topics::print};
use crate::connect::failure;
use crate::exit::{Exit, Failure};
use crate::start_position::parse_offset;

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum RecordsCommand {
    /// Delete the records of a partition below an offset. They are gone for good.
    #[command(after_help = "\
Examples:
  tidelog records delete logs --partition 0 --before 1000   keeps offset 1000 and later
  tidelog records delete logs --partition 0 --before end    empties the partition

What the broker keeps of groups and transactions (__groups, __transactions) is not deleted by hand, but for one case: where a range of
it is damaged and no other replica has it, the groups or transactional ids of that partition are not served, and errors name this command:
  tidelog records delete __groups --partition 3 --before 1200 --accept-loss
What can be read of the partition stays. What stood in the damage is lost: offsets of its groups may go back to earlier ones, so that
records are read twice, what was deleted there may be back, and members join again. Transactional ids that were not used since the damage
get a new producer: the one they have is fenced, and what it has open is undone; a transaction whose commit stood in the damage may be seen
in part. The same holds of a partition of which nothing is left; its errors name offset 0:
  tidelog records delete __groups --partition 3 --before 0 --accept-loss")]
    Delete {
        /// The topic.
        topic: TopicName,
        /// The partition.
        #[arg(short, long, value_name = "N")]
        partition: u32,
        /// The first offset to keep, or 'end' to keep none.
        #[arg(short, long, value_name = "OFFSET", value_parser = parse_before)]
        before: Before,
        /// Give up what is damaged of a partition that belongs to the broker.
        #[arg(long)]
        accept_loss: bool,
    },
}

/// The first offset to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Before(Option<Offset>);

fn parse_before(text: &str) -> Result<Before, String> {
    match text {
        "end" => Ok(Before(None)),
        _ => parse_offset(text).map(|offset| Before(Some(offset))).map_err(|error| format!("{error}; or 'end'")),
    }
}

pub(super) async fn run(command: RecordsCommand, context: &Context) -> Result<Exit, Failure> {
    let RecordsCommand::Delete { topic, partition, before: Before(before), accept_loss } = command;
    let client = context.connect.client_in_time("tidelog").await?;
    let (admin, index) = (client.admin(), PartitionId(partition));
    let deleted = match before.filter(|_| accept_loss) {
        Some(before) => admin.give_up_damaged(topic.as_str(), index, before).await,
        None => admin.delete_records(topic.as_str(), index, before).await,
    };
    let log_start = deleted.map_err(failure)?;
    let text = format!("partition {partition} of topic '{topic}' starts at offset {log_start} now\n");
    print(context, &text, || json!({"topic": topic.as_str(), "partition": partition, "log_start": log_start.0}))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_is_an_offset_or_the_end() {
        assert_eq!(parse_before("10"), Ok(Before(Some(Offset(10)))));
        assert_eq!(parse_before("end"), Ok(Before(None)));
        assert!(parse_before("-1").unwrap_err().contains("or 'end'"));
    }
}
