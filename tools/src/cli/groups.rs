//! `tidelog groups`: consumer groups, who is in them, how far they are, and where they shall go on.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_client::messages::{
    CommittedOffset, DescribeGroupResponse, GroupState, MemberDescription, TopicPartitions,
};
use tidelog_client::{
    Admin, Client, ClientError, ErrorCode, Listed, Offset, PartitionId, Position, TopicName, WireError,
};
use tidelog_protocol::messages::PAUSING;

use super::offsets::topic_and_partitions;
use super::{Context, group_lag, incomplete, topics::print};
use crate::byte_size::counted;
use crate::connect::{failure, refusal};
use crate::duration::{display_duration, display_millis};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::{StartPosition, parse_offset};
use crate::stop_signal::StopSignal;

/// How long it is looked, at most, for why a wait was in vain.
const LAST_WORD: Duration = Duration::from_secs(1);
/// What may help where a group is behind.
const LONGER: &str = "a longer wait may help: --timeout 60s";

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// List the groups. Where a broker does not answer, those of the others are listed, and the exit code is 8.
    List,
    /// Show the members of a group and what each owns.
    #[command(after_help = "\
A member that is silent for its session is removed, and what it owned goes to others. BUSY says for how long it has been working on its
oldest unfinished record; it decides nothing. One that left under an instance id has the epoch 'away', and what it owned is kept for it for its
session.")]
    Describe {
        /// The group.
        group: String,
    },
    /// Show how far a group is behind, partition by partition.
    #[command(after_help = "\
Where the group has committed nothing, all there is counts as behind. Where its place is gone, as what it had not read is deleted, it cannot go on
before 'groups reset-offsets' sets another. A partition whose leader does not answer is shown without an end, and the
exit code is 8 then.")]
    Lag {
        /// The group.
        group: String,
    },
    /// Set where a group goes on. It must have no members; one that does not exist is made.
    #[command(after_help = "\
Examples:
  tidelog groups reset-offsets billing --topic orders --to beginning --dry-run
  tidelog groups reset-offsets billing --topic orders --partition 3 --to offset:1200
  tidelog groups reset-offsets billing --topic orders --to time:2026-01-31T12:00:00Z")]
    ResetOffsets(ResetArgs),
    /// Forget a group without members, and its offsets.
    Delete {
        /// The group.
        group: String,
    },
    /// Wait until a group is done with a record; '--timeout' says for how long.
    #[command(after_help = "\
Example:
  tidelog --timeout 10s groups wait billing --topic orders --partition 3 --offset 1200")]
    Wait {
        /// The group.
        group: String,
        /// The topic.
        #[arg(short, long)]
        topic: TopicName,
        /// The partition.
        #[arg(short, long, value_name = "N")]
        partition: u32,
        /// The record's offset.
        #[arg(long, value_name = "OFFSET", value_parser = parse_offset)]
        offset: Offset,
    },
}

/// Arguments of `reset-offsets`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The group.
    group: String,
    /// The topic.
    #[arg(short, long)]
    topic: TopicName,
    /// Only this partition; may be given several times.
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// Where to go on: beginning, end, offset:N or time:RFC3339.
    #[arg(long, value_name = "PLACE")]
    to: StartPosition,
    /// Only show what would be set.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: GroupsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        GroupsCommand::List => asked(context, async |client| list(&client.admin(), context).await).await,
        GroupsCommand::Describe { group } => {
            asked(context, async |client| describe(&client.admin(), &group, context).await).await
        }
        GroupsCommand::Lag { group } => {
            asked(context, async |client| group_lag::show(&client.admin(), &group, context).await).await
        }
        GroupsCommand::ResetOffsets(args) => asked(context, async |client| reset(&client, args, context).await).await,
        GroupsCommand::Delete { group } => {
            asked(context, async |client| delete(&client.admin(), &group, context).await).await
        }
        // It says for itself what its timeout means.
        GroupsCommand::Wait { group, topic, partition, offset } => {
            let mut stop = StopSignal::listen()?;
            tokio::select! {
                waited = wait(&group, &topic, PartitionId(partition), offset, context) => waited,
                () = stop.received() => Ok(Exit::Interrupted),
            }
        }
    }
}

/// What is asked, and all it takes, within the timeout.
async fn asked(context: &Context, ask: impl AsyncFnOnce(Client) -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    context.connect.in_time(async { ask(context.connect.client_in_time("tidelog").await?).await }).await
}

async fn delete(admin: &Admin, group: &str, context: &Context) -> Result<Exit, Failure> {
    admin.delete_group(group).await.map_err(failure)?;
    print(context, &format!("group '{group}' is forgotten\n"), || json!({"group": group, "deleted": true}))?;
    Ok(Exit::Done)
}

