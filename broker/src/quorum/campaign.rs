//! Has a voter stand for election: asks the others first whether it would win. When, says [`super::candidacy`], and whether, [`super::canvass`].

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use openraft::{RaftMetrics, RaftState, ServerState};
use tidelog_coordination::ClusterImage;
use tidelog_coordination::confirmation::FAITHFUL_MS;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::abdication::{Abdication, Change, JournalProbe, is_unreachable};
use super::candidacy::{Candidacy, Standing};
use super::canvass::would_win;
use super::consensus::Shared;
use super::network::PeerNetwork;
use super::raft_types::{Address, Member};

/// How long a vote, or a word of one, may be on its way, flushes included. The library wants it to be less than [`FAITHFUL_MS`].
pub(super) const VOTE_MS: u64 = FAITHFUL_MS - 1;

/// What a voter said counts for so long.
const HEARD_LATELY: Duration = Duration::from_secs(1);
/// How often it is looked whether a leader that is missed is there again, or one that leads should.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Has this member stand for election whenever that is due, and it would win.
pub(super) async fn run(
    quorum: Weak<Shared>,
    mut metrics: watch::Receiver<RaftMetrics<Member, Address>>,
    (member, network): (Member, PeerNetwork),
) {
    let (mut candidacy, mut abdication, mut journal) =
        (Candidacy::default(), Abdication::default(), JournalQuestion::default());
    let Some(mut images) = quorum.upgrade().map(|shared| shared.image()) else { return };
    loop {
        let (vote, state) = {
            let metrics = metrics.borrow_and_update();
            (metrics.vote, metrics.state)
        };
        let Some(shared) = quorum.upgrade() else { return };
        let followed = vote.leader_id.voted_for();
        let is_leaving = followed.is_some_and(|leader| is_leaving(&images.borrow_and_update(), leader));
        let (due, misses_leader) = match state {
            ServerState::Follower | ServerState::Candidate => {
                let Ok(seen) = shared.raft.with_raft_state(standing(member, is_leaving)).await else { return };
                let due = candidacy.stands_at(seen, fastrand::f64());
                let misses = candidacy.misses_leader(seen, Instant::now());
                if due <= Instant::now() {
                    shared.misses_leader(misses);
                    let would_win = canvass(&shared, member, &network).await;
                    let Ok(meanwhile) = shared.raft.with_raft_state(standing(member, is_leaving)).await else { return };
                    let now = Instant::now();
                    if !would_win {
                        candidacy.would_lose(now, fastrand::f64());
                    } else if meanwhile == seen {
                        candidacy.stands(now);
                        if shared.raft.trigger().elect().await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                // What is missed may be there again at any time.
                (Some(if misses { due.min(Instant::now() + LOOKS_EVERY) } else { due }), misses)
            }
            ServerState::Leader => (Some(Instant::now() + LOOKS_EVERY), false),
            // It never stands, but misses a leader as a voter does.
            ServerState::Learner => {
                let Ok(seen) = shared.raft.with_raft_state(standing(member, is_leaving)).await else { return };
                let (_, now) = (candidacy.stands_at(seen, fastrand::f64()), Instant::now());
                (Some(now + LOOKS_EVERY), candidacy.misses_leader(seen, now))
            }
            ServerState::Shutdown => (None, false),
        };
        if state == ServerState::Leader {
            lead(&shared, &mut abdication, &mut journal);
        } else {
            abdication = Abdication::default();
            shared.speaks(true);
            shared.misses_leader(misses_leader);
        }
        drop(shared);
        // A leader that is heard of puts it off, of which nobody is told: it is looked at again when it is due.
        let changed = async {
            tokio::select! {
                changed = metrics.wait_for(|metrics| (metrics.vote, metrics.state) != (vote, state)) => changed.is_err(),
                changed = images.changed() => changed.is_err(),
            }
        };
        let ended = match due {
            None => changed.await,
            Some(due) => tokio::time::timeout_at(due.into(), changed).await.unwrap_or(false),
        };
        if ended {
            return;
        }
    }
}

/// Falls silent as a leader whom the others cannot reach, or whose disk keeps it from deciding anything.
fn lead(shared: &Shared, abdication: &mut Abdication, journal: &mut JournalQuestion) {
    let membership = shared.raft.metrics().borrow().membership_config.clone();
    let voters = membership.membership().get_joint_config();
    let says_so = |member: &Member| shared.attendance.cannot_reach(*member, HEARD_LATELY);
    let are_others = voters.iter().any(|voters| voters.len() > 1);
    let (is_unreachable, hangs) = (is_unreachable(voters, says_so), are_others && journal.hangs(shared));
    let change = abdication.look(is_unreachable || hangs, Instant::now());
    shared.speaks(!abdication.is_silent());
    shared.misses_leader(abdication.is_silent());
    let why = match hangs {
        true => "its metadata log does not answer",
        false => "a majority of the voters cannot reach it, though it reaches them",
    };
    match change {
        Some(Change::FellSilent) => {
            warn!(why, "this broker runs the controller no more, so that the others elect another");
        }
        Some(Change::Speaks) => info!("nobody else was elected: this broker runs the controller again"),
        None => {}
    }
}

/// A question to the log of metadata, and when it was asked.
#[derive(Default)]
struct JournalQuestion {
    probe: JournalProbe,
    answer: Option<JoinHandle<()>>,
}

impl JournalQuestion {
    fn hangs(&mut self, shared: &Shared) -> bool {
        let is_answered = self.answer.as_ref().is_none_or(JoinHandle::is_finished);
        if self.probe.asks(is_answered, Instant::now()) {
            let journal = shared.journal();
            self.answer = Some(tokio::spawn(async move {
                // Where it has ended, so has this member.
                let _ = journal.ask(|journal| journal.last()).await;
            }));
        }
        self.probe.hangs(is_answered, Instant::now())
    }
}

/// Asks the other voters whether this one would win, until a majority says so or all have answered.
async fn canvass(shared: &Shared, member: Member, network: &PeerNetwork) -> bool {
    let membership = shared.raft.metrics().borrow().membership_config.clone();
    let (voters, nodes) = (membership.membership().get_joint_config(), membership.membership());
    let Ok(last) = shared.last_entry().await else { return false };
    let mut asking = JoinSet::new();
    let votes = |other: &Member| *other != member && voters.iter().any(|voters| voters.contains(other));
    for (other, address) in nodes.nodes().filter(|(other, _)| votes(other)) {
        let (client, other) = (network.client(*other, address), *other);
        asking.spawn(async move { (other, client.word(member, last, Duration::from_millis(VOTE_MS)).await) });
    }
    let mut words = BTreeMap::new();
    loop {
        if would_win((member, last), voters, &words) {
            return true;
        }
        match asking.join_next().await {
            Some(Ok((other, Some(word)))) => drop(words.insert(other, word)),
            Some(_) => {}
            None => return false,
        }
    }
}

/// Whether a leader has said that it stops, or is fenced.
fn is_leaving(image: &ClusterImage, leader: Member) -> bool {
    image.broker(leader.broker).is_some_and(|known| known.incarnation == leader.incarnation && !known.is_live())
}

/// What the library of this `member` knows of who leads.
fn standing(
    member: Member,
    is_leaving: bool,
) -> impl FnOnce(&RaftState<Member, Address, tokio::time::Instant>) -> Standing + Send {
    move |state| {
        let (vote, mut voters) = (state.vote_ref(), state.membership_state.effective().voter_ids());
        Standing {
            term: vote.leader_id.term,
            is_led: vote.is_committed(),
            is_leaving,
            heard: state.vote_last_modified().map_or_else(Instant::now, tokio::time::Instant::into_std),
            has_rivals: voters.any(|voter| voter != member),
        }
    }
}
