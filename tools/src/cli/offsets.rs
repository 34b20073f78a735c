//! `tidelog offsets`: first and next offset of each partition, or the offset that belongs to a time. Each leader is asked by itself: of the
//! partitions of one that is away is told what another replica knows, or nothing, and the others are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{BrokerId, Client, PartitionId, Position, TopicId, TopicName};
use tidelog_protocol::messages::OffsetAnswer;

use super::{Context, topics::print};
use crate::byte_size::{counted, display_count};
use crate::connect::{failure, refusal};
use crate::duration::display_duration;
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
    Ok(topic_and_partitions(client, topic, asked).await?.1)
}

/// The same, and which topic it is that has the name now.
///
/// # Errors
/// As [`chosen_partitions`].
pub async fn topic_and_partitions(
    client: &Client,
    topic: &TopicName,
    asked: &[u32],
) -> Result<(TopicId, Vec<PartitionId>), Failure> {
    let metadata = client.admin().metadata().await.map_err(failure)?;
    let Some(found) = metadata.topics.iter().find(|found| found.name == *topic) else {
        return Err(crate::connect::unknown_topic(topic.as_str()));
    };
    let all: Vec<_> = found.partitions.iter().map(|partition| partition.partition).collect();
    if asked.is_empty() {
        return Ok((found.topic_id, all));
    }
    let mut chosen: Vec<_> = asked.iter().copied().map(PartitionId).collect();
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.iter().find(|partition| !all.contains(partition)) {
        None => Ok((found.topic_id, chosen)),
        Some(missing) => Err(Failure::new(
            Exit::NotFound,
            format!(
                "topic '{topic}' has {}, numbered from 0; there is no partition {missing}",
                counted(all.len() as u64, "partition")
            ),
        )),
    }
}

/// How long a leader may take that is away: as long as it takes to elect another, and a while more.
const LEADER_PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn run(args: OffsetsArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.connect.client_in_time("tidelog").await?;
    let partitions = chosen_partitions(&client, &args.topic, &args.partition).await?;
    let patience = (context.connect.timeout() / 2).min(LEADER_PATIENCE);
    let positions = match &args.time {
        None => vec![Position::EARLIEST, Position::LATEST],
        Some(Point(position)) => vec![position.clone()],
    };
    let mut answers = ask(&client, &args.topic, &partitions, &positions, patience).await?;
    let failed: Vec<_> =
        partitions.iter().filter_map(|at| Some((*at, answers.get(at)?.as_ref().err()?.clone()))).collect();
    let elsewhere: Vec<_> =
        partitions.iter().filter_map(|at| Some((*at, answers.get(at)?.as_ref().ok()?.survivor?))).collect();
    if let Some((_, failure)) = failed.first()
        && failed.len() == partitions.len()
    {
        return Err(failure.clone());
    }
    let rows: Vec<_> = partitions.iter().filter_map(|at| Some((*at, answers.remove(at)?))).collect();
    match args.time {
        None => print_ends(&args.topic, &rows, context)?,
        Some(_) => print_points(&args.topic, &rows, context)?,
    }
    let Some((_, failure)) = failed.into_iter().next() else {
        return elsewhere.first().map_or(Ok(Exit::Done), |first| Err(known_elsewhere(&elsewhere, *first)));
    };
    // What answered is shown; what it lacks is told as any failure is.
    let lacking = rows.iter().filter(|(_, answer)| answer.is_err()).map(|(at, _)| at.to_string());
    Err(failure.prefix(format!("partition {}", lacking.collect::<Vec<_>>().join(", "))).in_part())
}

/// What the leader of a partition said.
type Said = Result<Answered, Failure>;

/// One answer for each position.
#[derive(Debug)]
struct Answered {
    answers: Vec<OffsetAnswer>,
    /// Who answered, where no leader could be asked.
    survivor: Option<BrokerId>,
}

/// What these say is not known to be all there is.
fn known_elsewhere(elsewhere: &[(PartitionId, BrokerId)], (_, broker): (PartitionId, BrokerId)) -> Failure {
    let partitions = elsewhere.iter().map(|(at, _)| at.to_string()).collect::<Vec<_>>().join(", ");
    let sentence = format!(
        "partition {partitions}: the leader cannot be reached; shown is what a replica knows to be settled (broker {broker}), and there may be more"
    );
    Failure::new(Exit::Partial, sentence)
}

