//! Brokers: they start, lose their lease, come back, shut down, are removed; and one of them begins to run the controller. Knows
//! nothing of heartbeats and clocks, see [`crate::leases`]; what becomes of a partition is decided in `election`.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerEpoch, BrokerId, ControllerEpoch, Durability, ErrorCode, FolderStamp};

use crate::changes::everywhere;
use crate::command::{Admission, Refusal, RegisterBroker, Registration, Reply};
use crate::controller::Decided;
use crate::counted;
use crate::election::{Departure, Liveness, Standing};
use crate::image::{BrokerImage, ClusterImage};
use crate::records::{
    BrokerFenced, BrokerLeaving, BrokerRegistered, BrokerRemoved, BrokerUnfenced, ControllerEpochBegun, FOLDER_STAMPS,
    FolderStamped, MetadataRecord, PartitionChanged, PartitionCreated, PartitionState,
};

/// A broker that leads the metadata quorum takes office. A restarted leader of the quorum may keep its term, so that alone
/// would not tell its decisions from those of its earlier life.
pub(crate) fn begin_controller_epoch(image: &ClusterImage, broker_id: BrokerId) -> Decided {
    let epoch = ControllerEpoch(image.controller_epoch().0 + 1);
    (vec![ControllerEpochBegun { epoch, broker_id }.into()], Reply::ControllerEpochBegun { epoch })
}

/// Every start of a broker ends what it led. After a crash its log may have lost a tail that was not flushed; under the old
/// epoch other records could take the same offsets, and neither consumers nor followers could tell (KIP-101, KIP-320).
pub(crate) fn register(image: &ClusterImage, register: &RegisterBroker) -> Result<Decided, Refusal> {
    let broker_id = register.broker_id;
    let epoch = BrokerEpoch(image.last_broker_epoch().0 + 1);
    let known = image.broker(broker_id);
    if let Some(known) = known
        && known.incarnation != register.incarnation
        && !known.fenced
    {
        return Err(id_is_taken(known, register));
    }
    // What an earlier life of the folder asked, and what comes late of it, says the same as a copy does. Only a copy asks again.
    if let Some(known) = known.filter(|known| is_older_copy(known, register))
        && register.older_than != Some(known.epoch)
    {
        return Ok((Vec::new(), Reply::FolderIsOlder { than: known.epoch }));
    }
    let fenced = register.admission == Admission::AfterHeartbeat;
    let RegisterBroker { incarnation, host, port, rack, .. } = register.clone();
    let draining = known.is_some_and(|known| known.draining);
    // Earlier releases could not read it.
    let newest = register.stamps.last().copied().filter(|_| image.feature_level() >= FOLDER_STAMPS);
    let older_than = known.filter(|known| is_older_copy(known, register));
    // The newest folder may be put back, as long as nothing counts on the copy.
    let (stamp, copy) = older_than.map_or((newest, None), |known| (known.stamp, newest));
    let leaving = false;
    let registered =
        BrokerRegistered { broker_id, epoch, incarnation, host, port, rack, fenced, draining, leaving, stamp, copy };
    let mut records: Vec<MetadataRecord> = vec![registered.into()];

    let standing = if fenced { Standing::Gone } else { Standing::Live };
    let live = Liveness::with(image, broker_id, standing);
    records.extend(everywhere(image, live, held_by(broker_id), |topic, seating| {
        if older_than.is_some() {
            return seating.leave(broker_id, Departure::Unreadable).elect();
        }
        let departure = departure(known, register, topic.config.durability);
        seating.look_again(broker_id).leave(broker_id, departure).elect()
    }));
    Ok((records, Reply::BrokerRegistered { epoch }))
}

/// Whether the folder is one of before: the cluster heard a stamp that it does not know, though each is noted there before it is told.
fn is_older_copy(known: &BrokerImage, register: &RegisterBroker) -> bool {
    known.incarnation == register.incarnation && is_older(known, &register.stamps)
}

fn is_older(known: &BrokerImage, stamps: &[FolderStamp]) -> bool {
    known.stamp.is_some_and(|last| !stamps.contains(&last))
}

