//! `tidelog partitions`: who holds and leads each partition, and what is not as it should be.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde_json::{Value, json};
use tidelog_client::messages::{PartitionFilter, PartitionReplicas};
use tidelog_client::{BrokerId, TopicName};

use super::Context;
use super::ailing::Ailing;
use super::cluster_view::{ONE_VIEW, brokers};
use super::leading::{Leading, Led};
use super::topic_view::compaction_stage;
use super::topics::print;
use crate::connect::failure;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};

/// What to do with partitions.
#[derive(Debug, Subcommand)]
pub enum PartitionsCommand {
    /// Show leader, replicas and in-sync replicas of partitions.
    ///
    /// Ends with exit code 7 where a partition that is shown is not settled, by the rule of 'cluster status': it is offline, lacks a replica in
    /// sync, is below its minimum or is being moved, or one of its replicas ails; and where no broker runs the controller: what is shown is then
    /// one broker's view, which may be old.
    #[command(after_help = "\
Examples:
  tidelog partitions describe
  tidelog partitions describe logs --unsettled")]
    Describe {
        /// Only of these topics.
        #[arg(value_name = "TOPIC")]
        topics: Vec<TopicName>,
        /// Only those that are offline, under-replicated, below their minimum or being moved, or of which a replica ails.
        #[arg(long)]
        unsettled: bool,
    },
}

pub(super) async fn run(command: PartitionsCommand, context: &Context) -> Result<Exit, Failure> {
    let PartitionsCommand::Describe { topics, unsettled } = command;
    let client = context.connect.client_in_time("tidelog").await?;
    let names: Vec<_> = topics.iter().map(TopicName::as_str).collect();
    let filter = if unsettled { PartitionFilter::Unsettled } else { PartitionFilter::All };
    let asked = (!names.is_empty()).then_some(names.as_slice());
    let admin = client.admin();
    let mut partitions = admin.describe_partitions(asked, filter).await.map_err(failure)?;
    let cluster = admin.describe_cluster().await.map_err(failure)?;
    let controlled = cluster.controller.is_some();
    let (ailing, leading) = tokio::join!(Ailing::ask(&admin, &cluster), Leading::ask(&admin, &cluster));
    if unsettled {
        // That they ail is known to those who have them only, and that a leader is away not to the metadata.
        let all = admin.describe_partitions(asked, PartitionFilter::All).await.map_err(failure)?;
        let place = |partition: &PartitionReplicas| (partition.topic.clone(), partition.partition);
        let known: BTreeSet<_> = partitions.iter().map(place).collect();
        let others = all.into_iter().filter(|partition| !known.contains(&place(partition)));
        partitions.extend(others.filter(|partition| !is_settled(partition, leading.of(partition.leader), &ailing)));
        partitions.sort_by_key(place);
    }
    let text = match partitions.is_empty() {
        false => table(&partitions, &ailing, &leading),
        true if unsettled => "every partition is settled\n".into(),
        true => "there are no partitions\n".into(),
    };
    print(context, &text, || partitions.iter().map(|partition| document(partition, &ailing, &leading)).collect())?;
    if !controlled {
        eprintln!("{ONE_VIEW}");
    }
    let settled = |partition: &PartitionReplicas| is_settled(partition, leading.of(partition.leader), &ailing);
    Ok(if controlled && partitions.iter().all(settled) { Exit::Done } else { Exit::Unsettled })
}

/// Is it as it should be? 'cluster status' counts by the same rule what is not.
fn is_settled(partition: &PartitionReplicas, led: Led, ailing: &Ailing) -> bool {
    led == Led::Well
        && partition.in_sync.len() >= usize::from(partition.min_in_sync)
        && lacking(partition).is_empty()
        && partition.adding.is_empty()
        && partition.removing.is_empty()
        && ailing.of(partition).next().is_none()
        && ailing.uncompacted(partition).next().is_none()
}