async fn wait(
    group: &str,
    topic: &TopicName,
    partition: PartitionId,
    offset: Offset,
    context: &Context,
) -> Result<Exit, Failure> {
    let timeout = context.connect.timeout();
    let began = Instant::now();
    let client = context.connect.in_time(context.connect.client("tidelog")).await?;
    let left = timeout.saturating_sub(began.elapsed());
    let admin = client.admin();
    let committed = match admin.wait_for_group(group, topic.as_str(), partition, offset, left).await {
        Ok(committed) => committed,
        Err(ClientError::GroupBehind(behind)) => {
            let (place, hint) = match behind.committed {
                Some(next) => (format!("it goes on at {next}"), LONGER),
                None if is_unknown(&admin, group).await => {
                    ("there is no such group".into(), "see which there are with 'tidelog groups list'")
                }
                None => ("it has committed nothing there".into(), LONGER),
            };
            let (at, limit) = (format!("partition {partition} of '{topic}'"), display_duration(timeout));
            let message = format!("group '{group}' is not done with offset {offset} of {at} after {limit}: {place}");
            return Err(Failure::new(Exit::Unavailable, message).hint(hint));
        }
        Err(error) => return Err(failure(error)),
    };
    let text = format!("group '{group}' is done with offset {offset}: it goes on at {committed}\n");
    print(
        context,
        &text,
        || json!({"group": group, "topic": topic.as_str(), "partition": partition.0, "offset": offset.0, "committed": committed.0}),
    )?;
    Ok(Exit::Done)
}

/// Whether its coordinator says soon that there is no such group.
async fn is_unknown(admin: &Admin, group: &str) -> bool {
    let described = tokio::time::timeout(LAST_WORD, admin.describe_group(group)).await;
    matches!(described, Ok(Err(error)) if error.code() == Some(ErrorCode::UnknownGroup))
}

const fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "empty",
        GroupState::Reconciling => "reconciling",
        GroupState::Stable => "stable",
    }
}

async fn list(admin: &Admin, context: &Context) -> Result<Exit, Failure> {
    let Listed { found: groups, missing } = admin.list_groups().await.map_err(failure)?;
    let mut columns = Columns::new(&[("GROUP", Align::Left), ("STATE", Align::Left), ("MEMBERS", Align::Right)]);
    let mut documents = Vec::with_capacity(groups.len());
    for listing in &groups {
        let state = state_name(listing.state);
        columns.row([listing.group.clone(), state.into(), listing.members.to_string()]);
        documents.push(json!({"group": listing.group, "state": state, "members": listing.members}));
    }
    let text = match (groups.is_empty(), missing.is_empty()) {
        (true, true) => "there are no groups\n".into(),
        (true, false) => "none was found where there was an answer\n".into(),
        (false, _) => columns.to_string(),
    };
    print(context, &text, || json!({"groups": documents, "missing": incomplete::documents(&missing)}))?;
    Ok(incomplete::told(&missing, "groups"))
}

/// Names of topics, for the ids that groups and transactions hold.
#[derive(Default)]
pub(super) struct Names(Vec<(tidelog_client::TopicId, TopicName)>);

impl Names {
    pub(super) async fn ask(admin: &Admin) -> Result<Self, Failure> {
        let metadata = admin.metadata().await.map_err(failure)?;
        Ok(Self(metadata.topics.into_iter().map(|topic| (topic.topic_id, topic.name)).collect()))
    }

    fn of(&self, id: tidelog_client::TopicId) -> String {
        let found = self.0.iter().find(|(known, _)| *known == id);
        found.map_or_else(|| id.to_string(), |(_, name)| name.to_string())
    }

    /// `orders:0-3,7 logs:1`.
    pub(super) fn places(&self, owned: &[TopicPartitions]) -> String {
        let topics = owned.iter().map(|topic| format!("{}:{}", self.of(topic.topic_id), ranges(&topic.partitions)));
        let text = topics.collect::<Vec<_>>().join(" ");
        if text.is_empty() { "-".into() } else { text }
    }

    pub(super) fn documents(&self, owned: &[TopicPartitions]) -> Value {
        let topic = |topic: &TopicPartitions| {
            let partitions: Vec<_> = topic.partitions.iter().map(|partition| partition.0).collect();
            json!({"topic": self.of(topic.topic_id), "partitions": partitions})
        };
        owned.iter().map(topic).collect()
    }
}