/// Brokers that come to be in sync with something though they run on an older copy of their folder: from then on that is their folder, and the one before would
/// be the older one.
pub(crate) fn copies_that_count(image: &ClusterImage, records: &[MetadataRecord]) -> Vec<MetadataRecord> {
    let copies = image.brokers().filter_map(|broker| broker.copy.map(|copy| (broker.broker_id, broker.epoch, copy)));
    let starts = |id: BrokerId| {
        records.iter().any(|record| matches!(record, MetadataRecord::BrokerRegistered(new) if new.broker_id == id))
    };
    let counts = |id: BrokerId| {
        let states = records.iter().filter_map(|record| match record {
            MetadataRecord::PartitionCreated(PartitionCreated { state, .. })
            | MetadataRecord::PartitionChanged(PartitionChanged { state, .. }) => Some(state),
            _ => None,
        });
        states.into_iter().any(|state| state.in_sync.contains(&id) && state.unreadable != Some(id))
    };
    let now = copies.filter(|(id, ..)| !starts(*id) && counts(*id));
    now.map(|(broker_id, epoch, stamp)| FolderStamped { broker_id, epoch, stamp }.into()).collect()
}

/// What a broker that starts still holds of what it was known to hold.
fn departure(known: Option<&BrokerImage>, register: &RegisterBroker, durability: Durability) -> Departure {
    let Some(known) = known else { return Departure::Complete };
    if known.incarnation != register.incarnation {
        return Departure::Emptied;
    }
    // The mark of an older registration proves nothing: the folder may come from a backup.
    let clean = register.closed_cleanly == Some(known.epoch);
    match durability {
        Durability::Flushed => Departure::Complete,
        Durability::Written if clean => Departure::Complete,
        Durability::Written => Departure::TailLost,
    }
}

fn id_is_taken(known: &BrokerImage, register: &RegisterBroker) -> Refusal {
    let message = format!(
        "broker {} serves from the data folder {}, and this one is {}: give this broker an id of its own; if the other is \
         gone for good, try again once its lease has ended",
        known.broker_id, known.incarnation, register.incarnation
    );
    Refusal::new(ErrorCode::BrokerIdTaken, message)
}

/// The lease of a broker ended.
pub(crate) fn fence(image: &ClusterImage, asked: Registration) -> Result<Decided, Refusal> {
    let broker = registered(image, asked)?;
    if broker.fenced {
        return Ok((Vec::new(), Reply::Done));
    }
    Ok((fencing(image, asked), Reply::Done))
}

fn fencing(image: &ClusterImage, asked: Registration) -> Vec<MetadataRecord> {
    let Registration { broker_id, epoch } = asked;
    let mut records: Vec<MetadataRecord> = vec![BrokerFenced { broker_id, epoch }.into()];
    let live = Liveness::with(image, broker_id, Standing::Gone);
    // Whether it lost anything shows when it registers again; until then it is not elected.
    records.extend(everywhere(image, live, held_by(broker_id), |_, seating| {
        seating.leave(broker_id, Departure::Complete).elect()
    }));
    records
}

/// The folder of a broker knows another stamp.
pub(crate) fn stamp(image: &ClusterImage, asked: Registration, stamps: &[FolderStamp]) -> Result<Decided, Refusal> {
    let broker = registered(image, asked)?;
    let Registration { broker_id, epoch } = asked;
    if is_older(broker, stamps) {
        let message =
            format!("the folder of broker {broker_id} has known another stamp since: only its newest may be told");
        return Err(Refusal::new(ErrorCode::FencedBroker, message));
    }
    let newest = stamps.last().copied().filter(|newest| broker.stamp != Some(*newest));
    let records = newest.map(|stamp| FolderStamped { broker_id, epoch, stamp }.into());
    Ok((records.into_iter().collect(), Reply::Done))
}

/// A fenced broker is heard of again.
pub(crate) fn unfence(image: &ClusterImage, asked: Registration) -> Result<Decided, Refusal> {
    let broker = registered(image, asked)?;
    if broker.leaving {
        let message = format!("broker {} has shut down; it registers anew when it starts", asked.broker_id);
        return Err(Refusal::new(ErrorCode::FencedBroker, message));
    }
    if !broker.fenced {
        return Ok((Vec::new(), Reply::Done));
    }
    let Registration { broker_id, epoch } = asked;
    let mut records: Vec<MetadataRecord> = vec![BrokerUnfenced { broker_id, epoch }.into()];
    let live = Liveness::with(image, broker_id, Standing::Live);
    let offline = |held: &PartitionState| held.leader.is_none() && held.replicas.contains(&broker_id);
    records.extend(everywhere(image, live, offline, |_, seating| seating.elect()));
    Ok((records, Reply::Done))
}

