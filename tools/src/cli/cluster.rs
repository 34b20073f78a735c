//! `tidelog cluster`: how the cluster stands, and what an operator can do about it.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;
use tidelog_client::messages::{PartitionFilter, ReplicaAssignment, VoterChange};
use tidelog_client::{Admin, BrokerId, PartitionId, TopicName};

use super::Context;
use super::ailing::{Ailing, PATIENCE};
use super::cluster_view::{Lag, Status, brokers, status, status_json};
use super::leading::Leading;
use super::strays::{Stray, told_apart};
use super::topics::print;
use crate::byte_size::counted;
use crate::connect::{ConnectArgs, failure};
use crate::exit::{Exit, Failure};

/// The largest file of assignments.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show controller, voters and brokers, and how many partitions are not as they should be.
    ///
    /// Ends with exit code 7 while something is unsettled: there is no controller, a broker does not serve, or a partition has no leader,
    /// lacks a replica in sync, is below its minimum or is being moved, or a replica has a full disk, is damaged or cannot be read; or where at one
    /// of several addresses another cluster answers than at most of them: it is named, with its cluster id.
    #[command(after_help = "\
Examples:
  tidelog cluster status
  until tidelog cluster status > /dev/null; do sleep 1; done")]
    Status,
    /// Move partitions to other brokers: all that is asked for, or nothing.
    ///
    /// New replicas are copied first; each partition switches by itself once they are in sync. 'partitions describe' shows how far it is.
    #[command(after_help = "\
Examples:
  tidelog cluster reassign --topic logs --partition 0 --replicas 2,3,1 --dry-run
  tidelog cluster reassign --topic logs --partition 0 --cancel
  tidelog cluster reassign --file moves.json

The file:
  {\"partitions\": [{\"topic\": \"logs\", \"partition\": 0, \"replicas\": [2, 3, 1]}]}
A partition with \"cancel\": true in place of the replicas takes a move under way back.")]
    Reassign(ReassignArgs),
    /// Move everything off a broker, which gets nothing new. Asked again it goes on where it stopped.
    #[command(after_help = "Examples:\n  tidelog cluster drain 3 --dry-run\n  tidelog cluster drain 3 --cancel")]
    Drain {
        /// The broker.
        broker: u32,
        /// It may get replicas again after all; what moves already goes on moving.
        #[arg(long)]
        cancel: bool,
        /// Only say what would move.
        #[arg(long, conflicts_with = "cancel")]
        dry_run: bool,
    },
    /// Spread replicas over brokers and racks, and preferred leaders over replicas, with as few copies as that takes.
    #[command(after_help = "Examples:\n  tidelog cluster balance --dry-run\n  tidelog cluster balance --copies-max 10")]
    Balance {
        /// Copy this many replicas at most.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        copies_max: Option<u32>,
        /// Only say what would move.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give the lead of partitions back to their preferred replicas, or to one that may have lost records.
    #[command(after_help = "\
Examples:
  tidelog cluster elect
  tidelog cluster elect --topic logs --partition 0
  tidelog cluster elect --topic logs --partition 0 --unclean 2 --accept-loss")]
    Elect(ElectArgs),
    /// Let a broker vote on metadata. 1, 3 or 5 voters are a good number: half of them, rounded down, may be lost.
    Promote {
        /// The broker.
        broker: u32,
    },
    /// Let a broker vote on metadata no longer.
    Demote {
        /// The broker.
        broker: u32,
    },
    /// Forget a broker that is gone for good. It must be stopped and hold nothing: drain it first.
    Remove {
        /// The broker.
        broker: u32,
    },
}

/// Which partitions go where.
#[derive(Debug, Args)]
pub struct ReassignArgs {
    /// The topic.
    #[arg(long, required_unless_present = "file", requires = "partition")]
    topic: Option<TopicName>,
    /// The partition.
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Option<u32>,
    /// The brokers that shall hold it, the preferred leader first.
    #[arg(long, value_name = "BROKER,…", value_delimiter = ',', requires = "partition")]
    #[arg(required_unless_present_any = ["file", "cancel"])]
    replicas: Vec<u32>,
    /// Take a move under way back.
    #[arg(long, conflicts_with_all = ["replicas", "file"], requires = "partition")]
    cancel: bool,
    /// A file of many assignments (JSON); '-' is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "partition", "replicas"])]
    file: Option<PathBuf>,
    /// Only check and say what would move.
    #[arg(long)]
    dry_run: bool,
}

