//! What a member of a group says and does: when it is heard of, what it takes, lets go of and loses. Pure: events and the time come in,
//! effects go out. Knows nothing of connections, streams or commits.
//!
//! The model is KIP-848: the coordinator says what the member may work on, the member lets go of the rest and says so. What it keeps is
//! touched by nothing here: it appears in no effect.
//!
//! - One heartbeat is under way at a time; an answer to an older one is ignored. A lost answer is no event of its own: the next heartbeat
//!   says everything again, under the same member id.
//! - The member counts its session from when it *sent* the last heartbeat that was answered, so its own clock runs out no later than the
//!   coordinator's: from then on it works on nothing, whoever may have got it.
//! - What it shall let go of it lets go of within its rebalance timeout, counted in the same careful way; where it cannot, it lost all.
//! - A member that was fenced joins under the id it has, so that no second member waits for a session to end; one that is not known any more
//!   takes a new id.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_protocol::messages::{JOINING, LEAVING, PAUSING};
use tidelog_protocol::{Monotonic, PartitionId, TopicId};

use crate::{Backoff, ClientError};

/// A partition as the coordinator names it.
pub(super) type Place = (TopicId, PartitionId);

/// What happens to a member.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A heartbeat was answered.
    Answered { number: u64, answer: Answer },
    /// A heartbeat failed.
    Failed { number: u64, failure: Failure },
    /// A commit or a fetch was told that the member of this epoch is none any more.
    Refused { epoch: i32, failure: Failure },
    /// What was to be let go of is: its last offsets are committed.
    LetGo(Vec<Place>),
    /// Nothing but time has passed.
    Tick,
    /// The program is done with the group.
    Leave,
}

/// What a coordinator says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) member_epoch: i32,
    pub(super) interval_ms: u64,
    pub(super) session_ms: u64,
    /// `None`: as it was.
    pub(super) assignment: Option<BTreeSet<Place>>,
}

/// Why a heartbeat failed, by what is to be done.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Failure {
    /// Ask again after a while, at least as long as the coordinator suggests; `jitter` is drawn evenly from 0 to 1.
    Passing { suggested_ms: u32, jitter: f64 },
    /// The member is not known any more.
    Unknown,
    /// The member's epoch is not the one it has.
    Fenced,
    /// Another one serves under the instance id; its session may end.
    Taken { jitter: f64, error: ClientError },
    /// Nothing but the program or an operator can help.
    Final(ClientError),
}

/// What a member does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Says this to the coordinator. What was said before and not answered is given up.
    Send(Beat),
    /// Takes another id: the old one is not known any more.
    TakeNewId,
    /// Works on these from now on.
    Take(Vec<Place>),
    /// Stops working on these, commits what is done, then says [`Event::LetGo`].
    LetGo(Vec<Place>),
    /// Stops working on these: they may be others' already, and nothing may be committed.
    Lose(Vec<Place>),
    /// It is a member no more, and will not be again: it left, or for this reason.
    Stop(Option<ClientError>),
}

/// A heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Beat {
    pub(super) number: u64,
    pub(super) epoch: i32,
    /// It says all there is to say: subscription, instance, timeouts.
    pub(super) whole: bool,
    pub(super) owned: Option<Vec<Place>>,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
}

/// What a member was told to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// It has an instance id, so it pauses where others leave.
    pub(super) is_static: bool,
    pub(super) backoff: Backoff,
    /// How long any answer is waited for at most.
    pub(super) patience: Duration,
    /// How long it may take to let go of partitions; a session, where that is longer.
    pub(super) rebalance_ms: u64,
    /// How long a static member waits for another one under its instance id to end.
    pub(super) taken_patience_ms: u64,
}

/// How long a member tries to say that it leaves.
const FAREWELL_MS: u64 = 3_000;

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    rules: Rules,
    phase: Phase,
    epoch: i32,
    under_way: Option<UnderWay>,
    numbers: u64,
    /// When to be heard of next.
    due: Monotonic,
    session_ms: u64,
    /// When the last heartbeat that was answered was sent.
    heard: Monotonic,
    /// When it sent the last heartbeat whose answer took nothing from it, or the first after it had let go, if the coordinator heard of
    /// that: whatever it is to let go of, the coordinator began to wait for that later.
    calm: Monotonic,
    /// The last answer said what it may work on, so the next heartbeat says what it does.
    told: bool,
    /// When it first said that it has let go of everything it was to.
    lighter: Option<Monotonic>,
    failures: u32,
    /// The next heartbeat says everything.
    whole: bool,
    /// What it owns has shrunk since the coordinator heard of it, this often.
    let_go: u64,
    let_go_heard: u64,
    /// What the coordinator lets it work on.
    assigned: BTreeSet<Place>,
    /// What it works on, `releasing` included.
    owned: BTreeSet<Place>,
    /// What it is letting go of.
    releasing: BTreeSet<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Since when it tries to join.
    Joining(Monotonic),
    Joined,
    /// Until when it tries to say so.
    Leaving(Monotonic),
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    number: u64,
    sent: Monotonic,
    /// What was let go of as it was sent, where it said what is owned.
    let_go: Option<u64>,
    /// There was nothing to be let go of.
    owes_nothing: bool,
}