/// A broker wants to shut down.
pub(crate) fn shut_down(image: &ClusterImage, asked: Registration) -> Result<Decided, Refusal> {
    let broker = registered(image, asked)?;
    let Registration { broker_id, epoch } = asked;
    if broker.fenced {
        return Ok((Vec::new(), Reply::BrokerLeaving { still_leads: 0 }));
    }
    let mut records: Vec<MetadataRecord> = Vec::new();
    if !broker.leaving {
        records.push(BrokerLeaving { broker_id, epoch }.into());
    }
    let still_leads = needs_it(image, broker_id);
    if still_leads == 0 {
        records.extend(fencing(image, asked));
        return Ok((records, Reply::BrokerLeaving { still_leads }));
    }
    let live = Liveness::with(image, broker_id, Standing::Leaving);
    records.extend(everywhere(image, live, held_by(broker_id), |_, seating| seating.step_aside(broker_id)));
    Ok((records, Reply::BrokerLeaving { still_leads }))
}

/// How many partitions only `broker` can lead now, though others could once they have caught up.
fn needs_it(image: &ClusterImage, broker: BrokerId) -> u32 {
    let live = Liveness::with(image, broker, Standing::Leaving);
    let needs = |held: &&PartitionState| {
        let others = |list: &[BrokerId]| list.iter().any(|other| *other != broker && live.is_live(*other));
        let successor = others(&held.in_sync) || others(&held.eligible);
        held.leader == Some(broker) && !successor && others(&held.replicas)
    };
    image.topics().flat_map(|topic| &topic.partitions).filter(needs).count() as u32
}

/// A broker is gone for good.
pub(crate) fn remove(image: &ClusterImage, broker_id: BrokerId) -> Result<Decided, Refusal> {
    let broker = known(image, broker_id)?;
    let holds = held_by(broker_id);
    let held = || image.topics().flat_map(|topic| &topic.partitions).filter(|held| holds(held));
    let (replicas, leaving) = (held().count(), held().filter(|held| held.removing.contains(&broker_id)).count());
    let in_the_way = match (replicas, broker.fenced) {
        (0, true) => return Ok((vec![BrokerRemoved { broker_id }.into()], Reply::Done)),
        (0, false) => String::from("it still serves: stop it, and try again once its lease has ended"),
        _ if leaving == replicas => {
            format!(
                "what it holds is still being moved off it ({}): try again once that is done",
                counted(replicas, "replica")
            )
        }
        _ => format!("it holds {}: drain it first, or delete or reassign what it holds", counted(replicas, "replica")),
    };
    let message = format!("broker {broker_id} cannot be removed, {in_the_way}");
    Err(Refusal::new(ErrorCode::BrokerInUse, message))
}

fn held_by(broker: BrokerId) -> impl Fn(&PartitionState) -> bool {
    move |held| held.replicas.contains(&broker)
}

/// A broker of the cluster.
pub(crate) fn known(image: &ClusterImage, broker_id: BrokerId) -> Result<&BrokerImage, Refusal> {
    image.broker(broker_id).ok_or_else(|| {
        let ids: Vec<_> = image.brokers().map(|broker| format!("{}", broker.broker_id)).collect();
        let message = format!("there is no broker {broker_id}; registered are: {}", ids.join(", "));
        Refusal::new(ErrorCode::UnknownBroker, message)
    })
}

/// A broker whose newest registration this is.
pub(crate) fn registered(image: &ClusterImage, asked: Registration) -> Result<&BrokerImage, Refusal> {
    let broker = known(image, asked.broker_id)?;
    if broker.epoch == asked.epoch {
        return Ok(broker);
    }
    let message = format!(
        "broker {} is registered under epoch {}, not {}: only its newest life may ask; register anew",
        asked.broker_id, broker.epoch, asked.epoch
    );
    Err(Refusal::new(ErrorCode::FencedBroker, message))
}
