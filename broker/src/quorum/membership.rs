//! Changing who belongs to the quorum. Only its leader does; each change is settled by a majority of the old and of the new voters, and not
//! begun where either is missing. A change of voters has two halves: whoever leads finishes one that it finds half done. Knows nothing of
//! who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use tidelog_coordination::{BrokerImage, counted};
use tidelog_protocol::messages::{RaftMembership, VoterChange};
use tidelog_protocol::{BrokerId, ErrorCode, WireError};
use tracing::{info, warn};

use super::consensus::{MemberStatus, Quorum};
use super::quorum_error::QuorumError;
use super::raft_types::{Address, Member, membership_message};
use super::role::Role;
use super::voter_change::{self, VoterChange as Votes};
use crate::peer::{Lane, PeerError, Peers};

/// The most voters: more make every change slower and survive no more in practice.
pub const VOTERS_MAX: usize = 5;
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries that a learner may lag when it becomes a voter.
const LAG_MAX: u64 = 50;
/// How long the voters and whoever is to be one may take to answer. Those that are there do so several times a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a change that cannot be finished yet is tried again.
const FINISH_PAUSE: Duration = Duration::from_secs(1);
/// How long somebody who may be there has to say so.
const PING_PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to see whether a member lacks what it had confirmed; whoever asks waits for two seconds at most.
const COPY_PATIENCE: Duration = Duration::from_secs(1);
/// How long a new member is dialled in vain.
const SEARCH: Duration = Duration::from_secs(3);
/// Pause before it is dialled again.
const PAUSE: Duration = Duration::from_millis(200);

impl Quorum {
    /// Everyone who belongs to the quorum, as messages carry it.
    #[must_use]
    pub fn membership(&self) -> RaftMembership {
        let stored = self.shared.raft.metrics().borrow().membership_config.clone();
        membership_message(stored.membership())
    }

    /// Who will vote once the change of the voters is done that is under way; `None` where none is.
    #[must_use]
    pub fn next_voters(&self) -> Option<Vec<BrokerId>> {
        let stored = self.shared.raft.metrics().borrow().membership_config.clone();
        let next = voter_change::under_way(stored.membership())?;
        Some(next.iter().map(|member| member.broker).collect())
    }