/// Which leaders are elected.
#[derive(Debug, Args)]
pub struct ElectArgs {
    /// The topic; without one, every partition whose preferred replica can lead.
    #[arg(long, requires = "partition")]
    topic: Option<TopicName>,
    /// The partition.
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Option<u32>,
    /// For a partition without a leader: this broker leads with what it has, and records that only others hold are lost.
    #[arg(long, value_name = "BROKER", requires = "partition", requires = "accept_loss")]
    unclean: Option<u32>,
    /// Says that you know that --unclean loses records, acknowledged ones too.
    #[arg(long, requires = "unclean")]
    accept_loss: bool,
}

pub(super) async fn run(command: ClusterCommand, context: &Context) -> Result<Exit, Failure> {
    // Before the clock runs: somebody may still be writing it.
    let file = match &command {
        ClusterCommand::Reassign(ReassignArgs { file: Some(file), .. }) => Some(read_assignments(file)?),
        _ => None,
    };
    context.connect.in_time(ask(command, file, context)).await
}

async fn ask(
    command: ClusterCommand,
    file: Option<Vec<ReplicaAssignment>>,
    context: &Context,
) -> Result<Exit, Failure> {
    // Other commands refuse addresses of different clusters; this one is asked what is wrong.
    let (server, strays) = match command {
        ClusterCommand::Status => told_apart(&context.connect).await,
        _ => (context.connect.server.clone(), Vec::new()),
    };
    let client = ConnectArgs { server, ..context.connect.clone() }.client_in_time("tidelog").await?;
    let admin = client.admin();
    match command {
        ClusterCommand::Status => return show_status(&admin, &strays, context).await,
        ClusterCommand::Reassign(args) => reassign(&admin, args, file, context).await?,
        ClusterCommand::Drain { broker, cancel: true, .. } => {
            admin.cancel_drain(BrokerId(broker)).await.map_err(failure)?;
            let text = format!("broker {broker} may get replicas again; what moves already goes on moving\n");
            print(context, &text, || json!({"broker": broker, "draining": false}))?;
        }
        ClusterCommand::Drain { broker, dry_run, .. } => drain(&admin, broker, dry_run, context).await?,
        ClusterCommand::Balance { copies_max, dry_run } => balance(&admin, copies_max, dry_run, context).await?,
        ClusterCommand::Elect(args) => elect(&admin, args, context).await?,
        ClusterCommand::Promote { broker } => change_voters(&admin, broker, VoterChange::Promote, context).await?,
        ClusterCommand::Demote { broker } => change_voters(&admin, broker, VoterChange::Demote, context).await?,
        ClusterCommand::Remove { broker } => {
            admin.remove_broker(BrokerId(broker)).await.map_err(failure)?;
            let text = format!("broker {broker} is removed; its data folder is no part of the cluster any more\n");
            print(context, &text, || json!({"broker": broker, "removed": true}))?;
        }
    }
    Ok(Exit::Done)
}

async fn show_status(admin: &Admin, strays: &[Stray], context: &Context) -> Result<Exit, Failure> {
    let cluster = admin.describe_cluster().await.map_err(failure)?;
    let asked = cluster.brokers.iter().map(|broker| {
        let (admin, id) = (admin.clone(), broker.broker_id);
        tokio::spawn(async move {
            let described = tokio::time::timeout(PATIENCE, admin.describe_broker_of(id)).await.ok()?.ok()?;
            Some(Lag { records: described.unsettled_records, records_max: described.unsettled_records_max })
        })
    });
    // All are asked at once.
    let asked: Vec<_> = asked.collect();
    let (ailing, leading) = tokio::join!(Ailing::ask(admin, &cluster), Leading::ask(admin, &cluster));
    let mut lags = Vec::new();
    for asked in asked {
        lags.push(asked.await.ok().flatten());
    }
    let offline = leading.offline(&cluster);
    let shown = Status { cluster: &cluster, offline, lags: &lags, ailing: &ailing, strays };
    print(context, &status(&shown), || status_json(&shown))?;
    Ok(if shown.is_settled() { Exit::Done } else { Exit::Unsettled })
}

