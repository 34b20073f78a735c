//! One client of the world: what it knows and is at; and what has happened to all of them. Knows nothing of what comes next.

use tidelog_coordination::groups::classic::{ClassicCaller, ClassicSpeech};
use tidelog_protocol::codec::Bytes;

use crate::group_paper::GROUP;
use crate::seeds::tally;

tally! {
    generation part commit late_commit_refused late_sync answer_lost coordinator_moved member_died member_left next_life_without_a_round fenced_instance id_first unknown_member
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
