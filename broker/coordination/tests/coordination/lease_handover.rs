//! Leases across changes of the controller, lived through many random schedules: three brokers that vote, stand for election whenever they may, lose,
//! delay and reorder messages, stand still, restart, and are heard of by whoever believes that it runs the controller. Whoever is fenced by
//! the newest controller holds no lease any more. The same schedules find each of the planted bugs, so they would find a real one.

use crate::cluster::Cluster;
use tidelog_coordination::ClusterImage;
use tidelog_coordination::command::Registration;
use tidelog_coordination::confirmation::{Asking, Confirmation, FAITHFUL_MS, OWN_LEASE_MS};
use tidelog_coordination::leases::{Heartbeat, Intent, LEASE_MS, Leases};
use tidelog_protocol::{BrokerId, Monotonic, ProtocolVersion};

/// How long one schedule lasts, and in what steps.
const LIFE_MS: u64 = 20_000;
const STEP_MS: u64 = 10;
const NODES: usize = 3;

/// What is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// A lease counts from when it is granted.
    WholeLeases,
    /// A leader that was confirmed lets others have its vote.
    LeaderVotes,
    /// A voter that restarts votes at once.
    ForgetfulVoters,
    /// Who runs the controller gives itself as much as the others.
    SelfishLeader,
    /// The new controller believes that more time has passed than is certain.
    Hasty,
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    fn node(&mut self) -> usize {
        self.below(NODES as u64) as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Confirm { term: u64, began: u64 },
    Confirmed { term: u64, began: u64 },
    WantVote { term: u64 },
    Vote { term: u64 },
    Beat { sent: u64 },
    Lease { sent: u64, lease_ms: u64 },
}

#[derive(Debug)]
struct Letter {
    from: usize,
    to: usize,
    due: u64,
    message: Message,
}

struct Node {
    /// The highest it knows, and whether somebody leads in it, as it was last told at `touched`.
    term: u64,
    committed: bool,
    touched: u64,
    standing: bool,
    votes: usize,
    /// The term it believes to lead. It may notice late that it does not.
    leads: Option<u64>,
    notices_at: Option<u64>,
    confirmation: Confirmation,
    asking: Option<(Asking, u64, usize)>,
    leases: Option<Leases>,
    predecessor: Option<usize>,
    /// Its own lease as a broker.
    lease_ends: u64,
    beats_at: u64,
    asks_at: u64,
    stands_still_until: u64,
}

