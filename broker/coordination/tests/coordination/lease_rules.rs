//! Leases on monotonic time: who is fenced when, and what it takes to come back.

use crate::cluster::{Cluster, Folder, code};
use tidelog_coordination::command::{Command, Registration};
use tidelog_coordination::confirmation::{HANDOVER_MS, OWN_LEASE_MS};
use tidelog_coordination::leases::{Answer, Heartbeat, Intent, LEASE_MS, Leases};
use tidelog_coordination::records::FeatureLevel;
use tidelog_protocol::{BrokerId, ErrorCode, MetadataIndex, Monotonic, ProtocolVersion};

/// A controller in office, with its leases.
struct Office {
    cluster: Cluster,
    leases: Leases,
}

impl Office {
    fn of(brokers: u32) -> Self {
        let cluster = Cluster::of(brokers);
        let leases = Leases::new(cluster.controller.image(), LEASE_MS, Monotonic(1_000));
        Self { cluster, leases }
    }

    /// The broker is heard of; what follows is done, and it is told.
    fn heard(&mut self, broker: u32, applied: MetadataIndex, intent: Intent, now: u64) -> Answer {
        let beat =
            Heartbeat { broker: self.cluster.registration(broker), applied, intent, speaks: ProtocolVersion::CURRENT };
        let command =
            self.leases.heartbeat(self.cluster.controller.image(), &beat, Monotonic(now)).expect("its newest life");
        if let Some(command) = command {
            self.cluster.ask(&command).expect("what follows is possible");
        }
        self.leases.follow(self.cluster.controller.image(), Monotonic(now));
        Answer::to(self.cluster.controller.image(), beat.broker).expect("it is known")
    }

    fn beats(&mut self, broker: u32, now: u64) -> Answer {
        let applied = self.cluster.controller.image().as_of();
        self.heard(broker, applied, Intent::Serve, now)
    }

    fn expired(&self, now: u64) -> Vec<u32> {
        self.leases.expired(Monotonic(now)).map(|lease| lease.broker_id.0).collect()
    }
}

const SERVES: Answer = Answer { fenced: false, may_shut_down: false };
const FENCED: Answer = Answer { fenced: true, may_shut_down: false };
const MAY_STOP: Answer = Answer { fenced: true, may_shut_down: true };

#[test]
fn a_new_controller_gives_everyone_a_whole_lease() {
    let mut office = Office::of(2);
    assert_eq!(office.leases.next_end(), Some(Monotonic(2_500)));
    assert_eq!(office.expired(2_499), []);
    assert_eq!(office.beats(2, 2_499), SERVES);
    assert_eq!(office.expired(2_500), [1]);
    assert_eq!(office.leases.left_ms(BrokerId(2), Monotonic(2_500)), Some(1_499));
    assert_eq!(office.expired(3_999), [1, 2]);
}

#[test]
fn who_ran_the_controller_before_has_only_what_may_be_left_of_its_lease() {
    let mut office = Office::of(3);
    office.leases.succeed(BrokerId(1));
    let left = OWN_LEASE_MS - HANDOVER_MS;
    assert_eq!(office.leases.next_end(), Some(Monotonic(1_000 + left)));
    assert_eq!(office.expired(1_000 + left - 1), []);
    assert_eq!(office.expired(1_000 + left), [1], "the others get a whole lease");
    // Once it is heard of it is as the others.
    assert_eq!(office.beats(1, 1_000 + left - 1), SERVES);
    office.leases.succeed(BrokerId(1));
    assert_eq!(office.expired(1_000 + LEASE_MS), [2, 3]);
    assert_eq!(office.leases.left_ms(BrokerId(1), Monotonic(1_000 + LEASE_MS)), Some(left - 1));
}

#[test]
fn who_was_fenced_comes_back_only_with_the_metadata_that_says_so() {
    let mut office = Office::of(2);
    office.cluster.topic_on("x", [1, 2], &[]);
    let before = office.cluster.controller.image().as_of();
    office.cluster.fence(1);
    office.leases.follow(office.cluster.controller.image(), Monotonic(3_000));
    assert_eq!(office.expired(9_000), [2], "who is fenced is not fenced again");
    assert_eq!(office.leases.left_ms(BrokerId(1), Monotonic(3_000)), None);
    // A paused leader wakes up: it must learn first that it leads no more.
    assert_eq!(office.heard(1, before, Intent::Serve, 3_100), FENCED);
    assert_eq!(office.beats(1, 3_200), SERVES);
    assert_eq!(office.cluster.leader("x"), Some(2));
    assert_eq!(office.leases.left_ms(BrokerId(1), Monotonic(3_200)), Some(LEASE_MS));
}

#[test]
fn a_broker_that_registers_serves_from_its_first_heartbeat_that_has_caught_up() {
    let mut office = Office::of(1);
    let before = office.cluster.controller.image().as_of();
    office.cluster.start(2, Folder::Clean);
    assert_eq!(office.heard(2, before, Intent::Serve, 1_100), FENCED);
    assert_eq!(office.beats(2, 1_200), SERVES);
}

