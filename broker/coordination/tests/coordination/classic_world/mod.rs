//! A classic group in a world of troubles: members that come, go, die, come back under their name and say old things late; answers that are
//! lost; coordinators that move to what compaction left of the log. What must hold is checked as it happens. Knows nothing of how the machine decides.

mod client;

use std::collections::{BTreeMap, BTreeSet};

use tidelog_coordination::groups::classic::{
    ClassicCommand, ClassicError, ClassicIdentity, ClassicJoin, ClassicJoined, ClassicReply, ClassicSpeech, ClassicSync,
};
use tidelog_coordination::groups::{GroupCommand, GroupDecision, GroupFlaws, GroupLimits, GroupReply, Groups};
use tidelog_protocol::codec::{Bytes, Entropy};
use tidelog_protocol::{ErrorCode, Monotonic};

pub use client::Tally;
use client::{Client, Doing, Part};

use crate::classic_paper::knows;
use crate::cluster::NOW;
use crate::group_paper::{GROUP, Paper, limits, offset_of};
use crate::group_world::compaction::{compacted, describe};

const PARTITIONS: u32 = 6;
const CLIENTS: usize = 4;
const STEPS: usize = 600;
const SESSION_MS: u64 = 2_000;
const REBALANCE_MS: u64 = 3_000;

pub struct World {
    paper: Paper,
    chance: Entropy,
    clients: Vec<Client>,
    /// What was sent and comes late.
    late: Vec<ClassicCommand>,
    /// Ids that others took the place of.
    fenced: BTreeSet<String>,
    named: u64,
    sayings: u64,
    /// Who leads each generation, and what counts there.
    leaders: BTreeMap<i32, String>,
    said_by: BTreeMap<u64, (i32, String)>,
    counts: BTreeMap<i32, u64>,
    newest: i32,
    committed: BTreeMap<u32, u64>,
    calm: bool,
    flaws: GroupFlaws,
    pub tally: Tally,
}

fn wide() -> GroupLimits {
    GroupLimits { members_max: 40, groups_max: 10, ..limits() }
}

impl World {
    pub fn new(seed: u64, flaws: GroupFlaws) -> Self {
        let mut paper = Paper::new(PARTITIONS);
        paper.groups = Groups::with_flaws(wide(), flaws);
        let mut world = Self {
            paper,
            chance: Entropy::new(seed),
            clients: Vec::new(),
            late: Vec::new(),
            fenced: BTreeSet::new(),
            named: 0,
            sayings: 0,
            leaders: BTreeMap::new(),
            said_by: BTreeMap::new(),
            counts: BTreeMap::new(),
            newest: 0,
            committed: BTreeMap::new(),
            calm: false,
            flaws,
            tally: Tally::default(),
        };
        for place in 0..CLIENTS {
            let client = world.born(place);
            world.clients.push(client);
        }
        world
    }

