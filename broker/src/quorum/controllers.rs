//! Drives the pure controller: one command at a time, decided on the newest image, done when its records hold. Knows nothing of
//! how they come to hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog_coordination::{ClusterImage, Command, Controller, Decision, Reply};
use tidelog_protocol::{BrokerId, ErrorCode, MetadataIndex, WireError};
use tokio::sync::{Mutex, watch};

use super::consensus::Quorum;
use super::lease_book::LeaseBook;
use super::quorum_error::QuorumError;
use super::role::Role;
use crate::clock;
use crate::member::{Address, Member};

/// How long a majority may take to confirm that nothing is to be changed. Longer than any hiccup of a healthy quorum.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Pause before a majority is asked again.
const CONFIRM_PAUSE: Duration = Duration::from_millis(20);

/// The way to read and change metadata.
#[derive(Clone, Debug)]
pub struct Controllers {
    quorum: Quorum,
    /// The leadership for which this broker has begun a controller's epoch. Held while something is decided: a decision must see the
    /// records of the one before it.
    office: Arc<Mutex<Option<u64>>>,
    /// The same, to be read while something is decided; 0 before the first.
    in_office: Arc<AtomicU64>,
    leases: Arc<LeaseBook>,
}

impl Controllers {
    /// Over a quorum.
    #[must_use]
    pub fn new(quorum: Quorum) -> Self {
        Self { quorum, office: Arc::default(), in_office: Arc::default(), leases: Arc::default() }
    }