async fn reassign(
    admin: &Admin,
    args: ReassignArgs,
    file: Option<Vec<ReplicaAssignment>>,
    context: &Context,
) -> Result<(), Failure> {
    let assignments = match (file, &args.topic, args.partition) {
        (Some(assignments), _, _) => assignments,
        (None, Some(topic), Some(partition)) => {
            let replicas = (!args.cancel).then(|| args.replicas.iter().copied().map(BrokerId).collect());
            vec![ReplicaAssignment { topic: topic.to_string(), partition: PartitionId(partition), replicas }]
        }
        (None, ..) => unreachable!("the grammar asks for a topic and a partition"),
    };
    let moves =
        if args.dry_run { admin.plan_reassignment(assignments).await } else { admin.reassign(assignments).await };
    let moves = moves.map_err(failure)?;
    let text = match (args.cancel, moves.done, args.dry_run) {
        (true, 1.., false) => "the move was taken back: the replicas are those of before\n".into(),
        _ => format!("{}\n", moved(moves.copying, moves.done, args.dry_run)),
    };
    print(context, &text, || json!({"copying": moves.copying, "done": moves.done, "dry_run": args.dry_run}))
}

async fn drain(admin: &Admin, broker: u32, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let id = BrokerId(broker);
    let moves = if dry_run { admin.plan_drain(id).await } else { admin.drain(id).await }.map_err(failure)?;
    // What was begun before goes on, and is what a second one waits for.
    let running = admin.describe_partitions(None, PartitionFilter::Unsettled).await.map_err(failure)?;
    let running = running.iter().filter(|partition| partition.removing.contains(&id)).count() as u32;
    let before = running.saturating_sub(if dry_run { 0 } else { moves.copying });
    let what = match (moves.copying + moves.done, before) {
        (_, 0) => moved(moves.copying, moves.done, dry_run),
        (0, before) => already_moving(before),
        (_, before) => format!("{}; {}", moved(moves.copying, moves.done, dry_run), already_moving(before)),
    };
    let text = match dry_run {
        true => format!("broker {broker}: {what}\n"),
        false => format!("broker {broker} gets nothing new: {what}\n"),
    };
    print(
        context,
        &text,
        || json!({"broker": broker, "draining": !dry_run, "copying": moves.copying, "done": moves.done, "already_moving": before, "dry_run": dry_run}),
    )
}

fn already_moving(partitions: u32) -> String {
    match partitions {
        1 => "1 partition is being moved off it already".into(),
        _ => format!("{} are being moved off it already", counted(partitions, "partition")),
    }
}

fn moved(copying: u32, done: u32, dry_run: bool) -> String {
    let (copied, uncopied) = match (dry_run, copying, done) {
        (true, ..) => ("would be copied", "would need no copy"),
        (false, 1, _) => ("is being copied", "needed no copy"),
        (false, ..) => ("are being copied", "needed no copy"),
    };
    match (copying, done) {
        (0, 0) => "nothing is to be done".into(),
        (_, 0) => format!("{} {copied}", counted(copying, "partition")),
        (0, _) => format!("{} {uncopied}", counted(done, "partition")),
        _ => format!("{} {copied}, {} {uncopied}", counted(copying, "partition"), counted(done, "other")),
    }
}

async fn balance(admin: &Admin, copies_max: Option<u32>, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let plan = if dry_run { admin.plan_balance(copies_max).await } else { admin.balance(copies_max).await };
    let plan = plan.map_err(failure)?;
    let text = match (plan.copies, plan.reordered, copies_max) {
        (0, 0, None) => "replicas and leaders are spread evenly already\n".into(),
        (0, 0, Some(_)) => "nothing is to be done within that limit\n".into(),
        _ => {
            let (copies, reordered) = (counted(plan.copies, "replica"), counted(plan.reordered, "partition"));
            match dry_run {
                true => format!("to copy: {copies}; to prefer another leader without a copy: {reordered}\n"),
                false => format!("copying: {copies}; preferring another leader without a copy: {reordered}\n"),
            }
        }
    };
    print(
        context,
        &text,
        || json!({"copies": plan.copies, "copying": plan.copying, "reordered": plan.reordered, "dry_run": dry_run}),
    )
}

async fn elect(admin: &Admin, args: ElectArgs, context: &Context) -> Result<(), Failure> {
    let partition = args.topic.as_ref().zip(args.partition).map(|(topic, n)| (topic.as_str(), PartitionId(n)));
    let elected = match (partition, args.unclean) {
        (Some((topic, partition)), Some(broker)) => {
            admin.elect_unclean(topic, partition, BrokerId(broker)).await.map_err(failure)?;
            1
        }
        (partition, _) => admin.elect_preferred(partition).await.map_err(failure)?,
    };
    let text = match elected {
        0 => "every leader that can be the preferred one is\n".into(),
        _ => format!("{} elected\n", counted(elected, "leader")),
    };
    print(context, &text, || json!({"elected": elected, "unclean": args.unclean.is_some()}))
}