struct World {
    bug: Bug,
    chance: Chance,
    now: u64,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    cut: [[u64; NODES]; NODES],
    image: ClusterImage,
    registrations: Vec<Registration>,
    newest: (u64, Option<usize>),
    /// How often somebody was fenced by the newest controller, and how often that was the one before it.
    fenced: u64,
    handovers: u64,
    violation: Option<String>,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let paper = Cluster::of(NODES as u32);
        let node = |_| Node {
            term: 0,
            committed: false,
            touched: 0,
            standing: false,
            votes: 0,
            leads: None,
            notices_at: None,
            confirmation: Confirmation::default(),
            asking: None,
            leases: None,
            predecessor: None,
            lease_ends: 0,
            beats_at: 0,
            asks_at: 0,
            stands_still_until: 0,
        };
        Self {
            bug,
            chance: Chance(seed),
            now: 10_000,
            nodes: (0..NODES).map(node).collect(),
            letters: Vec::new(),
            cut: [[0; NODES]; NODES],
            image: paper.controller.image().clone(),
            registrations: (1..=NODES as u32).map(|id| paper.registration(id)).collect(),
            newest: (0, None),
            fenced: 0,
            handovers: 0,
            violation: None,
        }
    }

    fn live(mut self) -> Self {
        let end = self.now + LIFE_MS;
        while self.now < end && self.violation.is_none() {
            self.now += STEP_MS;
            self.trouble();
            let mut order: Vec<usize> = (0..NODES).collect();
            order.rotate_left(self.chance.node());
            for at in order {
                if self.nodes[at].stands_still_until <= self.now {
                    self.deliver(at);
                    self.act(at);
                }
            }
        }
        self
    }

    /// Cuts, pauses and restarts.
    fn trouble(&mut self) {
        if self.chance.one_in(60) {
            let (from, to) = (self.chance.node(), self.chance.node());
            self.cut[from][to] = self.now + 200 + self.chance.below(4_000);
        }
        if self.chance.one_in(100) {
            let at = self.chance.node();
            self.nodes[at].stands_still_until = self.now + self.chance.below(3_000);
        }
        if self.chance.one_in(150) {
            let forgets = self.bug == Bug::ForgetfulVoters;
            let now = self.now;
            let at = self.chance.node();
            let node = &mut self.nodes[at];
            node.touched = if forgets { 0 } else { now };
            (node.leads, node.notices_at, node.asking, node.leases) = (None, None, None, None);
            (node.standing, node.confirmation) = (false, Confirmation::default());
            node.lease_ends = 0;
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if from == to {
            return self.receive(from, Letter { from, to, due: self.now, message });
        }
        let delay = if self.chance.one_in(4) { self.chance.below(600) } else { self.chance.below(30) };
        if self.cut[from][to] <= self.now && !self.chance.one_in(20) {
            self.letters.push(Letter { from, to, due: self.now + delay, message });
        }
    }

    fn deliver(&mut self, to: usize) {
        let mut at = 0;
        while at < self.letters.len() {
            if self.letters[at].to == to && self.letters[at].due <= self.now {
                let letter = self.letters.swap_remove(at);
                self.receive(to, letter);
            } else {
                at += 1;
            }
        }
    }

    fn receive(&mut self, at: usize, letter: Letter) {
        let (now, from, bug) = (self.now, letter.from, self.bug);
        let late = self.chance.below(600);
        let node = &mut self.nodes[at];
        match letter.message {
            Message::Confirm { term, began } => {
                if term < node.term {
                    return;
                }
                if from != at {
                    if node.leads.is_some_and(|leads| leads < term) {
                        node.leads = None;
                    }
                    (node.term, node.committed, node.touched, node.standing) = (term, true, now, false);
                }
                self.send(at, from, Message::Confirmed { term, began });
            }
            Message::Confirmed { term, began } => {
                if node.leads != Some(term) {
                    return;
                }
                let Some((asking, _, answers)) = node.asking.as_mut().filter(|asking| asking.1 == began) else {
                    return;
                };
                *answers += 1;
                if *answers > NODES / 2 && now - began <= 400 {
                    let asking = *asking;
                    node.asking = None;
                    if node.confirmation.confirmed(asking) {
                        self.look(at, term);
                    }
                }
            }
            Message::WantVote { term } => {
                if term <= node.term || (node.committed && node.leads.is_none() && now <= node.touched + FAITHFUL_MS) {
                    return;
                }
                if bug != Bug::LeaderVotes && !node.confirmation.may_vote(Monotonic(now)) {
                    return;
                }
                (node.term, node.committed, node.touched, node.standing) = (term, false, now, false);
                if node.leads.is_some() {
                    node.notices_at.get_or_insert(now + late);
                }
                self.send(at, from, Message::Vote { term });
            }
            Message::Vote { term } => {
                if !node.standing || node.term != term {
                    return;
                }
                node.votes += 1;
                if node.votes > NODES / 2 {
                    (node.standing, node.committed) = (false, true);
                    (node.leads, node.notices_at, node.asking, node.leases) = (Some(term), None, None, None);
                    node.predecessor = self.newest.1.filter(|before| *before != at);
                    self.newest = (term, Some(at));
                }
            }
            Message::Beat { sent } => {
                let (Some(_), Some(leases)) = (node.leads, &mut node.leases) else { return };
                let broker = self.registrations[from];
                let beat = Heartbeat {
                    broker,
                    applied: self.image.as_of(),
                    intent: Intent::Serve,
                    speaks: ProtocolVersion::CURRENT,
                };
                let heard = leases.heartbeat(&self.image, &beat, Monotonic(now));
                assert!(matches!(heard, Ok(None)), "{heard:?}");
                let due = if from == at && bug != Bug::SelfishLeader { OWN_LEASE_MS } else { LEASE_MS };
                let lease_ms = node.confirmation.lease_ms(Monotonic(now), due);
                let lease_ms = if bug == Bug::WholeLeases { lease_ms.map(|_| due) } else { lease_ms };
                if let Some(lease_ms) = lease_ms {
                    self.send(at, from, Message::Lease { sent, lease_ms });
                }
            }
            Message::Lease { sent, lease_ms } => node.lease_ends = node.lease_ends.max(sent + lease_ms),
        }
    }

    /// It has made sure that it runs the controller, and fences whose lease has ended.
    fn look(&mut self, at: usize, term: u64) {
        let now = Monotonic(self.now);
        let node = &mut self.nodes[at];
        if node.leases.is_none() {
            let mut leases = Leases::new(&self.image, LEASE_MS, now);
            if let Some(predecessor) = node.predecessor {
                leases.succeed(BrokerId(predecessor as u32 + 1));
            }
            if self.bug == Bug::Hasty {
                leases = Leases::new(&self.image, LEASE_MS - FAITHFUL_MS - 400, now);
            }
            node.leases = Some(leases);
        }
        let Some(leases) = &mut node.leases else { return };
        leases.is_here(BrokerId(at as u32 + 1), now);
        let ended: Vec<usize> = leases.expired(now).map(|broker| broker.broker_id.0 as usize - 1).collect();
        let predecessor = node.predecessor;
        // Nobody else's decisions hold.
        if self.newest != (term, Some(at)) {
            return;
        }
        for broker in ended {
            self.fenced += 1;
            self.handovers += u64::from(Some(broker) == predecessor);
            let ends = self.nodes[broker].lease_ends;
            if ends > self.now {
                let left = ends - self.now;
                self.violation = Some(format!("broker {broker} is fenced and has {left} ms of lease left"));
            }
        }
    }

    fn act(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        // It notices that it gave its vote away, sooner or later.
        if node.notices_at.is_some_and(|at| now > at) {
            (node.leads, node.notices_at) = (None, None);
        }
        if let Some(term) = node.leads {
            if now >= node.asks_at && node.notices_at.is_none() {
                node.asks_at = now + 100;
                node.asking = Some((node.confirmation.ask(Monotonic(now)), now, 0));
                (0..NODES).for_each(|to| self.send(at, to, Message::Confirm { term, began: now }));
            }
        } else {
            let patience = if node.committed { FAITHFUL_MS } else { 200 + self.chance.below(400) };
            if now > node.touched + patience {
                let term = node.term + 1;
                (node.term, node.committed, node.touched) = (term, false, now);
                (node.standing, node.votes) = (true, 1);
                (0..NODES).filter(|to| *to != at).for_each(|to| self.send(at, to, Message::WantVote { term }));
            }
        }
        let node = &mut self.nodes[at];
        if now >= node.beats_at {
            node.beats_at = now + 200;
            (0..NODES).for_each(|to| self.send(at, to, Message::Beat { sent: now }));
        }
    }
}

