//! One client of the world: what it knows and is at; and what has happened to all of them. Knows nothing of what comes next.

use std::collections::BTreeMap;

use tidelog_coordination::groups::classic::{ClassicCaller, ClassicSpeech};
use tidelog_protocol::codec::Bytes;

use crate::group_paper::GROUP;

/// What has happened.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// Kinds of trouble that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let wanted = [
            "generation",
            "part",
            "commit",
            "late commit refused",
            "late sync",
            "answer lost",
            "coordinator moved",
            "member died",
            "member left",
            "next life without a round",
            "fenced instance",
            "id first",
            "unknown member",
        ];
        wanted.into_iter().filter(|what| !self.counts.contains_key(what)).collect()
    }
}

/// What a client is at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    Out,
    WaitsToJoin { after: i32 },
    Joined(Vec<String>),
    WaitsForPart,
    Works(Part),
}

/// What a member is to do, and which saying of a leader that is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub saying: u64,
    pub partitions: Vec<u32>,
}

impl Part {
    pub fn to_bytes(&self) -> Bytes {
        let partitions = self.partitions.iter().flat_map(|partition| partition.to_be_bytes());
        self.saying.to_be_bytes().into_iter().chain(partitions).collect()
    }

    pub fn read(bytes: &Bytes) -> Self {
        let (saying, rest) = bytes.split_first_chunk::<8>().expect("a part names the saying");
        let partition = |four: &[u8]| u32::from_be_bytes(four.try_into().expect("four bytes"));
        Self { saying: u64::from_be_bytes(*saying), partitions: rest.chunks(4).map(partition).collect() }
    }
}

#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub instance: Option<String>,
    pub speaks: ClassicSpeech,
    pub protocols: Vec<&'static str>,
    pub generation: i32,
    pub doing: Doing,
    pub heard: u64,
}

impl Client {
    pub fn caller(&self) -> ClassicCaller {
        ClassicCaller {
            group: GROUP.into(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
        }
    }
}
