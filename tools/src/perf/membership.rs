//! `perf-consumer --group`: the workers are members of a group, which share the partitions and commit what they have counted. Knows nothing of
//! arguments.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidelog_client::group::{Call, Commits, RebalanceListener};
use tidelog_client::{Client, ConsumerRecord, GroupConsumer, GroupConsumerBuilder, TopicPartition};
use tokio::time::{MissedTickBehavior, interval};

use super::consumer::{Claim, Idle, LOOK_UP, Received, Shared, Throttle, no_record, no_timer};
use super::payload::SendTime;
use crate::byte_size::display_count;
use crate::cli::consume_group::group_failure;
use crate::exit::Failure;

/// How a group's work was shared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GroupFigures {
    /// The group's name.
    pub group: String,
    /// How many members it had here.
    pub members: usize,
    /// From the first join until every partition was a member's; `null` where that never was.
    pub spread_seconds: Option<f64>,
    /// Times that a partition came to a member here: as many as there are partitions where none had to move.
    pub partitions_given: u64,
    /// Times that a partition was taken from a member here that wanted to stay.
    pub partitions_taken: u64,
    /// Times that a member may have lost a partition to another before it knew.
    pub partitions_lost: u64,
    /// Records counted by the member that counted least.
    pub records_least: u64,
    /// Records counted by the member that counted most.
    pub records_most: u64,
    /// Records that the group has not committed, as its members have left; `null` where nobody says.
    pub lag: Option<u64>,
}

impl std::fmt::Display for GroupFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [given, taken, lost, least, most] =
            [self.partitions_given, self.partitions_taken, self.partitions_lost, self.records_least, self.records_most]
                .map(display_count);
        writeln!(
            f,
            "group       {} of {} members, which counted {least} to {most} records each",
            self.group, self.members
        )?;
        let spread = self.spread_seconds.map_or("never".into(), |seconds| format!("after {seconds:.3} s"));
        let lag = self.lag.map_or("-".into(), display_count);
        writeln!(
            f,
            "            all partitions given {spread}; {given} given, {taken} taken, {lost} lost; {lag} records of lag at the end"
        )
    }
}

/// Who owns what among the members here.
#[derive(Clone, Debug)]
pub(super) struct Sharing(Arc<Mutex<Shares>>);

#[derive(Debug)]
struct Shares {
    began: Instant,
    partitions: usize,
    owned: usize,
    spread: Option<Duration>,
    given: u64,
    taken: u64,
    lost: u64,
    is_over: bool,
}

impl Sharing {
    pub(super) fn new(partitions: u32) -> Self {
        let (began, partitions) = (Instant::now(), partitions as usize);
        let shares = Shares { began, partitions, owned: 0, spread: None, given: 0, taken: 0, lost: 0, is_over: false };
        Self(Arc::new(Mutex::new(shares)))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Shares) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What moves from now on moves because members leave: that is not counted.
    pub(super) fn is_over(&self) {
        self.with(|shares| shares.is_over = true);
    }

    pub(super) fn figures(&self, group: &str, records: &[u64], lag: Option<u64>) -> GroupFigures {
        self.with(|shares| GroupFigures {
            group: group.into(),
            members: records.len(),
            spread_seconds: shares.spread.map(|spread| (spread.as_secs_f64() * 1e6).round() / 1e6),
            partitions_given: shares.given,
            partitions_taken: shares.taken,
            partitions_lost: shares.lost,
            records_least: records.iter().copied().min().unwrap_or_default(),
            records_most: records.iter().copied().max().unwrap_or_default(),
            lag,
        })
    }
}

impl RebalanceListener for Sharing {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.with(|shares| {
            shares.owned += partitions.len();
            if shares.owned == shares.partitions {
                shares.spread.get_or_insert(shares.began.elapsed());
            }
            shares.given += if shares.is_over { 0 } else { partitions.len() as u64 };
        });
        Box::pin(async {})
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], _: &'a Commits) -> Call<'a> {
        self.with(|shares| {
            shares.owned = shares.owned.saturating_sub(partitions.len());
            shares.taken += if shares.is_over { 0 } else { partitions.len() as u64 };
        });
        Box::pin(async {})
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        self.with(|shares| {
            shares.owned = shares.owned.saturating_sub(partitions.len());
            shares.lost += partitions.len() as u64;
        });
        Box::pin(async {})
    }
}

/// Joins with so many members at once.
///
/// # Errors
/// Where one of them cannot join.
pub(super) async fn join_all(builders: Vec<GroupConsumerBuilder>) -> Result<Vec<GroupConsumer>, Failure> {
    let mut joining = tokio::task::JoinSet::new();
    for builder in builders {
        joining.spawn(builder.build());
    }
    joining.join_all().await.into_iter().collect::<Result<_, _>>().map_err(group_failure)
}

/// Lets the members leave, each committing what it has counted, and says how far behind the group is then.
///
/// # Errors
/// Where one of them could not go on.
pub(super) async fn leave_all(
    members: Vec<GroupConsumer>,
    (client, group): (&Client, &str),
) -> Result<Option<u64>, Failure> {
    for member in members {
        member.leave().await.map_err(group_failure)?;
    }
    let lags = client.admin().group_lag(group).await.ok();
    Ok(lags.map(|lags| lags.iter().filter_map(|lag| lag.lag()).sum()))
}

/// One member: reads what it is given until all together have enough.
pub(super) async fn receive(
    mut member: GroupConsumer,
    shared: Arc<Shared>,
    worker: usize,
) -> (Received, GroupConsumer) {
    let mut received = Received::none();
    let mut done = shared.done.subscribe();
    let mut idle = Idle::new();
    let mut look_up = interval(shared.idle_timeout.min(LOOK_UP));
    look_up.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut throttle = Throttle::new(shared.throughput, shared.workers);
    while !shared.is_enough() {
        let record = tokio::select! {
            biased;
            record = member.next() => record,
            _ = done.changed() => break,
            _ = look_up.tick() => {
                if idle.has_lasted(&shared) {
                    received.failure = Some(no_record(shared.idle_timeout));
                    break;
                }
                continue;
            }
        };
        let Some(record) = record else { break };
        match record {
            Ok(record) if received.count_one(record, &shared, worker) => member.done(),
            // The others have taken enough meanwhile: it stays what the group reads next.
            Ok(_) => break,
            Err(error) => {
                received.failure = Some(group_failure(error));
                break;
            }
        }
        if let Err(error) = throttle.hold_back(received.records).await {
            received.failure = Some(no_timer(&error));
            break;
        }
    }
    // Nobody listens where all have ended.
    let _ = shared.done.send(());
    (received, member)
}

impl Received {
    /// Counts a record, or finds that it is one too many.
    fn count_one(&mut self, record: &ConsumerRecord, shared: &Shared, worker: usize) -> bool {
        let claim = shared.claim(1);
        if claim == (Claim { skip: 0, count: 0 }) {
            return false;
        }
        if claim.count > 0 {
            let (arrived, value) = (Instant::now(), record.value.as_deref().unwrap_or_default());
            let bytes = (record.key.as_deref().map_or(0, <[u8]>::len) + value.len()) as u64;
            let now = SendTime::now();
            if let Some(sent) = SendTime::of_record(value, now) {
                self.latencies.record(sent.age_at(now), 1);
            }
            self.counted((1, bytes), arrived, shared, worker);
        }
        true
    }
}
