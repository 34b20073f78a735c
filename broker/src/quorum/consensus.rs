//! The quorum: proposals become settled on a majority of the voters, the image follows, and one member leads. Knows nothing of what
//! the records mean, nor of how the other members are reached.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::error::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{RaftMetrics, ServerState, SnapshotPolicy};
use tidelog_coordination::confirmation::{Confirmation, FAITHFUL_MS};
use tidelog_coordination::{ClusterImage, MetadataRecord};
use tidelog_log::AppendError;
use tidelog_protocol::MetadataIndex;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::abdication::Reach;
use super::attendance::Attendance;
use super::campaign::{self, VOTE_MS};
use super::entry_batch::{ENTRY_BYTES_MAX, pack};
use super::journal::WriteError;
use super::journal_thread::{Closed, JournalHandle};
use super::log_store::LogStore;
use super::network::PeerNetwork;
use super::quorum_error::QuorumError;
use super::raft_types::{Address, Member, Outcome, Position, Proposal, RaftTypes};
use super::role::{Leading, Role, leader_of, role_of};
use super::rpc::Arriving;
use super::storage::QuorumStorage;
use super::whereabouts::Whereabouts;
use crate::clock;
use crate::peer::Peers;

/// How often a leader lets the others know that it is there, which is also how long it waits for their answer.
const HEARTBEAT_MS: u64 = 200;
/// How long a snapshot may take on its way to a lagging member.
const SNAPSHOT_MS: u64 = 30_000;
/// Entries after which a snapshot is made, and how many of those in it stay in the log for members that lag a little.
const SNAPSHOT_ENTRIES: (u64, u64) = (2_000, 100);
/// Bytes of records after which a snapshot is made: what a start has to apply again.
const SNAPSHOT_BYTES: u64 = 4 << 20;
/// A member that lags further than this gets a snapshot in place of entries.
const LAG_ENTRIES: u64 = 4_000;
/// Entries sent to another member at once.
const SENT_ENTRIES: u64 = 64;
/// How long a proposal may take. Longer than any hiccup of a healthy quorum.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a majority may take to say who leads.
const CONFIRM_PATIENCE: Duration = Duration::from_millis(400);
/// A leader that has not heard from a majority for so long does not even try.
const SILENCE_MS: u64 = 3 * FAITHFUL_MS;
/// What an entry takes besides its records, at most.
const ENTRY_OVERHEAD_BYTES: usize = 4 << 10;

/// A member of the quorum, for display and for dialling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Who.
    pub member: Member,
    /// Where.
    pub address: Address,
    /// Whether it votes, or only learns.
    pub is_voter: bool,
}

/// The metadata quorum as one broker takes part in it: propose, watch, role.
#[derive(Clone, Debug)]
pub struct Quorum {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) raft: openraft::Raft<RaftTypes>,
    storage: QuorumStorage,
    role: watch::Receiver<Role>,
    /// That this member leads, as far as the others confirm it.
    pub(super) confirmation: parking_lot::Mutex<Confirmation>,
    /// The task that keeps the role in step.
    watch: parking_lot::Mutex<Option<JoinHandle<()>>>,
    /// A snapshot that another member is sending.
    pub(super) arriving: Mutex<Option<Arriving>>,
    /// One change of the membership at a time.
    pub(super) changing: Mutex<()>,
    /// Whether it has not heard of the leader for so long that it would stand for election; where it leads, whether it keeps silent.
    misses_leader: watch::Sender<bool>,
    /// Whether this broker reaches who leads.
    pub(super) reach: parking_lot::Mutex<Reach>,
    /// Who takes what is sent from here, while this member leads.
    pub(super) attendance: Attendance,
    /// Where members told that they are.
    pub(super) whereabouts: Whereabouts,
    /// It is about to stop: where it leads it keeps silent.
    is_leaving: AtomicBool,
}

impl Shared {
    /// Whether the leader is missed from now on, or is this broker and keeps silent.
    pub(super) fn misses_leader(&self, misses: bool) {
        self.misses_leader.send_if_modified(|missed| std::mem::replace(missed, misses) != misses);
    }

    /// Whether a leader lets the others know that it is there, which keeps them from electing another.
    pub(super) fn speaks(&self, speaks: bool) {
        self.raft.runtime_config().heartbeat(speaks && !self.is_leaving.load(Ordering::Relaxed));
    }