/// The first violation within so many schedules, and what happened in all of them.
fn lived(bug: Bug, schedules: u64) -> (Option<String>, u64, u64) {
    let (mut fenced, mut handovers) = (0, 0);
    for seed in 0..schedules {
        let world = World::new(seed, bug).live();
        fenced += world.fenced;
        handovers += world.handovers;
        if let Some(violation) = world.violation {
            return (Some(format!("schedule {seed}: {violation}")), fenced, handovers);
        }
    }
    (None, fenced, handovers)
}

#[test]
fn whoever_is_fenced_holds_no_lease_across_changes_of_the_controller() {
    let (violation, fenced, handovers) = lived(Bug::None, 2_000);
    assert_eq!(violation, None);
    println!("{fenced} times somebody was fenced, {handovers} times whoever ran the controller before");
    assert!(handovers > 1_000 && fenced > handovers + 1_000, "{handovers} of {fenced}");
}

#[test]
fn what_was_asked_before_a_vote_was_given_says_nothing() {
    let mut confirmation = Confirmation::default();
    let asked = confirmation.ask(Monotonic(1_000));
    assert!(confirmation.may_vote(Monotonic(1_050)), "nobody has confirmed it yet");
    assert!(!confirmation.confirmed(asked));
    assert_eq!(confirmation.lease_ms(Monotonic(1_100), LEASE_MS), None);
    let asked = confirmation.ask(Monotonic(1_100));
    assert!(confirmation.confirmed(asked));
    assert_eq!(confirmation.lease_ms(Monotonic(1_100), LEASE_MS), Some(LEASE_MS - 1), "never the whole");
    assert_eq!(confirmation.lease_ms(Monotonic(1_600), LEASE_MS), Some(LEASE_MS - 500));
    assert_eq!(confirmation.lease_ms(Monotonic(1_601), LEASE_MS), None);
    assert!(!confirmation.may_vote(Monotonic(1_100 + FAITHFUL_MS)));
    assert!(confirmation.may_vote(Monotonic(1_101 + FAITHFUL_MS)));
}

#[test]
fn each_step_of_the_argument_is_needed() {
    for bug in [Bug::WholeLeases, Bug::LeaderVotes, Bug::ForgetfulVoters, Bug::SelfishLeader, Bug::Hasty] {
        let (violation, ..) = lived(bug, 20_000);
        println!("{bug:?}: {violation:?}");
        assert!(violation.is_some(), "nothing was found of {bug:?}");
    }
}