    /// The newest image.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.quorum.image().borrow().clone()
    }

    /// The image and its changes.
    #[must_use]
    pub fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.quorum.image()
    }

    /// The leases that are given here.
    pub(super) fn leases(&self) -> &LeaseBook {
        &self.leases
    }

    /// The quorum that makes metadata hold.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Whether the controller runs here.
    #[must_use]
    pub fn role(&self) -> Role {
        self.quorum.role()
    }

    /// Whether the controller runs here, and changes of that.
    #[must_use]
    pub fn roles(&self) -> watch::Receiver<Role> {
        self.quorum.roles()
    }

    /// The broker that runs the controller and where it can be dialled, if that is another and known.
    #[must_use]
    pub fn leader_elsewhere(&self) -> Option<(Member, Address)> {
        self.quorum.leader_elsewhere()
    }

    /// The broker that runs the controller, if it is known.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        match self.quorum.role() {
            Role::Leader { broker, .. } => Some(broker),
            Role::Follower { leader } => leader,
        }
    }

    /// Why metadata cannot be changed any more.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.quorum.failure()
    }

    /// Does what the command says. Gives the answer and the metadata index as of which it holds.
    ///
    /// # Errors
    /// What the controller's rules say; StorageFull or OutOfService where the metadata log takes nothing; StorageFailed where it failed on
    /// the way, and whether the change holds is unknown until the next start.
    pub async fn submit(&self, command: Command) -> Result<(Reply, MetadataIndex), WireError> {
        // In a task of its own: whoever stops waiting must not give the turn away while its records are still on their way.
        let controllers = self.clone();
        let decided = tokio::spawn(async move { controllers.decide(command).await }).await;
        decided.unwrap_or_else(|_| {
            let sentence = "the controller met a state it did not expect; whether the change holds is unknown";
            Err(WireError::new(ErrorCode::Internal, sentence))
        })
    }

    /// Begins a controller's epoch where this broker leads and has not done so yet, so that whoever led before is known to be
    /// superseded even while nothing is asked for. Where it has, this waits for no decision that is under way: leases must go on meanwhile.
    ///
    /// # Errors
    /// As [`Controllers::submit`].
    pub async fn take_office(&self) -> Result<(), WireError> {
        if let Role::Leader { term, .. } = self.quorum.role()
            && self.in_office.load(Ordering::Acquire) == term
        {
            return Ok(());
        }
        let mut office = self.office.lock().await;
        self.hold_office(&mut office).await
    }

    async fn decide(&self, command: Command) -> Result<(Reply, MetadataIndex), WireError> {
        let mut office = self.office.lock().await;
        self.hold_office(&mut office).await?;
        self.settle(&command).await
    }

    async fn hold_office(&self, office: &mut Option<u64>) -> Result<(), WireError> {
        match self.quorum.role() {
            Role::Leader { term, .. } if *office == Some(term) => Ok(()),
            Role::Leader { term, broker } => {
                self.take_over(term, &self.image());
                self.settle(&Command::BeginControllerEpoch { broker_id: broker }).await?;
                *office = Some(term);
                self.in_office.store(term, Ordering::Release);
                Ok(())
            }
            // Its image may be old: it must not even say no.
            Role::Follower { leader } => match self.quorum.failure() {
                Some(why) => Err(wire_error(&QuorumError::OutOfService { why })),
                None => Err(wire_error(&QuorumError::NotLeader { leader })),
            },
        }
    }

    /// What would come of the command. Nothing does.
    ///
    /// # Errors
    /// What the controller's rules say; NotController where it is elsewhere, NoQuorum where that cannot be told.
    pub async fn plan(&self, command: &Command) -> Result<(Reply, MetadataIndex), WireError> {
        self.take_office().await?;
        loop {
            let image = self.image();
            let decision = Controller::new((*image).clone()).handle(command, clock::now());
            let decision = decision.map_err(WireError::from).and_then(|decision| self.allow_level(decision));
            self.confirm().await?;
            if self.image().as_of() == image.as_of() {
                return Ok((decision?.reply, image.as_of()));
            }
        }
    }

    /// Makes sure that the controller runs here now, which a majority has to say: what was read before holds then. Whoever was cut off
    /// must not even say no, for another may have decided since.
    ///
    /// # Errors
    /// NotController where it does not; NoQuorum where no majority says so.
    pub async fn confirm(&self) -> Result<(), WireError> {
        let began = Instant::now();
        loop {
            if self.quorum.confirm().await {
                return Ok(());
            }
            if let Role::Follower { leader } = self.quorum.role() {
                return Err(wire_error(&QuorumError::NotLeader { leader }));
            }
            let silent_ms = self.quorum.silent_ms();
            if silent_ms.is_some() || began.elapsed() > CONFIRM_WITHIN {
                let silent_ms = silent_ms.unwrap_or_else(|| began.elapsed().as_millis() as u64);
                return Err(wire_error(&QuorumError::NoQuorum { silent_ms }));
            }
            // Refused at once where another has just been elected, which shows in a moment.
            tokio::time::sleep(CONFIRM_PAUSE).await;
        }
    }

    async fn settle(&self, command: &Command) -> Result<(Reply, MetadataIndex), WireError> {
        loop {
            let image = self.image();
            let decision = match Controller::new((*image).clone()).handle(command, clock::now()) {
                Ok(decision) if !decision.records.is_empty() => self.allow_level(decision)?,
                // "No" and "it is so already" are decisions, too.
                nothing_to_do => {
                    self.confirm().await?;
                    if self.image().as_of() != image.as_of() {
                        continue;
                    }
                    return Ok((nothing_to_do?.reply, image.as_of()));
                }
            };
            match self.quorum.propose(image.as_of(), decision.records).await {
                Ok(index) => return Ok((decision.reply, index)),
                // Something that was under way before is settled now; what was decided without it is void.
                Err(QuorumError::Superseded) => {}
                Err(error) => return Err(wire_error(&error)),
            }
        }
    }

    /// Unless it begins a feature level that some broker does not know.
    fn allow_level(&self, decision: Decision) -> Result<Decision, WireError> {
        if let Some(level) = decision.feature_level() {
            self.check_level(level)?;
        }
        Ok(decision)
    }

    /// Flushes and closes the metadata log.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub async fn close(&self) -> Result<(), QuorumError> {
        let _turn = self.office.lock().await;
        self.quorum.close().await
    }
}