/// Ascending indexes as ranges: `0-3,7`.
fn ranges(partitions: &[PartitionId]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for PartitionId(index) in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let text = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

async fn describe(admin: &Admin, group: &str, context: &Context) -> Result<Exit, Failure> {
    let described = admin.describe_group(group).await.map_err(failure)?;
    let names = Names::ask(admin).await?;
    print(context, &described_text(group, &described, &names), || document(group, &described, &names))?;
    Ok(Exit::Done)
}

fn described_text(group: &str, described: &DescribeGroupResponse, names: &Names) -> String {
    let DescribeGroupResponse { state, epoch, assignor, members, offsets, .. } = described;
    let away = match members.iter().filter(|member| is_away(member)).count() {
        0 => String::new(),
        away => format!(" ({away} of them away)"),
    };
    let mut text = format!(
        "group '{group}' is {}: {}{away}, epoch {epoch}, assignor {assignor}, offsets of {}\n",
        state_name(*state),
        counted(members.len() as u64, "member"),
        counted(offsets.len() as u64, "partition"),
    );
    let mut columns = Columns::new(&[
        ("MEMBER", Align::Left),
        ("CLIENT", Align::Left),
        ("EPOCH", Align::Right),
        ("OWNS", Align::Left),
        ("LETS GO OF", Align::Left),
        ("WAITS FOR", Align::Left),
        ("HEARD", Align::Right),
        ("BUSY", Align::Right),
    ]);
    for member in members {
        let name = member
            .instance_id
            .as_ref()
            .map_or_else(|| member.member_id.clone(), |instance| format!("{instance} ({})", member.member_id));
        columns.row([
            name,
            member.client_name.clone().unwrap_or_else(|| "-".into()),
            if is_away(member) { "away".into() } else { member.member_epoch.to_string() },
            names.places(&member.owned),
            names.places(&member.letting_go),
            names.places(&missing(&member.target, &member.owned)),
            format!("{} ago", display_millis(member.silent_ms.into())),
            member.busy_ms.map_or_else(|| "-".into(), |ms| display_millis(ms.into())),
        ]);
    }
    if !members.is_empty() {
        text.push_str(&columns.to_string());
    }
    text
}

/// It has left under a name that it means to come back under, and what it had is kept for it meanwhile.
const fn is_away(member: &MemberDescription) -> bool {
    member.member_epoch == PAUSING
}

fn document(group: &str, described: &DescribeGroupResponse, names: &Names) -> Value {
    let member = |member: &MemberDescription| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_name": member.client_name,
            "rack": member.rack,
            "member_epoch": member.member_epoch,
            "topics": member.subscription.topics,
            "pattern": member.subscription.pattern,
            "owned": names.documents(&member.owned),
            "letting_go": names.documents(&member.letting_go),
            "target": names.documents(&member.target),
            "silent_ms": member.silent_ms,
            "busy_ms": member.busy_ms,
        })
    };
    json!({
        "group": group,
        "state": state_name(described.state),
        "epoch": described.epoch,
        "target_epoch": described.target_epoch,
        "assignor": described.assignor,
        "members": described.members.iter().map(member).collect::<Vec<_>>(),
    })
}

/// What of `wanted` is not in `held`.
fn missing(wanted: &[TopicPartitions], held: &[TopicPartitions]) -> Vec<TopicPartitions> {
    let holds = |topic: &TopicPartitions, partition: &PartitionId| {
        held.iter().any(|held| held.topic_id == topic.topic_id && held.partitions.contains(partition))
    };
    let rest = wanted.iter().map(|topic| TopicPartitions {
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().copied().filter(|partition| !holds(topic, partition)).collect(),
    });
    rest.filter(|topic| !topic.partitions.is_empty()).collect()
}