    /// The metadata as they stand here.
    pub(super) fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.storage.machine.image()
    }

    /// The log here.
    pub(super) fn journal(&self) -> JournalHandle {
        self.storage.journal.clone()
    }

    /// Its last entry.
    pub(super) async fn last_entry(&self) -> Result<Option<Position>, Closed> {
        self.storage.journal.ask(|journal| journal.last()).await
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quorum").field("member", &self.storage.member).field("role", &*self.role.borrow()).finish()
    }
}

/// Whether a broker whose folder never held metadata makes a cluster of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// It does.
    Found,
    /// It waits to be taken in by another.
    Join,
}

impl Quorum {
    /// Takes part from now on.
    ///
    /// # Errors
    /// [`QuorumError`].
    pub async fn start(storage: QuorumStorage, peers: Peers, beginning: Beginning) -> Result<Self, QuorumError> {
        let (attendance, whereabouts) = (Attendance::default(), Whereabouts::default());
        let network = PeerNetwork::new(peers, storage.machine.image(), whereabouts.clone(), attendance.clone());
        let config = openraft::Config {
            cluster_name: "tidelog".into(),
            heartbeat_interval: HEARTBEAT_MS,
            election_timeout_min: VOTE_MS,
            election_timeout_max: FAITHFUL_MS,
            // When to stand says `campaign`.
            enable_elect: false,
            install_snapshot_timeout: SNAPSHOT_MS,
            max_payload_entries: SENT_ENTRIES,
            replication_lag_threshold: LAG_ENTRIES,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES.0),
            max_in_snapshot_log_to_keep: SNAPSHOT_ENTRIES.1,
            purge_batch_size: SNAPSHOT_ENTRIES.1,
            ..openraft::Config::default()
        };
        let config = config.validate().map_err(|error| QuorumError::Start(error.to_string()))?;
        let member = storage.member;
        let store = LogStore::new(storage.journal.clone(), storage.machine.clone());
        let raft = openraft::Raft::new(member, Arc::new(config), network.clone(), store, storage.machine.clone()).await;
        let raft = raft.map_err(QuorumError::unreadable)?;
        // Until its core runs, it reports the metrics of one who knows no members, and nobody would be alone.
        raft.with_raft_state(|_| ()).await.map_err(QuorumError::unreadable)?;
        if storage.is_fresh() && beginning == Beginning::Found {
            let founders = BTreeMap::from([(member, storage.address.clone())]);
            match raft.initialize(founders).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(QuorumError::Start(error.to_string())),
            }
        } else {
            stand_if_alone(&raft, member).await?;
        }
        let metrics = raft.metrics();
        let (role, watched) = watch::channel(Role::Follower { leader: None });
        let shared = Arc::new(Shared {
            raft,
            storage,
            role: watched,
            confirmation: parking_lot::Mutex::default(),
            watch: parking_lot::Mutex::default(),
            arriving: Mutex::default(),
            changing: Mutex::default(),
            misses_leader: watch::Sender::new(false),
            reach: parking_lot::Mutex::default(),
            attendance,
            whereabouts,
            is_leaving: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&shared);
        let (follow, campaign) = (
            follow(weak.clone(), (metrics.clone(), shared.misses_leader.subscribe()), role),
            campaign::run(weak, metrics, (member, network)),
        );
        *shared.watch.lock() = Some(tokio::spawn(async move {
            tokio::join!(follow, campaign);
        }));
        Ok(Self { shared })
    }

    /// The image and its changes.
    #[must_use]
    pub fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.image()
    }

    /// Which member this is.
    #[must_use]
    pub fn member(&self) -> Member {
        self.shared.storage.member
    }

    /// The task that keeps the role in step, for whoever looks after it; once.
    pub(crate) fn take_watch(&self) -> Option<JoinHandle<()>> {
        self.shared.watch.lock().take()
    }

    /// What this broker is.
    #[must_use]
    pub fn role(&self) -> Role {
        *self.shared.role.borrow()
    }

    /// What this broker is, and its changes.
    #[must_use]
    pub fn roles(&self) -> watch::Receiver<Role> {
        self.shared.role.clone()
    }

    /// Everyone who belongs to the quorum, as far as this broker knows.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let stored = self.shared.raft.metrics().borrow().membership_config.clone();
        let membership = stored.membership();
        let status = |(member, address): (&Member, &Address)| MemberStatus {
            member: *member,
            address: address.clone(),
            is_voter: membership.voter_ids().any(|voter| voter == *member),
        };
        membership.nodes().map(status).collect()
    }

    /// The member that leads, if one is known.
    #[must_use]
    pub fn leader(&self) -> Option<Member> {
        leader_of(&self.shared.raft.metrics().borrow(), *self.shared.misses_leader.borrow())
    }

    /// The member that leads and where it can be dialled, if that is another and known.
    #[must_use]
    pub fn leader_elsewhere(&self) -> Option<(Member, Address)> {
        let leader = self.leader().filter(|leader| *leader != self.member())?;
        let address = self.members().into_iter().find(|known| known.member == leader)?.address;
        Some((leader, self.shared.whereabouts.of(&self.image().borrow(), leader, &address)))
    }

    /// Where a member can be dialled, by what is known of it last.
    #[must_use]
    pub fn address_of(&self, known: &MemberStatus) -> Address {
        self.shared.whereabouts.of(&self.image().borrow(), known.member, &known.address)
    }

    /// True where the quorum is this broker alone.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        matches!(&self.members()[..], [only] if only.member == self.member() && only.is_voter)
    }

    /// Makes the records hold, all or none, if the image that they were decided on is still the newest: they are durable on a
    /// majority and in the image when this returns.
    ///
    /// # Errors
    /// [`QuorumError`]; nothing holds then, but for [`QuorumError::Unknown`].
    pub async fn propose(
        &self,
        decided_on: MetadataIndex,
        records: Vec<MetadataRecord>,
    ) -> Result<MetadataIndex, QuorumError> {
        self.check_running()?;
        if let Role::Follower { leader } = self.role() {
            return Err(QuorumError::NotLeader { leader });
        }
        if let Some(silent_ms) = self.silent_ms() {
            return Err(QuorumError::NoQuorum { silent_ms });
        }
        // The image first: what does not follow from it must never become durable.
        let mut image = (**self.image().borrow()).clone();
        if image.as_of() != decided_on {
            return Err(QuorumError::Superseded);
        }
        let next = MetadataIndex(image.as_of().0 + 1);
        records.iter().for_each(|record| image.apply(next, record));
        drop(image);
        let records = pack(&records);
        let (bytes, limit) = (records.len() + ENTRY_OVERHEAD_BYTES, ENTRY_BYTES_MAX);
        if bytes > limit {
            return Err(QuorumError::TooLarge { bytes, limit });
        }
        // Nothing was proposed where that takes too long; but a disk that hangs may be at it still.
        let reserved = tokio::time::timeout(PATIENCE, self.reserve(bytes as u64)).await;
        reserved.unwrap_or(Err(QuorumError::Unknown))?;
        let written = self.shared.raft.client_write(Proposal { decided_on, records });
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(written)) => match written.data {
                Outcome::Applied(index) => Ok(index),
                Outcome::Superseded | Outcome::Nothing => Err(QuorumError::Superseded),
            },
            // Also what a proposal hears that was under way when another leader came: it may still hold.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(QuorumError::Unknown),
            Ok(Err(RaftError::APIError(error))) => Err(QuorumError::Failed { why: error.to_string() }),
            Ok(Err(RaftError::Fatal(fatal))) => Err(QuorumError::failed(fatal)),
            Err(_) => Err(QuorumError::Unknown),
        }
    }

    /// How long a leader has not heard from a majority, where that is too long.
    pub(super) fn silent_ms(&self) -> Option<u64> {
        self.shared.raft.metrics().borrow().millis_since_quorum_ack.filter(|ms| *ms > SILENCE_MS)
    }

    /// Makes sure that this broker leads now: a majority of the voters says so.
    pub async fn confirm(&self) -> bool {
        if *self.shared.misses_leader.borrow() {
            return false;
        }
        let asked = self.shared.confirmation.lock().ask(clock::monotonic());
        let confirmed = tokio::time::timeout(CONFIRM_PATIENCE, self.shared.raft.get_read_log_id()).await;
        matches!(confirmed, Ok(Ok(_))) && self.shared.confirmation.lock().confirmed(asked)
    }

    /// The leader has answered what this broker asked.
    pub fn reaches(&self, leader: Member) {
        self.shared.reach.lock().answered(leader);
    }

    /// The leader was asked in vain.
    pub fn does_not_reach(&self, leader: Member) {
        self.shared.reach.lock().failed(leader, std::time::Instant::now());
    }

    /// How long a lease may be that is given now, where one of `lease_ms` is due; `None` where this broker has not made sure lately that
    /// it leads.
    #[must_use]
    pub fn lease_ms(&self, lease_ms: u64) -> Option<u64> {
        self.shared.confirmation.lock().lease_ms(clock::monotonic(), lease_ms)
    }

    /// Waits until this broker leads, for as long as it has no other to wait for.
    ///
    /// # Errors
    /// [`QuorumError::OutOfService`] or [`QuorumError::Closed`] where it never will.
    pub async fn leads(&self) -> Result<(), QuorumError> {
        let mut role = self.roles();
        let mut metrics = self.shared.raft.metrics();
        while !matches!(*role.borrow_and_update(), Role::Leader { .. }) {
            self.check_running()?;
            tokio::select! {
                changed = role.changed() => changed.map_err(|_| QuorumError::Closed)?,
                changed = metrics.changed() => changed.map_err(|_| QuorumError::Closed)?,
            }
        }
        Ok(())
    }

    /// This broker is about to stop: where it leads, the others shall elect another while the leases that it gave still hold. What is settled already
    /// they have heard.
    pub fn leave(&self) {
        self.shared.is_leaving.store(true, Ordering::Relaxed);
        self.shared.speaks(false);
    }

    /// Whether this broker is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.shared.is_leaving.load(Ordering::Relaxed)
    }

    /// Takes no part any more; flushes and closes what lies in the data folder.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub async fn close(&self) -> Result<(), QuorumError> {
        let journal = &self.shared.storage.journal;
        journal.stop_waiting();
        let ended = self.shared.raft.shutdown().await;
        match journal.close().await {
            Ok(Ok(())) => ended.map_err(|error| QuorumError::Failed { why: error.to_string() }),
            Ok(Err(error)) => Err(QuorumError::Failed { why: error.to_string() }),
            Err(_) => Err(QuorumError::Closed),
        }
    }

    fn check_running(&self) -> Result<(), QuorumError> {
        self.shared.raft.metrics().borrow().running_state.clone().map_err(QuorumError::out_of_service)
    }

    /// Why no proposal is taken any more.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self.shared.raft.metrics().borrow().running_state.clone() {
            Ok(()) | Err(Fatal::Stopped) => None,
            Err(fatal) => Some(fatal.to_string()),
        }
    }

    async fn reserve(&self, bytes: u64) -> Result<(), QuorumError> {
        match self.shared.storage.journal.ask(move |journal| journal.reserve(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.is_transient() => Err(QuorumError::Full(error)),
            Ok(Err(WriteError::Append(AppendError::TooLarge { bytes, segment_bytes }))) => {
                Err(QuorumError::TooLarge { bytes: bytes as usize, limit: segment_bytes as usize })
            }
            Ok(Err(error)) => Err(QuorumError::OutOfService { why: error.to_string() }),
            Err(_) => Err(QuorumError::Closed),
        }
    }
}