    /// Troubles, then a while without: everybody works in the end.
    pub fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.calm = true;
        self.late.clear();
        for _ in 0..400 {
            self.pass(50);
            for place in 0..CLIENTS {
                self.act(place);
            }
        }
        let mut all: Vec<u32> = Vec::new();
        for client in &self.clients {
            let Doing::Works(part) = &client.doing else { panic!("EverybodyWorksInTheEnd: {client:?}") };
            assert_eq!(client.generation, self.newest, "EverybodyWorksInTheEnd: {client:?}");
            all.extend(&part.partitions);
        }
        all.sort_unstable();
        assert_eq!(all, (0..PARTITIONS).collect::<Vec<_>>(), "EverythingIsWorkedOnOnce");
    }

    fn happens(&mut self, one_in: u64) -> bool {
        !self.calm && self.chance.below(one_in) == 0
    }

    fn step(&mut self) {
        match self.chance.below(40) {
            0 => self.move_coordinator(),
            1 => {
                let place = self.chance.below(CLIENTS as u64) as usize;
                self.tally.member_died += 1;
                self.leave_behind(place);
                self.clients[place] = self.born(place);
            }
            2..6 => self.say_late(),
            6..12 => {
                let ms = self.chance.below(700);
                self.pass(ms);
            }
            _ => {
                let place = self.chance.below(CLIENTS as u64) as usize;
                self.act(place);
            }
        }
        self.check();
    }

    fn pass(&mut self, ms: u64) {
        self.paper.pass(ms);
    }

    /// Half of them have a name that outlives them.
    fn born(&mut self, place: usize) -> Client {
        let protocols = [vec!["range", "sticky"], vec!["sticky", "range"], vec!["range"]];
        let speaks = [ClassicSpeech::First, ClassicSpeech::IdFirst, ClassicSpeech::SkipsAssignment];
        Client {
            id: String::new(),
            instance: place.is_multiple_of(2).then(|| format!("instance-{place}")),
            speaks: speaks[self.chance.below(3) as usize],
            protocols: protocols[self.chance.below(3) as usize].clone(),
            generation: -1,
            doing: Doing::Out,
            heard: self.paper.now,
        }
    }

    /// What a member had sent when it died, and what one says that only seemed to have died.
    fn leave_behind(&mut self, place: usize) {
        let client = self.clients[place].clone();
        if client.id.is_empty() || !self.happens(2) {
            return;
        }
        if matches!(client.doing, Doing::Works(_)) {
            let commit = self.commit_of(&client, 0);
            self.late.push(commit);
        }
        self.late.push(ClassicCommand::Heartbeat(client.caller()));
    }

    fn move_coordinator(&mut self) {
        self.tally.coordinator_moved += 1;
        self.paper.log = compacted(&self.paper.log, &mut self.chance);
        self.paper.groups = Groups::with_flaws(wide(), self.flaws);
        for record in &self.paper.log {
            self.paper.groups.replay(record);
        }
        self.paper.groups.loaded(Monotonic(self.paper.now));
        for client in &mut self.clients {
            // Whoever waits is told to ask another, and does.
            match client.doing {
                Doing::WaitsToJoin { .. } => client.doing = Doing::Out,
                Doing::WaitsForPart => client.doing = Doing::Joined(Vec::new()),
                Doing::Out | Doing::Joined(_) | Doing::Works(_) => {}
            }
        }
    }

    fn act(&mut self, place: usize) {
        let client = self.clients[place].clone();
        match &client.doing {
            Doing::Out => self.join(place),
            Doing::WaitsToJoin { after } => {
                let member = (client.id.as_str(), client.instance.as_deref());
                match self.paper.groups.classic_joined(GROUP, member, *after) {
                    Some(Ok(joined)) => self.joined(place, joined),
                    Some(Err(error)) => self.refused(place, &error),
                    None => {}
                }
            }
            Doing::Joined(members) => self.sync(place, members),
            Doing::WaitsForPart => match self.paper.groups.classic_synced(&client.caller()) {
                Some(Ok(part)) => self.take(place, &part.assignment),
                Some(Err(error)) => self.refused(place, &error),
                None => {}
            },
            Doing::Works(part) => self.work(place, &part.clone()),
        }
    }

    fn work(&mut self, place: usize, part: &Part) {
        if self.paper.now - self.clients[place].heard >= SESSION_MS {
            // It knows that it may be taken for dead.
            self.clients[place].doing = Doing::Out;
            return;
        }
        if self.happens(30) {
            self.tally.member_left += 1;
            let client = &self.clients[place];
            let (member_id, instance_id) = (client.id.clone(), client.instance.clone());
            let members = vec![ClassicIdentity { member_id, instance_id }];
            let _ = self.call(ClassicCommand::Leave { group: GROUP.into(), members });
            self.clients[place] = self.born(place);
        } else if self.happens(20) {
            // Something that the work depends on has changed.
            self.clients[place].doing = Doing::Out;
        } else if !part.partitions.is_empty() && self.chance.below(2) == 0 {
            let partition = part.partitions[self.chance.below(part.partitions.len() as u64) as usize];
            let command = self.commit_of(&self.clients[place].clone(), partition);
            if self.happens(4) {
                self.late.push(command);
            } else {
                match self.commit(command) {
                    Ok(_) => {}
                    Err(error) => self.refused(place, &error),
                }
            }
        } else {
            match self.call(ClassicCommand::Heartbeat(self.clients[place].caller())) {
                Ok(_) => self.clients[place].heard = self.paper.now,
                Err(error) => self.refused(place, &error),
            }
        }
    }

    fn commit_of(&mut self, client: &Client, partition: u32) -> ClassicCommand {
        let offset = self.chance.below(1_000);
        let offsets = vec![offset_of(self.paper.id("orders"), partition, offset)];
        ClassicCommand::Commit { caller: client.caller(), offsets }
    }

    /// Whatever is taken is of a member, in the newest generation, whose place nobody took.
    fn commit(&mut self, command: ClassicCommand) -> Result<ClassicReply, ClassicError> {
        let ClassicCommand::Commit { caller, offsets } = &command else { unreachable!("it commits") };
        let (caller, partition, offset) = (caller.clone(), offsets[0].partition.0, offsets[0].offset.0);
        let said = self.call(command)?;
        self.tally.commit += 1;
        assert_eq!(caller.generation, self.newest, "NoCommitFromAnEarlierGeneration: {caller:?}");
        assert!(!self.fenced.contains(&caller.member_id), "NoCommitOfAFormerLife: {caller:?}");
        self.committed.insert(partition, offset);
        Ok(said)
    }

    fn say_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.chance.below(self.late.len() as u64) as usize;
        let command = self.late.swap_remove(at);
        if matches!(command, ClassicCommand::Commit { .. }) {
            if self.commit(command).is_err() {
                self.tally.late_commit_refused += 1;
            }
            return;
        }
        if matches!(command, ClassicCommand::Sync(_)) {
            self.tally.late_sync += 1;
        }
        if self.call(command) == Err(ClassicError::FencedInstance) {
            self.tally.fenced_instance += 1;
        }
    }

    fn join(&mut self, place: usize) {
        self.named += 1;
        let client = self.clients[place].clone();
        let before = client.instance.as_deref().and_then(|instance| self.holder(instance));
        let join = ClassicJoin {
            group: GROUP.into(),
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            client_id: "c".into(),
            client_host: "h".into(),
            session_ms: SESSION_MS as i32,
            rebalance_ms: REBALANCE_MS as i32,
            protocol_type: "consumer".into(),
            protocols: knows(&client.protocols),
            fresh_id: format!("m{:04}", self.named),
            speaks: client.speaks,
        };
        let said = self.call(ClassicCommand::Join(join));
        let taken = before.filter(|before| {
            *before != client.id
                && client.instance.as_deref().and_then(|name| self.holder(name)).as_ref() != Some(before)
        });
        self.fenced.extend(taken);
        if self.happens(8) {
            self.tally.answer_lost += 1;
            return;
        }
        match said {
            Ok(ClassicReply::JoinLater { member_id, after }) => {
                self.clients[place].id = member_id;
                self.clients[place].doing = Doing::WaitsToJoin { after };
            }
            Ok(ClassicReply::Joined(joined)) => {
                if client.id.is_empty() {
                    self.tally.next_life_without_a_round += 1;
                }
                self.joined(place, joined);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => self.refused(place, &error),
        }
    }

    fn joined(&mut self, place: usize, joined: ClassicJoined) {
        self.tally.generation += 1;
        let client = &mut self.clients[place];
        client.id = joined.member_id;
        client.generation = joined.generation;
        client.heard = self.paper.now;
        client.doing = Doing::Joined(Vec::new());
        if joined.leader == client.id && !joined.skips_assignment {
            let members: Vec<String> = joined.members.into_iter().map(|member| member.member_id).collect();
            client.doing = Doing::Joined(members);
            let leader = client.id.clone();
            let before = self.leaders.entry(joined.generation).or_insert_with(|| leader.clone());
            assert_eq!(*before, leader, "OneLeader: in generation {}", joined.generation);
        }
    }

    fn sync(&mut self, place: usize, members: &[String]) {
        let client = self.clients[place].clone();
        self.sayings += 1;
        let saying = self.sayings;
        self.said_by.insert(saying, (client.generation, client.id.clone()));
        // One that leads no more may still think so.
        let members = if members.is_empty() && self.happens(4) { vec![client.id.clone()] } else { members.to_vec() };
        let part = |(at, id): (usize, &String)| {
            let partitions = (0..PARTITIONS).filter(|partition| *partition as usize % members.len() == at).collect();
            (id.clone(), Part { saying, partitions }.to_bytes())
        };
        let parts = members.iter().enumerate().map(part).collect();
        let sync = ClassicSync { caller: client.caller(), protocol_type: None, protocol: None, parts };
        let command = ClassicCommand::Sync(sync);
        if self.happens(4) {
            self.late.push(command.clone());
        }
        let said = self.call(command);
        if self.happens(8) {
            // It says it anew.
            self.tally.answer_lost += 1;
            return;
        }
        match said {
            Ok(ClassicReply::Synced(part)) => self.take(place, &part.assignment),
            Ok(ClassicReply::SyncLater) => self.clients[place].doing = Doing::WaitsForPart,
            Ok(other) => panic!("{other:?}"),
            Err(error) => self.refused(place, &error),
        }
    }

    /// A part comes from the leader of its generation, and all that anybody hears there from one saying of it.
    fn take(&mut self, place: usize, bytes: &Bytes) {
        let client = &mut self.clients[place];
        client.heard = self.paper.now;
        if bytes.is_empty() {
            // Its leader did not know of it.
            client.doing = Doing::Works(Part { saying: 0, partitions: Vec::new() });
            return;
        }
        self.tally.part += 1;
        let part = Part::read(bytes);
        let (generation, by) = &self.said_by[&part.saying];
        assert_eq!(*generation, client.generation, "PartsAreOfTheirGeneration: {client:?}");
        assert_eq!(self.leaders.get(generation), Some(by), "OnlyTheLeaderAssigns: in generation {generation}");
        let counts = *self.counts.entry(*generation).or_insert(part.saying);
        assert_eq!(counts, part.saying, "OneAssignment: in generation {generation}");
        client.doing = Doing::Works(part);
    }

    fn refused(&mut self, place: usize, error: &ClassicError) {
        let client = &mut self.clients[place];
        client.doing = Doing::Out;
        match error {
            ClassicError::UnknownMember => {
                self.tally.unknown_member += 1;
                client.id = String::new();
            }
            ClassicError::MemberIdRequired(id) => {
                self.tally.id_first += 1;
                client.id.clone_from(id);
            }
            ClassicError::FencedInstance => {
                self.tally.fenced_instance += 1;
                self.clients[place] = self.born(place);
            }
            ClassicError::IllegalGeneration | ClassicError::RebalanceInProgress => {}
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, command: ClassicCommand) -> Result<ClassicReply, ClassicError> {
        let image = self.paper.cluster.controller.image();
        let decided = self.paper.groups.handle(&GroupCommand::Classic(command), image, Monotonic(self.paper.now), NOW);
        let GroupDecision { records, reply } = match decided {
            Ok(decision) => decision,
            Err(refusal) if refusal.code == ErrorCode::GroupNotEmpty => return Err(ClassicError::UnknownMember),
            Err(refusal) => panic!("{refusal:?}"),
        };
        for record in &records {
            self.paper.groups.replay(record);
        }
        self.paper.log.extend(records);
        self.see_generation();
        let GroupReply::Classic(said) = reply else { panic!("{reply:?}") };
        *said
    }

    fn see_generation(&mut self) {
        let Some(described) = describe(&mut self.paper.groups, GROUP, Monotonic(self.paper.now)) else { return };
        assert!(described.epoch >= self.newest, "GenerationsOnlyGrow: {} after {}", described.epoch, self.newest);
        self.newest = described.epoch;
    }

    fn holder(&mut self, instance: &str) -> Option<String> {
        let described = describe(&mut self.paper.groups, GROUP, Monotonic(self.paper.now))?;
        let holder = described.members.into_iter().find(|member| member.instance_id.as_deref() == Some(instance));
        holder.map(|member| member.member_id)
    }

    fn check(&mut self) {
        self.see_generation();
        for (partition, offset) in &self.committed {
            assert_eq!(self.paper.committed(*partition), Some(*offset), "NoCommitLost");
        }
        let Some(described) = describe(&mut self.paper.groups, GROUP, Monotonic(self.paper.now)) else { return };
        let mut instances = BTreeSet::new();
        for instance in described.members.iter().filter_map(|member| member.instance_id.as_ref()) {
            assert!(instances.insert(instance), "OneLifeOfAnInstance: {instance}");
        }
    }
}
