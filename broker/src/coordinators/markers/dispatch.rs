//! Which markers leave next, and for whom. Few requests at once for each broker, of bounded size; what one did not take, and a broker that did not
//! answer, is left alone for a while, longer each time, and never keeps others from their turn. Knows nothing of connections; the time is an
//! argument.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use tidelog_coordination::groups::partition_set::PartitionSet;
use tidelog_coordination::transactions::{Ending, Place};
use tidelog_protocol::messages::{MarkerOutcome, ProducerIdentity, TransactionMarkers};
use tidelog_protocol::{BrokerId, PartitionId, ProducerEpoch, ProducerId, TopicId};

/// Places that one request tells. The names of the groups and ids among them are short, so that it stays far below what a frame may hold.
const PLACES_MAX: usize = 1_000;
/// Requests under way to one broker.
const REQUESTS_MAX: usize = 4;
/// Pauses.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A pause that is over for so long says nothing any more.
const PAUSE_KEPT: Duration = Duration::from_secs(30);

/// Who is to hear of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    Broker(BrokerId),
    /// Nobody at the moment: the metadata will tell.
    Nobody,
    /// It is a group, and there is no topic of the groups.
    Homeless,
}

/// One marker for one place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Errand {
    producer_id: ProducerId,
    epoch: ProducerEpoch,
    spot: Spot,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Spot {
    Partition(TopicId, PartitionId),
    Group(String),
}

impl Errand {
    fn new(identity: &ProducerIdentity, place: Place<'_>) -> Self {
        let spot = match place {
            Place::Partition(topic_id, partition) => Spot::Partition(topic_id, partition),
            Place::Group(group) => Spot::Group(group.to_owned()),
        };
        Self { producer_id: identity.producer_id, epoch: identity.epoch, spot }
    }
}

/// What leaves together.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) broker: BrokerId,
    /// With the transactional id that each belongs to.
    pub(super) markers: Vec<(String, TransactionMarkers)>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// What the broker said of each marker.
    Answered(Vec<MarkerOutcome>),
    /// It said nothing of use.
    Failed,
}

/// What is to be done.
#[derive(Default, Debug)]
pub(super) struct Plan {
    pub(super) batches: Vec<Batch>,
    /// When a pause ends that something waits for.
    pub(super) due_at: Option<Instant>,
    /// A group that has no home yet.
    pub(super) groups_homeless: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    next: Duration,
}

impl Pause {
    fn after(before: Option<Self>, now: Instant) -> Self {
        let pause = before.map_or(PAUSE_MIN, |before| before.next);
        Self { until: now + pause, next: (2 * pause).min(PAUSE_MAX) }
    }
}

#[derive(Default, Debug)]
struct Lane {
    under_way: usize,
    pause: Option<Pause>,
}

/// What is under way, and what pauses.
#[derive(Default, Debug)]
pub(super) struct Dispatch {
    under_way: HashSet<Errand>,
    pauses: HashMap<Errand, Pause>,
    lanes: HashMap<BrokerId, Lane>,
}

/// The places of a batch that is being filled.
#[derive(Default)]
struct Filling {
    markers: Vec<(String, TransactionMarkers, PartitionSet)>,
    places: usize,
}

impl Filling {
    fn add(&mut self, ending: &Ending<'_>, place: Place<'_>) {
        if self.markers.last().is_none_or(|(id, ..)| id != ending.transactional_id) {
            let Ending { transactional_id, identity, commit, own_epoch } = ending.clone();
            let (partitions, groups) = (Vec::new(), Vec::new());
            let markers = TransactionMarkers { identity, commit, partitions, groups, own_epoch };
            self.markers.push((transactional_id.to_owned(), markers, PartitionSet::EMPTY));
        }
        self.places += 1;
        let Some((_, markers, partitions)) = self.markers.last_mut() else { return };
        match place {
            Place::Partition(topic_id, partition) => partitions.insert((topic_id, partition)),
            Place::Group(group) => markers.groups.push(group.to_owned()),
        }
    }