/// Nobody else could stand for election, so nobody has to be waited for.
async fn stand_if_alone(raft: &openraft::Raft<RaftTypes>, member: Member) -> Result<(), QuorumError> {
    let alone = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let alone = metrics.membership_config.voter_ids().eq([member]);
        alone && metrics.state != ServerState::Leader
    };
    if alone {
        raft.trigger().elect().await.map_err(QuorumError::failed)?;
    }
    Ok(())
}

/// Keeps the role in step with what the consensus library reports, and asks for a snapshot where much was applied since the last.
async fn follow(
    quorum: Weak<Shared>,
    (mut metrics, mut misses): (watch::Receiver<RaftMetrics<Member, Address>>, watch::Receiver<bool>),
    role: watch::Sender<Role>,
) {
    let mut leading: Option<Leading> = None;
    let mut asked_for_snapshot = None;
    loop {
        let (seen, snapshot) = {
            let metrics = metrics.borrow_and_update();
            leading = Leading::seen(leading, &metrics);
            (role_of(leading, &metrics, *misses.borrow_and_update()), metrics.snapshot)
        };
        role.send_if_modified(|role| std::mem::replace(role, seen) != seen);
        let Some(shared) = quorum.upgrade() else { return };
        if shared.storage.machine.bytes_since_snapshot() > SNAPSHOT_BYTES && asked_for_snapshot != Some(snapshot) {
            asked_for_snapshot = Some(snapshot);
            if shared.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        drop(shared);
        let changed = tokio::select! {
            changed = metrics.changed() => changed,
            changed = misses.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