fn table(partitions: &[PartitionReplicas], ailing: &Ailing, leading: &Leading) -> String {
    let mut columns = Columns::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("LEADER", Align::Right),
        ("EPOCH", Align::Right),
        ("REPLICAS", Align::Left),
        ("IN SYNC", Align::Left),
        ("MINIMUM", Align::Right),
        ("STATE", Align::Left),
    ]);
    for partition in partitions {
        columns.row([
            partition.topic.to_string(),
            partition.partition.to_string(),
            partition.leader.map_or("-".into(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            brokers(&partition.replicas, ","),
            brokers(&partition.in_sync, ","),
            partition.min_in_sync.to_string(),
            state(partition, leading.of(partition.leader), ailing),
        ]);
    }
    columns.to_string()
}

/// What there is to say of it, in words.
fn state(partition: &PartitionReplicas, led: Led, ailing: &Ailing) -> String {
    let mut words = Vec::new();
    match (led, partition.last_leader) {
        (Led::ByNobody, Some(last)) => words.push(format!("offline, last led by {last}")),
        _ => words.extend(led.words().map(String::from)),
    }
    if partition.in_sync.len() < usize::from(partition.min_in_sync) {
        words.push("below minimum".into());
    }
    if !partition.eligible.is_empty() {
        words.push(format!("eligible to lead: {}", brokers(&partition.eligible, ",")));
    }
    let lacking = lacking(partition);
    if !lacking.is_empty() {
        words.push(format!("not in sync: {}", brokers(&lacking, ",")));
    }
    if !partition.adding.is_empty() {
        words.push(format!("copying to {}", brokers(&partition.adding, ",")));
    }
    if !partition.removing.is_empty() {
        words.push(format!("then off {}", brokers(&partition.removing, ",")));
    }
    words.extend(ailing.of(partition).map(|(broker, ailment)| format!("on {broker}: {}", ailment.words())));
    words.extend(ailing.uncompacted(partition).map(|(broker, compaction)| {
        let why = compaction.last_error.as_deref().unwrap_or("it does not say why");
        format!("on {broker}: compaction {}: {why}", compaction_stage(compaction))
    }));
    if let Some(epoch) = partition.unclean_epoch {
        words.push(format!("unclean election at epoch {epoch}"));
    }
    if words.is_empty() { "settled".into() } else { words.join("; ") }
}

/// Replicas that it shall keep and that are not in sync; those being copied are not there yet, those that go are not missed.
fn lacking(partition: &PartitionReplicas) -> Vec<BrokerId> {
    let missed = |broker: &&BrokerId| {
        ![&partition.in_sync, &partition.adding, &partition.removing].iter().any(|list| list.contains(broker))
    };
    partition.replicas.iter().filter(missed).copied().collect()
}

fn document(partition: &PartitionReplicas, ailing: &Ailing, leading: &Leading) -> Value {
    let ailments = ailing.of(partition).map(|(broker, ailment)| json!({"broker": broker.0, "state": ailment.words()}));
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    json!({
        "topic": partition.topic.as_str(),
        "topic_id": partition.topic_id.to_string(),
        "partition": partition.partition.0,
        "leader": partition.leader.map(|leader| leader.0),
        "leader_epoch": partition.leader_epoch.0,
        "partition_epoch": partition.partition_epoch.0,
        "replicas": ids(&partition.replicas),
        "in_sync": ids(&partition.in_sync),
        "eligible": ids(&partition.eligible),
        "adding": ids(&partition.adding),
        "removing": ids(&partition.removing),
        "min_in_sync": partition.min_in_sync,
        "last_leader": partition.last_leader.map(|leader| leader.0),
        "unclean_epoch": partition.unclean_epoch.map(|epoch| epoch.0),
        "ailing": ailments.collect::<Vec<_>>(),
        "state": state(partition, leading.of(partition.leader), ailing),
    })
}

#[cfg(test)]
mod tests {
    use super::super::ailing::Ailment;
    use super::*;
    use tidelog_client::messages::LogHealth;
    use tidelog_client::{LeaderEpoch, PartitionId, TopicId};
    use tidelog_protocol::PartitionEpoch;
    use tidelog_protocol::messages::{CompactionStage, CompactionState};

    fn partition() -> PartitionReplicas {
        let ids = |ids: &[u32]| ids.iter().copied().map(BrokerId).collect();
        PartitionReplicas {
            topic_id: TopicId([1; 16]),
            topic: TopicName::new("logs").unwrap(),
            partition: PartitionId(0),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(9),
            replicas: ids(&[1, 2, 3]),
            in_sync: ids(&[1, 2, 3]),
            eligible: vec![],
            adding: vec![],
            removing: vec![],
            min_in_sync: 2,
            last_leader: None,
            unclean_epoch: None,
        }
    }

    #[test]
    fn what_a_partition_lacks_is_told_in_words() {
        let whole = partition();
        let damaged = Ailment { health: LogHealth::Corrupt, leads: false };
        let ailing = Ailing::one(&whole, BrokerId(2), Some(damaged), None);
        assert_eq!(super::state(&whole, Led::Well, &ailing), "on 2: damaged");
        let uncompacted = CompactionState {
            dirty_bytes: 1,
            clean_bytes: 0,
            cleaned_at: None,
            stage: CompactionStage::Waiting,
            segment: 0,
            segments: 0,
            failures: 2,
            last_error: Some("the disk gave up".into()),
            retry_in_ms: 1,
        };
        let ailing = Ailing::one(&whole, BrokerId(3), None, Some(uncompacted));
        let expected = "on 3: compaction failed 2 in a row, tried again in 1 s: the disk gave up";
        assert_eq!(super::state(&whole, Led::Well, &ailing), expected);
        let leading = Leading::default();
        let none = Ailing::default();
        let state = |partition: &PartitionReplicas| state(partition, leading.of(partition.leader), &none);
        assert_eq!(state(&whole), "settled");
        let settled = |partition: &PartitionReplicas| is_settled(partition, leading.of(partition.leader), &none);
        assert!(settled(&whole));
        let elected = PartitionReplicas { unclean_epoch: Some(LeaderEpoch(3)), ..whole.clone() };
        assert!(settled(&elected), "what was lost then is no trouble now");
        assert!(!is_settled(&whole, Led::WithoutLease, &none) && !is_settled(&whole, Led::ByNobodyThere, &none));
        assert!(!is_settled(&whole, Led::Well, &ailing), "it cannot be compacted");
        assert_eq!(super::state(&whole, Led::ByNobodyThere, &none), "offline, its leader is away");
        assert_eq!(super::state(&whole, Led::WithoutLease, &none), "leader without lease");
        let behind = PartitionReplicas { in_sync: vec![BrokerId(1)], ..whole.clone() };
        assert_eq!(state(&behind), "below minimum; not in sync: 2,3");
        assert!(!settled(&behind) && !settled(&PartitionReplicas { min_in_sync: 1, ..behind.clone() }));
        let moving = PartitionReplicas {
            adding: vec![BrokerId(3)],
            removing: vec![BrokerId(2)],
            in_sync: behind.in_sync.clone(),
            ..whole.clone()
        };
        assert_eq!(state(&moving), "below minimum; copying to 3; then off 2");
        assert!(!settled(&PartitionReplicas { min_in_sync: 1, ..moving }));
        let offline = PartitionReplicas { leader: None, last_leader: Some(BrokerId(2)), ..whole };
        assert!(state(&offline).starts_with("offline, last led by 2") && !settled(&offline));
        assert!(table(&[offline], &none, &leading).contains("1,2,3"));
    }
}