/// Asks each leader for its partitions, all at once.
async fn ask(
    client: &Client,
    topic: &TopicName,
    partitions: &[PartitionId],
    positions: &[Position],
    patience: Duration,
) -> Result<BTreeMap<PartitionId, Said>, Failure> {
    let metadata = client.admin().metadata().await.map_err(failure)?;
    let found = metadata.topics.into_iter().find(|found| found.name == *topic);
    let mut by_leader: BTreeMap<Option<BrokerId>, Vec<PartitionId>> = BTreeMap::new();
    for partition in found.map(|topic| topic.partitions).unwrap_or_default() {
        if partitions.contains(&partition.partition) {
            by_leader.entry(partition.leader).or_default().push(partition.partition);
        }
    }
    let asked: Vec<_> = by_leader
        .into_iter()
        .map(|(leader, led)| {
            let (admin, name) = (client.admin(), topic.clone());
            let each = |at: &PartitionId| positions.iter().map(|position| (*at, position.clone())).collect::<Vec<_>>();
            let queries: Vec<_> = led.iter().flat_map(each).collect();
            let question =
                async move { tokio::time::timeout(patience, admin.list_offsets(name.as_str(), &queries)).await };
            (leader, led, tokio::spawn(question))
        })
        .collect();
    let (mut said, mut unled) = (BTreeMap::new(), Vec::new());
    for (leader, led, question) in asked {
        let answered = match question.await {
            Ok(Ok(answered)) => answered.map_err(failure),
            _ => Err(silent(leader, patience)),
        };
        match answered {
            Ok(answers) => {
                for (at, answers) in led.into_iter().zip(answers.chunks(positions.len())) {
                    let fault = answers.iter().find_map(|answer| answer.fault.clone());
                    let answered = || Ok(Answered { answers: answers.to_vec(), survivor: None });
                    said.insert(at, fault.map_or_else(answered, |fault| Err(refusal(&fault.into()))));
                }
            }
            Err(failure) => {
                said.extend(led.iter().map(|at| (*at, Err(failure.clone()))));
                unled.extend(led);
            }
        }
    }
    if !unled.is_empty() {
        // What others said stands, whatever comes of this.
        let settled = client.admin().list_settled_offsets(topic.as_str(), &unled, positions).await.unwrap_or_default();
        let known = settled.into_iter().filter_map(|(at, known)| Some((at, known.ok()?)));
        said.extend(known.map(|(at, (broker, answers))| (at, Ok(Answered { answers, survivor: Some(broker) }))));
    }
    Ok(said)
}

fn silent(leader: Option<BrokerId>, patience: Duration) -> Failure {
    let within = display_duration(patience);
    let sentence = match leader {
        Some(leader) => {
            format!("its leader, broker {leader}, did not answer within {within}, and no other was elected")
        }
        None => format!("it has no leader, and none was elected within {within}"),
    };
    Failure::new(Exit::Unavailable, sentence).hint("who is there: tidelog cluster status")
}

/// What `--output json` says of a partition that did not answer.
fn unanswered(partition: PartitionId, failure: &Failure) -> Value {
    let mut document = failure.json();
    document["partition"] = partition.0.into();
    document
}

fn print_ends(topic: &TopicName, rows: &[(PartitionId, Said)], context: &Context) -> Result<(), Failure> {
    let mut columns = Columns::new(&[
        ("PARTITION", Align::Right),
        ("FIRST", Align::Right),
        ("NEXT", Align::Right),
        ("RECORDS", Align::Right),
    ]);
    let mut documents = Vec::new();
    for (partition, said) in rows {
        match said {
            Ok(Answered { answers, survivor }) => {
                let offset = |at: usize| answers.get(at).and_then(|answer| answer.offset).unwrap_or_default();
                let (from, to) = (offset(0), offset(1));
                let records = to.since(from);
                columns.row([partition.to_string(), from.to_string(), to.to_string(), display_count(records)]);
                let mut document = json!({"partition": partition.0, "first": from.0, "next": to.0, "records": records});
                if let Some(survivor) = survivor {
                    document["as_known_to"] = survivor.0.into();
                }
                documents.push(document);
            }
            Err(failure) => {
                columns.row([partition.to_string(), "-".into(), "-".into(), "-".into()]);
                documents.push(unanswered(*partition, failure));
            }
        }
    }
    print(context, &columns.to_string(), || json!({"topic": topic.as_str(), "partitions": documents}))
}

fn print_points(topic: &TopicName, rows: &[(PartitionId, Said)], context: &Context) -> Result<(), Failure> {
    let mut columns =
        Columns::new(&[("PARTITION", Align::Right), ("OFFSET", Align::Right), ("TIMESTAMP", Align::Left)]);
    let mut documents: Vec<Value> = Vec::new();
    for (partition, said) in rows {
        match said {
            Ok(Answered { answers, .. }) => {
                for answer in answers {
                    let offset = answer.offset.map_or("-".into(), |offset| offset.to_string());
                    columns.row([partition.to_string(), offset, display_time(answer.timestamp)]);
                    let known = answer.timestamp.0 >= 0;
                    documents.push(json!({
                        "partition": partition.0,
                        "offset": answer.offset.map(|offset| offset.0),
                        "timestamp_ms": known.then_some(answer.timestamp.0),
                    }));
                }
            }
            Err(failure) => {
                columns.row([partition.to_string(), "-".into(), "-".into()]);
                documents.push(unanswered(*partition, failure));
            }
        }
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
