//! `tidelog offsets`: first and next offset of each partition, or the offset that belongs to a time.

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Client, PartitionId, Position, TopicName};
use tidelog_protocol::messages::OffsetAnswer;

use super::{Context, topics::print};
use crate::byte_size::{counted, display_count};
use crate::connect::{failure, refusal};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::{display_time, parse_time};

/// Arguments of `offsets`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidelog offsets logs
  tidelog offsets logs --time 2026-01-31T12:00:00Z
  tidelog offsets logs --time max --output json")]
pub struct OffsetsArgs {
    /// The topic.
    topic: TopicName,
    /// Only this partition; may be given several times.
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// Instead of the ends: the first record at or after this time (RFC 3339), or 'beginning', 'end', or 'max' for the
    /// record with the largest timestamp.
    #[arg(short, long, value_name = "TIME", value_parser = parse_point)]
    time: Option<Point>,
}

/// What `--time` names.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Point(Position);

fn parse_point(text: &str) -> Result<Point, String> {
    match text {
        "beginning" => Ok(Point(Position::EARLIEST)),
        "end" => Ok(Point(Position::LATEST)),
        "max" => Ok(Point(Position::MAX_TIMESTAMP)),
        _ => parse_time(text)
            .map(|time| Point(Position::timestamp(time)))
            .map_err(|error| format!("{error}; or beginning, end, max")),
    }
}

/// The partitions of a topic that were asked for; all where none was named.
///
/// # Errors
/// Where the topic or a partition does not exist.
pub async fn chosen_partitions(client: &Client, topic: &TopicName, asked: &[u32]) -> Result<Vec<PartitionId>, Failure> {
    let metadata = client.admin().metadata().await.map_err(failure)?;
    let Some(found) = metadata.topics.iter().find(|found| found.name == *topic) else {
        return Err(crate::connect::unknown_topic(topic.as_str()));
    };
    let all: Vec<_> = found.partitions.iter().map(|partition| partition.partition).collect();
    if asked.is_empty() {
        return Ok(all);
    }
    let mut chosen: Vec<_> = asked.iter().copied().map(PartitionId).collect();
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.iter().find(|partition| !all.contains(partition)) {
        None => Ok(chosen),
        Some(missing) => Err(Failure::new(
            Exit::NotFound,
            format!(
                "topic '{topic}' has {}, numbered from 0; there is no partition {missing}",
                counted(all.len() as u64, "partition")
            ),
        )),
    }
}

pub(super) async fn run(args: OffsetsArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client_in_time("tidelog").await?;
    let partitions = chosen_partitions(&client, &args.topic, &args.partition).await?;
    match args.time {
        None => ends(&client, &args.topic, &partitions, context).await?,
        Some(Point(position)) => {
            let answers = ask(&client, &args.topic, &partitions, position).await?;
            print_points(&args.topic, &answers, context)?;
        }
    }
    Ok(Exit::Done)
}

/// One answer per partition, in their order.
async fn ask(
    client: &Client,
    topic: &TopicName,
    partitions: &[PartitionId],
    position: Position,
) -> Result<Vec<OffsetAnswer>, Failure> {
    let queries: Vec<_> = partitions.iter().map(|partition| (*partition, position.clone())).collect();
    let answers = client.admin().list_offsets(topic.as_str(), &queries).await.map_err(failure)?;
    match answers.iter().find_map(|answer| answer.fault.clone()) {
        Some(fault) => Err(refusal(&fault.into())),
        None => Ok(answers),
    }
}

async fn ends(
    client: &Client,
    topic: &TopicName,
    partitions: &[PartitionId],
    context: &Context,
) -> Result<(), Failure> {
    let first = ask(client, topic, partitions, Position::EARLIEST).await?;
    let next = ask(client, topic, partitions, Position::LATEST).await?;
    let mut columns = Columns::new(&[
        ("PARTITION", Align::Right),
        ("FIRST", Align::Right),
        ("NEXT", Align::Right),
        ("RECORDS", Align::Right),
    ]);
    let mut documents = Vec::new();
    for (first, next) in first.iter().zip(&next) {
        let (from, to) = (first.offset.unwrap_or_default(), next.offset.unwrap_or_default());
        let records = to.since(from);
        columns.row([first.partition.to_string(), from.to_string(), to.to_string(), display_count(records)]);
        documents.push(json!({"partition": first.partition.0, "first": from.0, "next": to.0, "records": records}));
    }
    print(context, &columns.to_string(), || json!({"topic": topic.as_str(), "partitions": documents}))
}

fn print_points(topic: &TopicName, answers: &[OffsetAnswer], context: &Context) -> Result<(), Failure> {
    let mut columns =
        Columns::new(&[("PARTITION", Align::Right), ("OFFSET", Align::Right), ("TIMESTAMP", Align::Left)]);
    let mut documents: Vec<Value> = Vec::new();
    for answer in answers {
        let offset = answer.offset.map_or("-".into(), |offset| offset.to_string());
        columns.row([answer.partition.to_string(), offset, display_time(answer.timestamp)]);
        let known = answer.timestamp.0 >= 0;
        documents.push(json!({
            "partition": answer.partition.0,
            "offset": answer.offset.map(|offset| offset.0),
            "timestamp_ms": known.then_some(answer.timestamp.0),
        }));
    }
    print(context, &columns.to_string(), || json!({"topic": topic.as_str(), "partitions": documents}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_client::Timestamp;

    #[test]
    fn a_point_is_an_end_or_a_time() {
        assert_eq!(parse_point("max"), Ok(Point(Position::MAX_TIMESTAMP)));
        assert_eq!(parse_point("end"), Ok(Point(Position::LATEST)));
        assert_eq!(parse_point("1970-01-01T00:00:02Z"), Ok(Point(Position::timestamp(Timestamp(2000)))));
        assert!(parse_point("noon").unwrap_err().contains("beginning, end, max"));
    }
}
