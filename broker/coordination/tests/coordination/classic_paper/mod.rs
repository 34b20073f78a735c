//! A classic group on paper, beside the other kind: what its members say and hear. Knows nothing of what the tests want to show.
#![allow(dead_code, reason = "each test program uses a part")]

use tidelog_coordination::Refusal;
use tidelog_coordination::groups::classic::{
    ClassicCaller, ClassicCommand, ClassicDescription, ClassicError, ClassicIdentity, ClassicJoin, ClassicJoined,
    ClassicPart, ClassicReply, ClassicSpeech, ClassicSync,
};
use tidelog_coordination::groups::records::ClassicProtocol;
use tidelog_coordination::groups::{GroupCommand, GroupReply, Groups};
use tidelog_protocol::Monotonic;
use tidelog_protocol::codec::Bytes;

use crate::group_paper::{GROUP, Paper, limits, offset_of};

/// How long the first generation waits for members.
pub const HOLD_MS: u64 = 500;
/// How long a member may be silent, and how long it may take to join again.
pub const SESSION_MS: u64 = 6_000;
pub const REBALANCE_MS: u64 = 10_000;

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What joins under the id `fresh`, by an old version of the protocol: at once.
pub fn joining(fresh: &str) -> ClassicJoin {
    ClassicJoin {
        group: GROUP.into(),
        member_id: String::new(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/192.0.2.1".into(),
        session_ms: SESSION_MS as i32,
        rebalance_ms: REBALANCE_MS as i32,
        protocol_type: "consumer".into(),
        protocols: knows(&["range"]),
        fresh_id: fresh.into(),
        speaks: ClassicSpeech::First,
    }
}

/// The same from one that is a member.
pub fn again(id: &str) -> ClassicJoin {
    ClassicJoin { member_id: id.into(), ..joining("unused") }
}

/// The same under a name that outlives the process.
pub fn lasting(instance: &str, join: ClassicJoin) -> ClassicJoin {
    ClassicJoin { instance_id: Some(instance.into()), ..join }
}

pub fn knows(names: &[&str]) -> Vec<ClassicProtocol> {
    names.iter().map(|name| ClassicProtocol { name: (*name).into(), metadata: bytes(&format!("for {name}")) }).collect()
}

pub fn caller(id: &str, generation: i32) -> ClassicCaller {
    ClassicCaller { group: GROUP.into(), generation, member_id: id.into(), instance_id: None }
}

pub fn as_instance(instance: &str, caller: ClassicCaller) -> ClassicCaller {
    ClassicCaller { instance_id: Some(instance.into()), ..caller }
}

impl Paper {
    pub fn call(&mut self, command: ClassicCommand) -> Result<ClassicReply, ClassicError> {
        self.try_call(command).expect("it is not refused by what both kinds have in common")
    }

    pub fn try_call(&mut self, command: ClassicCommand) -> Result<Result<ClassicReply, ClassicError>, Refusal> {
        match self.ask(&GroupCommand::Classic(command))? {
            GroupReply::Classic(decided) => Ok(*decided),
            other => unreachable!("{other:?}"),
        }
    }

    /// It joins, and waits if it has to: its id, and the generation that it waits for the end of.
    pub fn enter(&mut self, join: ClassicJoin) -> (String, i32) {
        match self.call(ClassicCommand::Join(join)) {
            Ok(ClassicReply::JoinLater { member_id, after }) => (member_id, after),
            other => panic!("{other:?}"),
        }
    }

    /// It joins, which is refused.
    pub fn refused(&mut self, join: ClassicJoin) -> ClassicError {
        self.call(ClassicCommand::Join(join)).expect_err("it is refused")
    }

    /// What a member hears that waits for a generation.
    pub fn hears(&self, (id, after): &(String, i32)) -> Option<Result<ClassicJoined, ClassicError>> {
        self.groups.classic_joined(GROUP, (id, None), *after)
    }

    /// The generation has begun.
    pub fn begun(&self, waiting: &(String, i32)) -> ClassicJoined {
        self.hears(waiting).expect("it has begun").expect("with this member")
    }

    /// Members join together, those that are none yet and those that are; the first of them leads. Gives the generation.
    pub fn gather(&mut self, members: &[&str]) -> i32 {
        let mut waiting = Vec::new();
        for id in members {
            let known = self.shown().members.iter().any(|member| member.member_id == *id);
            waiting.push(self.enter(if known { again(id) } else { joining(id) }));
        }
        self.pass(HOLD_MS);
        let joined: Vec<_> = waiting.iter().map(|waiting| self.begun(waiting)).collect();
        joined[0].generation
    }

    /// They do, and everybody has a part, which is its own id.
    pub fn settle_classic(&mut self, members: &[&str]) -> i32 {
        let generation = self.gather(members);
        let leader = self.leader();
        let parts = members.iter().map(|id| (*id, *id)).collect::<Vec<_>>();
        self.sync(&leader, generation, &parts).expect("it leads");
        generation
    }

    /// Who leads, by the machine's own records.
    pub fn leader(&mut self) -> String {
        let members = self.shown().members;
        let leads = |id: &String| {
            let joined = self.groups.classic_joined(GROUP, (id, None), -1);
            joined.and_then(Result::ok).is_some_and(|joined| joined.leader == *id)
        };
        members.into_iter().map(|member| member.member_id).find(leads).expect("somebody leads")
    }

    pub fn sync(&mut self, id: &str, generation: i32, parts: &[(&str, &str)]) -> Result<ClassicReply, ClassicError> {
        let parts = parts.iter().map(|(id, part)| ((*id).into(), bytes(part))).collect();
        let caller = caller(id, generation);
        self.call(ClassicCommand::Sync(ClassicSync { caller, protocol_type: None, protocol: None, parts }))
    }

    /// What a member is told to do, if that is known.
    pub fn part(&self, id: &str, generation: i32) -> Option<Result<ClassicPart, ClassicError>> {
        self.groups.classic_synced(&caller(id, generation))
    }

    pub fn lives(&mut self, id: &str, generation: i32) -> Result<ClassicReply, ClassicError> {
        self.call(ClassicCommand::Heartbeat(caller(id, generation)))
    }

    pub fn leave_classic(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Result<(), ClassicError>> {
        let identity = |(id, instance): &(&str, Option<&str>)| ClassicIdentity {
            member_id: (*id).into(),
            instance_id: instance.map(Into::into),
        };
        let members = members.iter().map(identity).collect();
        match self.call(ClassicCommand::Leave { group: GROUP.into(), members }) {
            Ok(ClassicReply::Left(left)) => left,
            other => panic!("{other:?}"),
        }
    }

    /// It commits an offset of the first partition of "orders".
    pub fn commit_classic(
        &mut self,
        caller: ClassicCaller,
        offset: u64,
    ) -> Result<Result<ClassicReply, ClassicError>, Refusal> {
        let offsets = vec![offset_of(self.id("orders"), 0, offset)];
        self.try_call(ClassicCommand::Commit { caller, offsets })
    }

    /// The group, as Kafka's tools see it.
    pub fn shown(&mut self) -> ClassicDescription {
        match self.call(ClassicCommand::Describe { group: GROUP.into() }) {
            Ok(ClassicReply::Described(described)) => described,
            Err(ClassicError::UnknownGroup) => ClassicDescription {
                phase: tidelog_coordination::groups::records::ClassicPhase::Empty,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Another broker coordinates: all it has is what is stored.
    pub fn take_over(&mut self) {
        self.groups = Groups::new(limits());
        for record in &self.log {
            self.groups.replay(record);
        }
        self.groups.loaded(Monotonic(self.now));
    }
}
