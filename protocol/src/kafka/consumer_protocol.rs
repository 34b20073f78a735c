//! What consumers say to each other in a group whose protocol type is `consumer`, through a broker that passes it on as bytes: a version, and what
//! it has. Read here for people alone, so nothing depends on it.

use bytes::Bytes;

use super::codec::{DecodeError, Field, Layout, Reader};
use super::message::Message;
use crate::kafka_message;

/// The type of the protocol by which consumers share partitions.
pub const CONSUMER: &str = "consumer";
/// The newest version that is known; what later ones add comes last.
const NEWEST: i16 = 3;

kafka_message! {
    /// Partitions of a topic.
    pub struct ConsumerPartitions {
        /// The topic.
        (0..) topic: String;
        /// The partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// What a member wants to read.
    pub struct ConsumerProtocolSubscription {
        /// The topics.
        (0..) topics: Vec<String>;
        /// Whatever its assignor needs.
        (0..) user_data: Option<Bytes>, null (0..);
        /// What it has.
        (1..) owned_partitions: Vec<ConsumerPartitions>;
        /// The generation that it has it from.
        (2..) generation_id: i32 = -1;
        /// Where it stands.
        (3..) rack_id: Option<String>, null (3..);
    }
}

kafka_message! {
    /// What a member is to read.
    pub struct ConsumerProtocolAssignment {
        /// By topic.
        (0..) assigned_partitions: Vec<ConsumerPartitions>;
        /// Whatever its assignor needs.
        (0..) user_data: Option<Bytes>, null (0..);
    }
}

/// Reads what stands behind its version.
///
/// # Errors
/// [`DecodeError`]: clients may put there whatever they like.
pub fn read<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut input = Reader::new(bytes);
    input.enter("version");
    let version = i16::read(&mut input, Layout { version: 0, flexible: false, nullable: false })?;
    if version < 0 {
        return Err(input.bad_value());
    }
    M::decode(&mut input, version.min(NEWEST), false)
}