    /// Takes a member in as a learner; one that is in stays what it is.
    ///
    /// # Errors
    /// BrokerIdTaken where another life of the broker's folder is there; InvalidConfig where the broker cannot be reached at its address;
    /// NotController elsewhere than at the leader.
    pub async fn take_in(&self, member: Member, address: Address, peers: &Peers) -> Result<RaftMembership, WireError> {
        let _turn = self.shared.changing.lock().await;
        self.check_leads().await?;
        let members = self.members();
        if members.iter().any(|known| known.member == member && known.address == address) {
            return Ok(self.membership());
        }
        let earlier = members.iter().find(|known| known.member.broker == member.broker && known.member != member);
        if let Some(earlier) = earlier {
            self.is_gone(earlier, peers).await?;
        }
        reachable(member, &address, peers).await?;
        if let Some(earlier) = earlier {
            self.give_up(earlier).await?;
        }
        info!(%member, %address, "taken into the metadata quorum");
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(member, address)]))).await?;
        Ok(self.membership())
    }

    /// Whether one that believes itself a member is one. Changes nothing, above all not who has the broker's id.
    ///
    /// # Errors
    /// BrokerIdTaken where another life of the broker's folder took its place; UnknownBroker where it was removed; NotController elsewhere
    /// than at the leader.
    pub async fn still_in(&self, member: Member) -> Result<RaftMembership, WireError> {
        self.check_leads().await?;
        let (members, broker) = (self.members(), member.broker);
        // Its newest folder may be back: what it is sent next shows that.
        if self.shared.attendance.has_lost(member) && !self.takes_something(member).await {
            return Err(WireError::new(ErrorCode::UnknownBroker, self.old_copy(broker)));
        }
        if members.iter().any(|known| known.member == member) {
            return Ok(self.membership());
        }
        match members.iter().find(|known| known.member.broker == broker) {
            Some(MemberStatus { member: other, address, .. }) => {
                let sentence = format!(
                    "{other} at {address} has taken the place of {member}, whose data folder is no part of the cluster any more: start this broker with an empty data folder and a broker_id of its own"
                );
                Err(WireError::new(ErrorCode::BrokerIdTaken, sentence))
            }
            None => {
                let sentence = format!(
                    "broker {broker} was removed from the cluster, and its data folder is no part of it any more: it can join again with an empty one"
                );
                Err(WireError::new(ErrorCode::UnknownBroker, sentence))
            }
        }
    }

    /// As [`Quorum::still_in`], of a member whose data folder is an older copy: whether it lacks metadata that it had confirmed must have shown.
    ///
    /// # Errors
    /// Besides, NoQuorum where it did not show in time.
    pub async fn still_in_as_a_copy(&self, member: Member) -> Result<(), WireError> {
        let takes = self.takes_something(member).await;
        let _ = self.still_in(member).await?;
        if takes {
            return Ok(());
        }
        Err(WireError::new(ErrorCode::NoQuorum, format!("{member} has not taken the metadata yet; ask again")))
    }

    /// Whether a member takes what it is sent from now on, as far as that shows soon.
    async fn takes_something(&self, member: Member) -> bool {
        let answering = self.shared.attendance.answering(Instant::now(), COPY_PATIENCE, |took| took(&member));
        answering.await.contains(&member)
    }

    /// What to do about an old copy.
    fn old_copy(&self, broker: BrokerId) -> String {
        let image = self.image();
        let only = image
            .borrow()
            .topics()
            .flat_map(|topic| &topic.partitions)
            .filter(|held| held.in_sync == [broker] && held.eligible.is_empty())
            .count();
        let lost = match only {
            0 => String::new(),
            count => format!(" (nobody else is known to hold all of {})", counted(count as u64, "partition")),
        };
        format!(
            "the data folder of broker {broker} is an old copy: it lacks metadata that it had confirmed; put its newest data folder back; where that is gone, start this broker with an empty one and --join{lost}, and give it its vote again, if it had one, by `tidelog cluster promote {broker}`"
        )
    }

    /// Promotes, demotes or removes the member that a broker is; what is so already stays so.
    ///
    /// # Errors
    /// InvalidVoters, also where whoever is to vote does not answer; NoQuorum where too few of the voters answer that there would be;
    /// nothing is changed then. UnknownBroker; NotController elsewhere than at the leader.
    pub async fn change_voters(&self, broker: BrokerId, change: VoterChange) -> Result<RaftMembership, WireError> {
        let _turn = self.shared.changing.lock().await;
        self.check_leads().await?;
        if self.next_voters().is_some() {
            self.finish().await?;
        }
        let members = self.members();
        let Some(MemberStatus { member, is_voter, .. }) = members.iter().find(|known| known.member.broker == broker)
        else {
            if change == VoterChange::Remove {
                return Ok(self.membership());
            }
            let sentence = format!("broker {broker} does not belong to the metadata quorum; it joins by --join");
            return Err(WireError::new(ErrorCode::UnknownBroker, sentence));
        };
        let (member, only) = (*member, BTreeSet::from([*member]));
        let votes: BTreeSet<Member> = members.iter().filter(|known| known.is_voter).map(|known| known.member).collect();
        let voters = votes.len();
        if *is_voter && change != VoterChange::Promote && voters == 1 {
            let sentence = format!("broker {broker} is the last voter: promote another first");
            return Err(WireError::new(ErrorCode::InvalidVoters, sentence));
        }
        info!(%member, ?change, "the metadata quorum changes");
        match (change, is_voter) {
            (VoterChange::Promote, true) | (VoterChange::Demote, false) => {}
            (VoterChange::Promote, false) if voters >= VOTERS_MAX => {
                let sentence = format!("there are {voters} voters already, {VOTERS_MAX} at most: demote another first");
                return Err(WireError::new(ErrorCode::InvalidVoters, sentence));
            }
            (VoterChange::Promote, false) => {
                self.serves(member).await?;
                self.caught_up(member).await?;
                self.carried(&Votes::with(votes, member)).await?;
                self.change(ChangeMembers::AddVoterIds(only)).await?;
            }
            (VoterChange::Demote, true) => {
                self.carried(&Votes::without(votes, member)).await?;
                self.change(ChangeMembers::RemoveVoters(only)).await?;
            }
            (VoterChange::Remove, true) => {
                self.carried(&Votes::without(votes, member)).await?;
                self.change(ChangeMembers::RemoveVoters(only.clone())).await?;
                self.change(ChangeMembers::RemoveNodes(only)).await?;
            }
            (VoterChange::Remove, false) => self.change(ChangeMembers::RemoveNodes(only)).await?,
        }
        Ok(self.membership())
    }

    /// Makes sure that an earlier life of a broker's folder is not there.
    async fn is_gone(&self, earlier: &MemberStatus, peers: &Peers) -> Result<(), WireError> {
        let MemberStatus { member, address, .. } = earlier;
        let link = peers.link(*member, address, Lane::Requests);
        let ping = tidelog_protocol::messages::PingRequest {};
        let is_there = *member == self.member() || link.request(ping, Vec::new(), PING_PATIENCE).await.is_ok();
        if is_there {
            let sentence = format!(
                "{member} is there at {address}: give the new broker another broker_id, or none, and it gets the next"
            );
            return Err(WireError::new(ErrorCode::BrokerIdTaken, sentence));
        }
        let serves = |known: &BrokerImage| known.incarnation == member.incarnation && !known.fenced;
        if self.image().borrow().broker(member.broker).is_some_and(serves) {
            let sentence = format!("{member} does not answer at {address}, but its lease has not ended: ask again");
            return Err(WireError { retry_after_ms: 500, ..WireError::new(ErrorCode::Overloaded, sentence) });
        }
        Ok(())
    }

    /// Forgets an earlier life of a broker's folder.
    async fn give_up(&self, MemberStatus { member, is_voter, .. }: &MemberStatus) -> Result<(), WireError> {
        if *is_voter {
            let broker = member.broker;
            warn!(%member, "given up, and its vote with it: another life of its data folder takes its place; `tidelog cluster promote {broker}` gives that a vote");
        } else {
            info!(%member, "given up: another life of its data folder takes its place");
        }
        let only = BTreeSet::from([*member]);
        if *is_voter {
            let votes = self.members().iter().filter(|known| known.is_voter).map(|known| known.member).collect();
            self.carried(&Votes::without(votes, *member)).await?;
            self.change(ChangeMembers::RemoveVoters(only.clone())).await?;
        }
        self.change(ChangeMembers::RemoveNodes(only)).await
    }

    /// Who has no lease is not there, or not for the controller.
    async fn serves(&self, member: Member) -> Result<(), WireError> {
        let is_fenced = |known: &BrokerImage| known.incarnation == member.incarnation && known.fenced;
        let mut images = self.image();
        // One that has just started gets its lease with its first heartbeat.
        let serves = images.wait_for(|image| !image.broker(member.broker).is_some_and(is_fenced));
        if tokio::time::timeout(ANSWER_PATIENCE, serves).await.is_ok() {
            return Ok(());
        }
        let sentence = format!(
            "broker {} holds no lease, so it is given no vote: nothing was changed; start it, and try again once it serves",
            member.broker
        );
        Err(WireError::new(ErrorCode::InvalidVoters, sentence))
    }

    /// Makes sure that those answer who have to settle a change, before it is begun: it cannot be taken back.
    async fn carried(&self, change: &Votes) -> Result<(), WireError> {
        let own = self.member();
        let enough = |answers: &dyn Fn(&Member) -> bool| change.is_carried(|member| *member == own || answers(member));
        let answering = self.shared.attendance.answering(Instant::now(), ANSWER_PATIENCE, enough).await;
        let answers = |member: &Member| *member == own || answering.contains(member);
        if change.is_carried(answers) {
            return Ok(());
        }
        let code = if change.lacks_newcomer(answers) { ErrorCode::InvalidVoters } else { ErrorCode::NoQuorum };
        Err(WireError::new(code, change.refusal(answers)))
    }

    /// Takes the second step of a change of voters of which the first holds.
    async fn finish(&self) -> Result<(), WireError> {
        // It adds nobody to those that the first step named, and leaves out who is not among them.
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    /// Finishes, as long as this broker leads the quorum, changes of voters whose second half nobody proposed: its predecessor began them,
    /// or the majority was missing then. Ends with the quorum.
    pub(crate) async fn finish_changes(self) {
        let mut metrics = self.shared.raft.metrics();
        loop {
            let is_half_done = {
                let metrics = metrics.borrow_and_update();
                voter_change::under_way(metrics.membership_config.membership()).is_some()
            };
            if is_half_done && matches!(self.role(), Role::Leader { .. }) {
                let turn = self.shared.changing.lock().await;
                // Whoever had the turn before may have done it.
                if let Some(next) = self.next_voters() {
                    match self.finish().await {
                        Ok(()) => info!(?next, "finished a change of voters that was begun before"),
                        Err(error) => {
                            warn!(?next, %error, "a change of voters was begun and cannot be finished yet; it is tried again");
                            drop(turn);
                            tokio::time::sleep(FINISH_PAUSE).await;
                        }
                    }
                }
                continue;
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// A voter that lags is one that the quorum waits for.
    async fn caught_up(&self, member: Member) -> Result<(), WireError> {
        let mut metrics = self.shared.raft.metrics();
        let caught_up = async {
            loop {
                {
                    let metrics = metrics.borrow_and_update();
                    let has = metrics.replication.as_ref().and_then(|all| all.get(&member).copied().flatten());
                    let last = metrics.last_log_index.unwrap_or(0);
                    if has.is_some_and(|has| has.index + LAG_MAX >= last) || metrics.replication.is_none() {
                        return;
                    }
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.map_err(|_| {
            let sentence = format!("{member} has not caught up with the metadata within {PATIENCE:?}: is it running?");
            WireError::new(ErrorCode::InvalidVoters, sentence)
        })
    }

    async fn change(&self, change: ChangeMembers<Member, Address>) -> Result<(), WireError> {
        // Whoever votes no longer stays as a learner.
        let changed = tokio::time::timeout(PATIENCE, self.shared.raft.change_membership(change, true)).await;
        match changed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(not_controller()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => {
                let sentence = "another change of the metadata quorum is under way; try again when it is done";
                Err(WireError::new(ErrorCode::Overloaded, sentence))
            }
            Ok(Err(error)) => Err(WireError::new(ErrorCode::InvalidVoters, error.to_string())),
            Err(_) => Err(WireError::new(ErrorCode::DeadlineExceeded, self.unsettled())),
        }
    }

    fn unsettled(&self) -> String {
        match self.next_voters() {
            Some(next) => {
                let names = next.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!(
                    "a majority of the brokers that vote from now on ({names}) did not settle the change in time: it was begun and is finished as soon as they answer; bring back those that do not"
                )
            }
            None => "the metadata quorum did not settle the change in time; whether it will hold is unknown".into(),
        }
    }

    /// Who has been cut off must send nobody away, nor say that something is so already.
    async fn check_leads(&self) -> Result<(), WireError> {
        match self.role() {
            Role::Leader { .. } => {}
            Role::Follower { .. } => return Err(not_controller()),
        }
        match self.silent_ms() {
            Some(silent_ms) => {
                Err(WireError::new(ErrorCode::NoQuorum, QuorumError::NoQuorum { silent_ms }.to_string()))
            }
            None if self.confirm().await => Ok(()),
            None => Err(not_controller()),
        }
    }
}

/// A member that nobody reaches hears of nothing, and would wait for ever without knowing why.
async fn reachable(member: Member, address: &Address, peers: &Peers) -> Result<(), WireError> {
    let give_up_at = Instant::now() + SEARCH;
    let error = loop {
        match peers.look_for(member, address).await {
            Ok(()) => return Ok(()),
            Err(error @ PeerError::Refused(_)) => break error,
            Err(error) if Instant::now() >= give_up_at => break error,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let own = peers.identity().member.broker;
    let sentence = format!(
        "broker {own} does not reach {member} at {address} ({error}): set advertise of the new broker to the HOST:PORT at which the others reach it"
    );
    Err(WireError::new(ErrorCode::InvalidConfig, sentence))
}

fn not_controller() -> WireError {
    WireError::new(ErrorCode::NotController, "this broker does not lead the metadata quorum")
}