    fn into_batch(self, broker: BrokerId) -> Batch {
        let markers = self
            .markers
            .into_iter()
            .map(|(id, markers, partitions)| (id, TransactionMarkers { partitions: partitions.to_wire(), ..markers }));
        Batch { broker, markers: markers.collect() }
    }
}

impl Dispatch {
    /// Looks at all markers that are missing somewhere, as `pending` shows them in the order of their transactions; `whose` says who is to hear.
    pub(super) fn plan(
        &mut self,
        pending: impl FnOnce(&mut dyn FnMut(&Ending<'_>, Place<'_>)),
        whose: impl Fn(Place<'_>) -> Whose,
        now: Instant,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut filling: BTreeMap<BrokerId, Filling> = BTreeMap::new();
        pending(&mut |ending, place| {
            let broker = match whose(place) {
                Whose::Broker(broker) => broker,
                Whose::Nobody => return,
                Whose::Homeless => {
                    if let Place::Group(group) = place {
                        plan.groups_homeless.get_or_insert_with(|| group.to_owned());
                    }
                    return;
                }
            };
            let errand = Errand::new(&ending.identity, place);
            if self.under_way.contains(&errand) {
                return;
            }
            let lane = self.lanes.get(&broker);
            let pauses = [lane.and_then(|lane| lane.pause), self.pauses.get(&errand).copied()];
            if let Some(until) =
                pauses.into_iter().flatten().map(|pause| pause.until).filter(|until| *until > now).max()
            {
                plan.due_at = Some(plan.due_at.map_or(until, |due_at| due_at.min(until)));
                return;
            }
            let filling = filling.entry(broker).or_default();
            if filling.places < PLACES_MAX && lane.is_none_or(|lane| lane.under_way < REQUESTS_MAX) {
                filling.add(ending, place);
                self.under_way.insert(errand);
            }
        });
        for (broker, filling) in filling.into_iter().filter(|(_, filling)| filling.places > 0) {
            self.lanes.entry(broker).or_default().under_way += 1;
            plan.batches.push(filling.into_batch(broker));
        }
        plan
    }

    /// A batch came back. Gives what stands now, of each transaction.
    pub(super) fn done(&mut self, batch: Batch, outcome: Outcome, now: Instant) -> Vec<(String, TransactionMarkers)> {
        self.pauses.retain(|_, pause| pause.until + PAUSE_KEPT > now);
        let lane = self.lanes.entry(batch.broker).or_default();
        lane.under_way = lane.under_way.saturating_sub(1);
        let outcomes = match outcome {
            Outcome::Answered(outcomes) if outcomes.len() == batch.markers.len() => outcomes,
            Outcome::Answered(_) | Outcome::Failed => {
                lane.pause = Some(Pause::after(lane.pause, now));
                for (_, markers) in &batch.markers {
                    for errand in errands(markers) {
                        self.under_way.remove(&errand);
                    }
                }
                return Vec::new();
            }
        };
        lane.pause = None;
        let mut written = Vec::new();
        for ((id, asked), outcome) in batch.markers.into_iter().zip(outcomes) {
            let stands = standing(&asked, &outcome);
            for errand in errands(&stands) {
                self.pauses.remove(&errand);
                self.under_way.remove(&errand);
            }
            for errand in errands(&asked) {
                if self.under_way.remove(&errand) {
                    let pause = Pause::after(self.pauses.get(&errand).copied(), now);
                    self.pauses.insert(errand, pause);
                }
            }
            if !stands.partitions.is_empty() || !stands.groups.is_empty() {
                written.push((id, stands));
            }
        }
        written
    }
}

/// What was asked for and is said to stand.
fn standing(asked: &TransactionMarkers, outcome: &MarkerOutcome) -> TransactionMarkers {
    let said = PartitionSet::from_wire(&outcome.partitions);
    let partitions = PartitionSet::from_wire(&asked.partitions).shared_with(&said).to_wire();
    let groups = asked.groups.iter().filter(|group| outcome.groups.contains(group)).cloned().collect();
    TransactionMarkers { partitions, groups, ..asked.clone() }
}

fn errands(markers: &TransactionMarkers) -> impl Iterator<Item = Errand> {
    let partitions = PartitionSet::from_wire(&markers.partitions);
    let partitions: Vec<Place<'_>> = partitions.iter().map(|(topic, at)| Place::Partition(*topic, *at)).collect();
    let groups = markers.groups.iter().map(|group| Place::Group(group));
    partitions.into_iter().chain(groups).map(|place| Errand::new(&markers.identity, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);

    fn ending(id: &str, producer: i64) -> Ending<'_> {
        let identity = ProducerIdentity { producer_id: ProducerId(producer), epoch: ProducerEpoch(1) };
        Ending { transactional_id: id, identity, commit: true, own_epoch: false }
    }

    fn at(partition: u32) -> Place<'static> {
        Place::Partition(TopicId([1; 16]), PartitionId(partition))
    }