#[test]
fn an_earlier_life_or_a_stranger_must_register() {
    let mut office = Office::of(1);
    let image = office.cluster.controller.image().clone();
    let beat =
        |broker| Heartbeat { broker, applied: image.as_of(), intent: Intent::Serve, speaks: ProtocolVersion::CURRENT };
    let old = office.cluster.registration(1);
    let stranger = Registration { broker_id: BrokerId(9), ..old };
    assert_eq!(code(office.leases.heartbeat(&image, &beat(stranger), Monotonic(1_100))), ErrorCode::UnknownBroker);
    office.cluster.start(1, Folder::Crashed);
    let image = office.cluster.controller.image().clone();
    let ended = office.expired(2_500);
    assert_eq!(code(office.leases.heartbeat(&image, &beat(old), Monotonic(2_400))), ErrorCode::FencedBroker);
    assert_eq!(ended, [1]);
    office.leases.follow(&image, Monotonic(2_400));
    assert_eq!(office.expired(2_500), [], "the new life is fenced by itself and has its own lease");
}

#[test]
fn who_wants_to_shut_down_is_told_when_everything_is_handed_over() {
    let mut office = Office::of(2);
    office.cluster.topic_on("x", [1, 2], &[]);
    office.cluster.alter("x", &[1]).unwrap();
    let applied = office.cluster.controller.image().as_of();
    assert_eq!(office.heard(1, applied, Intent::ShutDown, 1_100), SERVES);
    office.cluster.alter("x", &[1, 2]).unwrap();
    assert_eq!(office.heard(1, applied, Intent::ShutDown, 1_200), MAY_STOP);
    assert_eq!(office.cluster.leader("x"), Some(2));
    // Neither a repeated wish nor a late heartbeat brings it back.
    assert_eq!(office.heard(1, applied, Intent::ShutDown, 1_300), MAY_STOP);
    assert_eq!(office.beats(1, 1_400), MAY_STOP);
}

#[test]
fn a_removed_broker_has_no_lease() {
    let mut office = Office::of(2);
    office.cluster.fence(2);
    office.cluster.ask(&Command::RemoveBroker { broker_id: BrokerId(2) }).unwrap();
    office.leases.follow(office.cluster.controller.image(), Monotonic(1_100));
    assert_eq!(office.expired(9_000), [1]);
}

#[test]
fn who_was_never_heard_of_or_not_for_a_while_is_looked_for() {
    let mut office = Office::of(3);
    let silent = |office: &Office, now: u64| -> Vec<u32> {
        office.leases.silent(Monotonic(now), 400).map(|broker| broker.broker_id.0).collect()
    };
    assert_eq!(silent(&office, 1_000), [1, 2, 3], "a new controller has heard of nobody");
    office.beats(2, 1_100);
    office.leases.is_here(BrokerId(1), Monotonic(1_100));
    assert_eq!(silent(&office, 1_100), [3]);
    assert_eq!(silent(&office, 1_499), [3]);
    office.beats(3, 1_499);
    assert_eq!(silent(&office, 1_500), [1, 2]);
    office.cluster.ask(&Command::FenceBroker(office.cluster.registration(2))).unwrap();
    office.leases.follow(office.cluster.controller.image(), Monotonic(1_500));
    office.leases.is_here(BrokerId(1), Monotonic(1_500));
    assert_eq!(silent(&office, 1_800), Vec::<u32>::new(), "who is fenced already is waited for");
}

/// A broker that does not know a feature level stops at its first record.
#[test]
fn a_feature_level_begins_once_every_broker_knows_it() {
    let mut office = Office::of(3);
    let own = BrokerId(1);
    let spoken = |office: &mut Office, broker, speaks, now| {
        let (broker, applied) = (office.cluster.registration(broker), office.cluster.controller.image().as_of());
        let beat = Heartbeat { broker, applied, intent: Intent::Serve, speaks };
        assert_eq!(office.leases.heartbeat(office.cluster.controller.image(), &beat, Monotonic(now)), Ok(None));
    };
    let refused = |office: &Office, level| office.leases.may_begin(level, own).err().map(|refusal| refusal.code);
    assert_eq!(refused(&office, 1), Some(ErrorCode::NoQuorum), "nobody has spoken yet");
    spoken(&mut office, 2, ProtocolVersion::CURRENT, 1_100);
    spoken(&mut office, 3, ProtocolVersion(4), 1_100);
    assert_eq!((refused(&office, 4), refused(&office, 5)), (None, Some(ErrorCode::Unsupported)));
    let told = office.leases.may_begin(5, own).unwrap_err().message;
    assert!(told.starts_with("broker 3 runs a release"), "{told}");

    // Who is away comes back as it was; who is started again may be another release.
    office.cluster.fence(3);
    office.leases.follow(office.cluster.controller.image(), Monotonic(1_200));
    assert_eq!(refused(&office, 5), Some(ErrorCode::Unsupported));
    office.cluster.start(3, Folder::Crashed);
    office.leases.follow(office.cluster.controller.image(), Monotonic(1_300));
    assert_eq!(refused(&office, 5), None, "nobody waits for who does not serve");
    let by_itself = FeatureLevel::BEGINS_BY_ITSELF;
    assert_eq!(refused(&office, by_itself), Some(ErrorCode::NoQuorum), "but for what nobody asked for");
    let _ = office.beats(3, 1_400);
    assert_eq!((refused(&office, 5), refused(&office, by_itself)), (None, None));

    // The next controller knows nothing of what this one has heard.
    office.leases = Leases::new(office.cluster.controller.image(), LEASE_MS, Monotonic(1_500));
    assert_eq!(refused(&office, 5), Some(ErrorCode::NoQuorum));
}