impl Member {
    /// One that is about to join.
    pub(super) const fn new(rules: Rules, now: Monotonic) -> Self {
        Self {
            rules,
            phase: Phase::Joining(now),
            epoch: JOINING,
            under_way: None,
            numbers: 0,
            due: now,
            session_ms: 0,
            heard: now,
            calm: now,
            told: false,
            lighter: None,
            failures: 0,
            whole: true,
            let_go: 0,
            let_go_heard: 0,
            assigned: BTreeSet::new(),
            owned: BTreeSet::new(),
            releasing: BTreeSet::new(),
        }
    }

    /// Its epoch; 0 while it joins.
    pub(super) const fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Until when it may work on what it has, unless it is heard of before.
    pub(super) fn valid_until(&self) -> Monotonic {
        match self.phase {
            Phase::Joined if self.owes_nothing() => self.session_end(),
            Phase::Joined => self.session_end().min(self.release_end()),
            Phase::Joining(_) | Phase::Leaving(_) | Phase::Gone => Monotonic(0),
        }
    }

    /// When [`Event::Tick`] is due; `None` where only an answer can move it.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let beat = self.under_way.is_none().then_some(self.due);
        match self.phase {
            Phase::Joining(_) => beat,
            Phase::Joined => Some(beat.map_or(self.valid_until(), |beat| beat.min(self.valid_until()))),
            Phase::Leaving(until) => Some(beat.map_or(until, |beat| beat.min(until))),
            Phase::Gone => None,
        }
    }

    /// What follows from an event.
    pub(super) fn handle(&mut self, event: Event, now: Monotonic) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase == Phase::Gone {
            return effects;
        }
        self.pass_time(now, &mut effects);
        match event {
            Event::Tick => {}
            Event::Answered { number, answer } => self.answered(number, answer, now, &mut effects),
            Event::Failed { number, failure } => {
                if self.under_way.is_some_and(|beat| beat.number == number) {
                    self.under_way = None;
                    self.failed(failure, now, &mut effects);
                }
            }
            // Told twice of the same end, by a commit and by a heartbeat, it would join twice.
            Event::Refused { epoch, failure } => {
                if self.phase == Phase::Joined && epoch == self.epoch {
                    self.failed(failure, now, &mut effects);
                }
            }
            Event::LetGo(places) => self.released(&places, now, &mut effects),
            Event::Leave => self.leave(now, &mut effects),
        }
        self.beat(now, &mut effects);
        effects
    }

    const fn session_end(&self) -> Monotonic {
        self.heard.plus_ms(self.session_ms)
    }

    /// The coordinator has heard that everything is let go of that was to be.
    fn owes_nothing(&self) -> bool {
        self.releasing.is_empty() && self.let_go_heard == self.let_go
    }

    fn release_end(&self) -> Monotonic {
        self.calm.plus_ms(self.rules.rebalance_ms.max(self.session_ms))
    }

    /// The session may have ended, what was to be let go of may still be held, and the farewell may have taken too long.
    fn pass_time(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Joined if now >= self.valid_until() => self.join_again(now, effects),
            Phase::Leaving(until) if now >= until => self.stop(None, effects),
            _ => {}
        }
    }

    fn answered(&mut self, number: u64, answer: Answer, now: Monotonic, effects: &mut Vec<Effect>) {
        let Some(beat) = self.under_way.take_if(|beat| beat.number == number) else { return };
        if let Phase::Leaving(_) = self.phase {
            return self.stop(None, effects);
        }
        self.phase = Phase::Joined;
        self.heard = beat.sent;
        self.failures = 0;
        self.whole = false;
        self.epoch = answer.member_epoch;
        self.session_ms = answer.session_ms;
        // Whatever the coordinator likes: a lost answer must leave time for another try.
        let interval_ms = answer.interval_ms.min(answer.session_ms / 3).max(1);
        if let Some(let_go) = beat.let_go {
            self.let_go_heard = let_go;
        }
        self.told = answer.assignment.is_some();
        if let Some(assignment) = answer.assignment {
            self.assigned = assignment;
        }
        self.due = if self.let_go_heard < self.let_go { now } else { beat.sent.plus_ms(interval_ms) };
        self.reconcile(effects);
        if beat.owes_nothing {
            let said = self.lighter.take();
            let took_nothing = self.releasing.is_empty();
            self.calm = self.calm.max(if took_nothing { beat.sent } else { said.unwrap_or(self.calm) });
        }
    }

    /// Lets go of what it shall not work on, and takes what it may.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Joined {
            return;
        }
        let releases: Vec<Place> =
            self.owned.difference(&self.assigned).filter(|place| !self.releasing.contains(place)).copied().collect();
        // What it is still letting go of it does not take back before it has.
        let takes: Vec<Place> = self.assigned.difference(&self.owned).copied().collect();
        if !releases.is_empty() {
            self.releasing.extend(&releases);
            effects.push(Effect::LetGo(releases));
        }
        if !takes.is_empty() {
            self.owned.extend(&takes);
            effects.push(Effect::Take(takes));
        }
    }

    fn released(&mut self, places: &[Place], now: Monotonic, effects: &mut Vec<Effect>) {
        let mut any = false;
        for place in places {
            // One that was lost meanwhile is no news.
            if self.releasing.remove(place) {
                self.owned.remove(place);
                any = true;
            }
        }
        if any {
            self.let_go += 1;
            // Others wait for it: it is said at once.
            if self.failures == 0 {
                self.due = now;
            }
            self.reconcile(effects);
        }
    }

    fn failed(&mut self, failure: Failure, now: Monotonic, effects: &mut Vec<Effect>) {
        let is_leaving = matches!(self.phase, Phase::Leaving(_));
        match failure {
            Failure::Passing { suggested_ms, jitter } => self.wait(suggested_ms, jitter, now),
            Failure::Unknown | Failure::Fenced | Failure::Final(_) | Failure::Taken { .. } if is_leaving => {
                self.stop(None, effects);
            }
            Failure::Unknown => {
                effects.push(Effect::TakeNewId);
                self.join_again(now, effects);
            }
            Failure::Fenced => self.join_again(now, effects),
            Failure::Taken { jitter, error } => match self.phase {
                Phase::Joining(since) if now.ms_since(since) < self.rules.taken_patience_ms => {
                    self.wait(0, jitter, now);
                }
                _ => self.stop(Some(error), effects),
            },
            Failure::Final(error) => self.stop(Some(error), effects),
        }
    }

    fn wait(&mut self, suggested_ms: u32, jitter: f64, now: Monotonic) {
        self.failures += 1;
        self.whole = true;
        let wait = self.rules.backoff.wait(self.failures, jitter).as_millis() as u64;
        self.due = now.plus_ms(wait.max(u64::from(suggested_ms).min(30_000)));
    }

    /// What it had is lost, and it joins as if for the first time.
    fn join_again(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        self.lose(effects);
        // Refused again and again, it must not ask as fast as it can.
        let again = matches!(self.phase, Phase::Joining(_));
        self.failures = if again { self.failures + 1 } else { 0 };
        let wait = self.rules.backoff.wait(self.failures, 1.0).as_millis() as u64;
        if !again {
            self.phase = Phase::Joining(now);
        }
        self.epoch = JOINING;
        (self.calm, self.lighter, self.told) = (now, None, false);
        self.whole = true;
        self.under_way = None;
        self.due = now.plus_ms(wait);
    }

    fn lose(&mut self, effects: &mut Vec<Effect>) {
        self.assigned.clear();
        self.releasing.clear();
        let lost: Vec<Place> = std::mem::take(&mut self.owned).into_iter().collect();
        if !lost.is_empty() {
            effects.push(Effect::Lose(lost));
        }
    }

    fn leave(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let never_joined = matches!(self.phase, Phase::Joining(_)) && self.numbers == 0;
        if never_joined {
            return self.stop(None, effects);
        }
        if !matches!(self.phase, Phase::Leaving(_)) {
            self.assigned.clear();
            self.releasing.clear();
            self.owned.clear();
            self.phase = Phase::Leaving(now.plus_ms(FAREWELL_MS));
            self.epoch = if self.rules.is_static { PAUSING } else { LEAVING };
            // An answer that is still to come does not matter any more.
            self.under_way = None;
            self.due = now;
        }
    }

    fn stop(&mut self, error: Option<ClientError>, effects: &mut Vec<Effect>) {
        self.lose(effects);
        self.phase = Phase::Gone;
        self.under_way = None;
        effects.push(Effect::Stop(error));
    }

    /// Sends what is due.
    fn beat(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Gone || self.under_way.is_some() || now < self.due {
            return;
        }
        self.numbers += 1;
        let says_owned = self.phase_says_owned();
        let owned = says_owned.then(|| self.owned.iter().copied().collect());
        let let_go = says_owned.then_some(self.let_go);
        // Either it says so, or it was heard of before.
        let owes_nothing = self.releasing.is_empty();
        if owes_nothing && self.let_go_heard < self.let_go {
            self.lighter = self.lighter.or(Some(now));
        }
        self.under_way = Some(UnderWay { number: self.numbers, sent: now, let_go, owes_nothing });
        let (number, epoch) = (self.numbers, self.epoch);
        effects.push(Effect::Send(Beat { number, epoch, whole: self.whole, owned, patience: self.patience() }));
    }

    const fn phase_says_owned(&self) -> bool {
        !matches!(self.phase, Phase::Leaving(_)) && (self.whole || self.told || self.let_go_heard < self.let_go)
    }

    /// A third of the session, so that a lost answer leaves time for two more tries.
    fn patience(&self) -> Duration {
        match self.phase {
            Phase::Joined => self.rules.patience.min(Duration::from_millis((self.session_ms / 3).max(1))),
            Phase::Leaving(_) => self.rules.patience.min(Duration::from_millis(FAREWELL_MS / 2)),
            Phase::Joining(_) | Phase::Gone => self.rules.patience.min(Duration::from_secs(10)),
        }
    }
}