    /// Even partitions and groups are A's, odd ones B's.
    fn whose(place: Place<'_>) -> Whose {
        match place {
            Place::Partition(_, partition) if partition.0 % 2 == 1 => Whose::Broker(B),
            _ => Whose::Broker(A),
        }
    }

    fn plan(dispatch: &mut Dispatch, pending: &[(&str, Place<'_>)], now: Instant) -> Plan {
        let show = |visit: &mut dyn FnMut(&Ending<'_>, Place<'_>)| {
            for (id, place) in pending {
                visit(&ending(id, i64::from(id.as_bytes()[0])), *place);
            }
        };
        dispatch.plan(show, whose, now)
    }

    fn places(batch: &Batch) -> usize {
        batch.markers.iter().map(|(_, markers)| errands(markers).count()).sum()
    }

    /// All of it stands.
    fn yes(batch: &Batch) -> Outcome {
        let outcome = |(_, markers): &(String, TransactionMarkers)| MarkerOutcome {
            partitions: markers.partitions.clone(),
            groups: markers.groups.clone(),
            fault: None,
        };
        Outcome::Answered(batch.markers.iter().map(outcome).collect())
    }

    fn no(batch: &Batch) -> Outcome {
        let outcome = |_| MarkerOutcome { partitions: Vec::new(), groups: Vec::new(), fault: None };
        Outcome::Answered(batch.markers.iter().map(outcome).collect())
    }

    #[test]
    fn each_broker_hears_of_its_own_in_one_request_and_once() {
        let (mut dispatch, now) = (Dispatch::default(), Instant::now());
        let pending = [("x", at(0)), ("x", at(1)), ("x", Place::Group("g")), ("y", at(2))];
        let first = plan(&mut dispatch, &pending, now);
        let sizes: Vec<_> =
            first.batches.iter().map(|batch| (batch.broker, batch.markers.len(), places(batch))).collect();
        assert_eq!(sizes, [(A, 2, 3), (B, 1, 1)]);
        assert!(plan(&mut dispatch, &pending, now).batches.is_empty(), "they are under way");
        let [to_a, to_b] = <[Batch; 2]>::try_from(first.batches).unwrap();
        let outcome = yes(&to_a);
        let written = dispatch.done(to_a, outcome, now);
        assert_eq!(written.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        let outcome = yes(&to_b);
        assert_eq!(dispatch.done(to_b, outcome, now).len(), 1);
        assert!(dispatch.under_way.is_empty());
    }

    #[test]
    fn what_a_broker_did_not_take_pauses_and_keeps_nobody_from_his_turn() {
        let (mut dispatch, now) = (Dispatch::default(), Instant::now());
        let mut now = now;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let batch = plan(&mut dispatch, &[("x", at(0))], now).batches.pop().unwrap();
            let outcome = no(&batch);
            assert!(dispatch.done(batch, outcome, now).is_empty());
            let paused = plan(&mut dispatch, &[("x", at(0)), ("y", at(2))], now);
            assert_eq!(places(&paused.batches[0]), 1, "the other one leaves");
            let outcome = yes(&paused.batches[0]);
            dispatch.done(paused.batches.into_iter().next().unwrap(), outcome, now);
            let due_at = paused.due_at.unwrap();
            pauses.push(due_at - now);
            now = due_at;
        }
        assert_eq!(pauses[..3], [PAUSE_MIN, 2 * PAUSE_MIN, 4 * PAUSE_MIN]);
        assert_eq!(pauses[7], PAUSE_MAX);
    }

    #[test]
    fn a_broker_that_does_not_answer_is_left_alone_for_a_while_and_others_are_not() {
        let (mut dispatch, now) = (Dispatch::default(), Instant::now());
        let pending = [("x", at(0)), ("x", at(1))];
        let [to_a, to_b] = <[Batch; 2]>::try_from(plan(&mut dispatch, &pending, now).batches).unwrap();
        dispatch.done(to_a, Outcome::Failed, now);
        dispatch.done(to_b, Outcome::Answered(Vec::new()), now);
        let paused = plan(&mut dispatch, &pending, now);
        assert!(paused.batches.is_empty(), "an answer about nothing is none");
        let later = paused.due_at.unwrap();
        assert_eq!(later, now + PAUSE_MIN);
        let again = plan(&mut dispatch, &pending, later).batches;
        assert_eq!(again.len(), 2);
    }

    #[test]
    fn requests_are_bounded_in_number_and_size() {
        let (mut dispatch, now) = (Dispatch::default(), Instant::now());
        let pending: Vec<_> = (0..6_000).map(|at_| ("x", at(2 * at_))).collect();
        let mut taken = Vec::new();
        for _ in 0..REQUESTS_MAX {
            taken.extend(plan(&mut dispatch, &pending, now).batches);
        }
        assert_eq!(taken.iter().map(places).collect::<Vec<_>>(), [PLACES_MAX; REQUESTS_MAX]);
        assert!(plan(&mut dispatch, &pending, now).batches.is_empty(), "as many as may be");
        let batch = taken.pop().unwrap();
        let outcome = yes(&batch);
        dispatch.done(batch, outcome, now);
        assert_eq!(plan(&mut dispatch, &pending, now).batches.len(), 1);
    }

    #[test]
    fn only_what_was_asked_is_believed() {
        let (mut dispatch, now) = (Dispatch::default(), Instant::now());
        let batch = plan(&mut dispatch, &[("x", at(0))], now).batches.pop().unwrap();
        let Outcome::Answered(mut outcomes) = yes(&batch) else { unreachable!() };
        outcomes[0].partitions[0].partitions.push(PartitionId(4));
        outcomes[0].groups.push("g".into());
        let asked = batch.markers[0].1.clone();
        assert_eq!(dispatch.done(batch, Outcome::Answered(outcomes), now), [("x".to_owned(), asked)]);
    }

    #[test]
    fn a_group_without_a_home_asks_for_one() {
        let mut dispatch = Dispatch::default();
        let show = |visit: &mut dyn FnMut(&Ending<'_>, Place<'_>)| visit(&ending("x", 1), Place::Group("g"));
        let homeless = dispatch.plan(show, |_| Whose::Homeless, Instant::now());
        assert_eq!((homeless.groups_homeless.as_deref(), homeless.batches.len()), (Some("g"), 0));
        let nobody = dispatch.plan(show, |_| Whose::Nobody, Instant::now());
        assert_eq!((nobody.groups_homeless, nobody.batches.len(), nobody.due_at), (None, 0, None));
    }
}