async fn reset(client: &Client, args: ResetArgs, context: &Context) -> Result<Exit, Failure> {
    let admin = client.admin();
    let ResetArgs { group, topic, partition, to, dry_run } = args;
    let (topic_id, partitions) = topic_and_partitions(client, &topic, &partition).await?;
    let position = match to {
        StartPosition::Beginning => Position::EARLIEST,
        StartPosition::End => Position::LATEST,
        StartPosition::Offset(offset) => Position::offset(offset),
        StartPosition::Time(time) => Position::timestamp(time),
    };
    let mut offsets = Vec::with_capacity(partitions.len());
    let ask = async |position: Position| {
        let queries: Vec<_> = partitions.iter().map(|partition| (*partition, position.clone())).collect();
        let answers = admin.list_offsets(topic.as_str(), &queries).await.map_err(failure)?;
        match answers.iter().find_map(|answer| answer.fault.clone()) {
            Some(fault) => Err(refusal(&fault.into())),
            None => Ok(answers),
        }
    };
    // After the last record of a time, and after the last record: the end.
    let ends = ask(Position::LATEST).await?;
    for (found, end) in ask(position).await?.into_iter().zip(ends) {
        let offset = match (found.offset, to) {
            (Some(offset), _) => offset,
            (None, StartPosition::Offset(offset)) => {
                let first = first_of(&admin, &topic, found.partition).await?;
                let end = end.offset.unwrap_or_default();
                let message = format!(
                    "partition {} of topic '{topic}' has no offset {offset}: the log holds {first} up to, not including, {end}",
                    found.partition
                );
                return Err(Failure::new(Exit::NotFound, message).hint("--to beginning, or --to end"));
            }
            (None, _) => end.offset.unwrap_or_default(),
        };
        let partition = found.partition;
        offsets.push(CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: String::new() });
    }
    let mut columns = Columns::new(&[("TOPIC", Align::Left), ("PARTITION", Align::Right), ("OFFSET", Align::Right)]);
    let mut documents = Vec::with_capacity(offsets.len());
    for at in &offsets {
        columns.row([topic.to_string(), at.partition.to_string(), at.offset.to_string()]);
        documents.push(json!({"partition": at.partition.0, "offset": at.offset.0}));
    }
    if dry_run {
        check_has_no_members(&admin, &group).await?;
    } else {
        admin.set_group_offsets(&group, offsets).await.map_err(failure)?;
    }
    let done = if dry_run { "would go on" } else { "goes on" };
    let text = format!("group '{group}' {done} there:\n{columns}");
    print(
        context,
        &text,
        || json!({"group": group, "topic": topic.as_str(), "dry_run": dry_run, "partitions": documents}),
    )?;
    Ok(Exit::Done)
}

/// The first offset that a partition holds.
async fn first_of(admin: &Admin, topic: &TopicName, partition: PartitionId) -> Result<Offset, Failure> {
    let answers = admin.list_offsets(topic.as_str(), &[(partition, Position::EARLIEST)]).await.map_err(failure)?;
    Ok(answers.first().and_then(|answer| answer.offset).unwrap_or_default())
}

/// Refuses what the coordinator would refuse, and as it would.
async fn check_has_no_members(admin: &Admin, group: &str) -> Result<(), Failure> {
    let members = match admin.describe_group(group).await {
        Ok(described) => described.members.len() as u64,
        // It would be made.
        Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => 0,
        Err(error) => return Err(failure(error)),
    };
    if members == 0 {
        return Ok(());
    }
    let members = counted(members, "member");
    let sentence = format!("group '{group}' has {members}: only members commit; stop them first");
    Err(refusal(&WireError::new(ErrorCode::GroupNotEmpty, sentence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_shown_as_ranges() {
        let of = |indexes: &[u32]| ranges(&indexes.iter().copied().map(PartitionId).collect::<Vec<_>>());
        assert_eq!(of(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn what_a_member_waits_for_is_its_target_less_what_it_owns() {
        let of = |indexes: &[u32]| {
            let partitions = indexes.iter().copied().map(PartitionId).collect();
            vec![TopicPartitions { topic_id: tidelog_client::TopicId([1; 16]), partitions }]
        };
        assert_eq!(missing(&of(&[0, 1, 2]), &of(&[1])), of(&[0, 2]));
        assert_eq!(missing(&of(&[0]), &of(&[0, 1])), []);
    }

    #[test]
    fn a_member_that_means_to_come_back_is_told_to_be_away() {
        let member = |epoch| MemberDescription {
            member_id: "m".into(),
            instance_id: Some("printer-1".into()),
            client_name: None,
            rack: None,
            member_epoch: epoch,
            subscription: tidelog_protocol::messages::Subscription { topics: Vec::new(), pattern: None },
            owned: Vec::new(),
            letting_go: Vec::new(),
            target: Vec::new(),
            silent_ms: 0,
            busy_ms: None,
        };
        let described = DescribeGroupResponse {
            state: GroupState::Stable,
            epoch: 3,
            target_epoch: 3,
            assignor: "uniform".into(),
            members: vec![member(3), member(PAUSING)],
            offsets: Vec::new(),
        };
        let names = Names::default();
        let text = described_text("printers", &described, &names);
        assert!(text.starts_with("group 'printers' is stable: 2 members (1 of them away), epoch 3"), "{text}");
        let row = text.lines().last().unwrap();
        assert!(row.contains(" away ") && !row.contains("-2"), "{text}");
        assert_eq!(document("printers", &described, &names)["members"][1]["member_epoch"], -2);
    }
}