fn wire_error(error: &QuorumError) -> WireError {
    WireError::new(error.code(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidelog_coordination::command::{Admission, CreateTopic, RegisterBroker, Registration};
    use tidelog_coordination::leases::{Heartbeat, Intent};
    use tidelog_log::{DataDir, FlusherHandle, OsDisk};
    use tidelog_protocol::{ProtocolVersion, TopicId};

    use super::*;
    use crate::peer::{PeerIdentity, Peers};
    use crate::quorum::lease_book::Silent;
    use crate::quorum::{Beginning, QuorumStorage, StorageOptions};

    fn create(name: &str, id: u8) -> Command {
        let (name, configs) = (name.to_string(), Vec::new());
        let topic_id = TopicId([id; 16]);
        Command::CreateTopic(CreateTopic {
            topic_id,
            name,
            partitions: 1,
            replication_factor: 1,
            configs,
            validate_only: false,
            internal: false,
        })
    }

    /// Of a cluster of one broker, which is registered.
    async fn of_one(broker_id: BrokerId) -> (Controllers, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(Arc::new(OsDisk), folder.path(), None).unwrap());
        let incarnation = data.format().incarnation;
        let identity =
            PeerIdentity { cluster: data.format().cluster, member: Member { broker: broker_id, incarnation } };
        let address = Address { host: "localhost".into(), port: 9092 };
        let options = StorageOptions { data, flusher: FlusherHandle::detached(), broker: broker_id, address };
        let storage = QuorumStorage::open(options).unwrap();
        let quorum = Quorum::start(storage, Peers::new(identity), Beginning::Found).await.unwrap();
        quorum.leads().await.unwrap();
        let controllers = Controllers::new(quorum);
        let register = RegisterBroker {
            broker_id,
            incarnation,
            host: "localhost".into(),
            port: 9092,
            rack: None,
            closed_cleanly: None,
            stamps: Vec::new(),
            older_than: None,
            admission: Admission::AtOnce,
        };
        let _ = controllers.submit(Command::RegisterBroker(register)).await.unwrap();
        (controllers, folder)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_decision_that_takes_long_holds_up_nobodys_lease() {
        let (controllers, _folder) = of_one(BrokerId(1)).await;
        let image = controllers.image();
        let epoch = image.broker(BrokerId(1)).unwrap().epoch;
        let broker = Registration { broker_id: BrokerId(1), epoch };
        let heartbeat =
            Heartbeat { broker, applied: image.as_of(), intent: Intent::Serve, speaks: ProtocolVersion::CURRENT };
        let decision = controllers.office.lock().await;
        let answered = async {
            loop {
                assert_eq!(controllers.look_at_leases(Some(BrokerId(1))).await, Silent::default());
                match controllers.heartbeat(heartbeat).await {
                    Ok(answer) => return answer,
                    // The look is too long ago, on a slow machine.
                    Err(error) => assert_eq!(error.code, ErrorCode::NoQuorum, "{error}"),
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
        assert!(!answer.fenced && answer.lease_ms > 0);
        drop(decision);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_stops_waiting_does_not_give_the_turn_away() {
        let (controllers, _folder) = of_one(BrokerId(1)).await;
        for round in 0..20 {
            let name = format!("topic-{round}");
            let abandoned = controllers.submit(create(&name, 2 * round));
            // Polled once, then dropped, as at a deadline.
            let _ = tokio::time::timeout(Duration::ZERO, abandoned).await;
            let again = controllers.submit(create(&name, 2 * round + 1)).await;
            // Whichever came first holds, and the other is refused by the rules.
            let refused = again.err().map(|error| error.code);
            assert!(matches!(refused, None | Some(ErrorCode::TopicExists)), "{refused:?}");
            tokio::time::timeout(Duration::from_secs(60), async {
                while controllers.image().topic_named(&name).is_none() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
        }
    }
}