async fn change_voters(admin: &Admin, broker: u32, change: VoterChange, context: &Context) -> Result<(), Failure> {
    let voters = admin.change_voters(BrokerId(broker), change).await.map_err(failure)?;
    let text = format!("voters are now: {}\n", brokers(&voters, ", "));
    let ids: Vec<u32> = voters.iter().map(|voter| voter.0).collect();
    print(context, &text, || json!({"broker": broker, "voters": ids}))
}

/// The file of assignments, as Kafka's tool writes it too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignmentFile {
    #[serde(default, rename = "version")]
    _version: Option<u32>,
    partitions: Vec<AssignmentRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignmentRow {
    topic: String,
    partition: u32,
    replicas: Option<Vec<u32>>,
    #[serde(default)]
    cancel: bool,
    #[serde(default, rename = "log_dirs")]
    _log_dirs: Option<Vec<String>>,
}

fn read_assignments(file: &PathBuf) -> Result<Vec<ReplicaAssignment>, Failure> {
    let is_stdin = file.as_os_str() == "-";
    let name = if is_stdin { "standard input".into() } else { file.display().to_string() };
    let mut text = Vec::new();
    let read = if is_stdin {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
    };
    read.map_err(|error| Failure::file(&name, &error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{name}: larger than {FILE_BYTES_MAX} bytes")));
    }
    assignments(&text).map_err(|why| {
        Failure::new(Exit::Usage, format!("{name}: {why}"))
            .hint("{\"partitions\": [{\"topic\": \"logs\", \"partition\": 0, \"replicas\": [2, 3, 1]}]}")
    })
}

fn assignments(text: &[u8]) -> Result<Vec<ReplicaAssignment>, String> {
    let file: AssignmentFile = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if file.partitions.is_empty() {
        return Err("no partition stands in it".into());
    }
    let row = |AssignmentRow { topic, partition, replicas, cancel, .. }| match (&replicas, cancel) {
        (None, false) => Err(format!(
            "'{topic}'-{partition} has neither \"replicas\" nor \"cancel\": true, which takes a move under way back"
        )),
        (Some(_), true) => Err(format!("'{topic}'-{partition} has both \"replicas\" and \"cancel\": one of them")),
        _ => {
            let replicas = replicas.map(|brokers| brokers.into_iter().map(BrokerId).collect());
            Ok(ReplicaAssignment { topic, partition: PartitionId(partition), replicas })
        }
    };
    file.partitions.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_assignments_is_read_as_kafkas_tool_writes_it() {
        let text =
            br#"{"version":1,"partitions":[{"topic":"a","partition":2,"replicas":[3,1],"log_dirs":["any","any"]},
            {"topic":"b","partition":0,"cancel":true}]}"#;
        let read = assignments(text).unwrap();
        assert_eq!(read[0].replicas, Some(vec![BrokerId(3), BrokerId(1)]));
        assert_eq!((read[1].topic.as_str(), read[1].replicas.clone()), ("b", None));
    }

    #[test]
    fn a_file_that_is_wrong_is_told_where() {
        for (text, part) in [
            (&b""[..], "EOF"),
            (b"[]", "invalid"),
            (br#"{"partitions":[]}"#, "no partition"),
            (br#"{"partitions":[{"topic":"a","partition":1}]}"#, "'a'-1 has neither"),
            (br#"{"partitions":[{"topic":"a","partition":1,"replicas":null}]}"#, "'a'-1 has neither"),
            (br#"{"partitions":[{"topic":"a","partition":1,"replicas":[1],"cancel":true}]}"#, "'a'-1 has both"),
            (br#"{"partitions":[{"topic":"a","partition":-1,"replicas":[1]}]}"#, "line 1"),
            (br#"{"partitions":[{"topic":"a","partition":0,"replica":[1]}]}"#, "unknown field `replica`"),
        ] {
            let error = assignments(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_moves_is_a_sentence() {
        assert_eq!(moved(0, 0, false), "nothing is to be done");
        assert_eq!(moved(1, 0, false), "1 partition is being copied");
        assert_eq!(moved(2, 1, true), "2 partitions would be copied, 1 other would need no copy");
        assert_eq!(moved(0, 3, false), "3 partitions needed no copy");
    }
}
