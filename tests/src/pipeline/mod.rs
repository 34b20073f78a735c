//! A read-process-write pipeline under faults: members of a group, each a process of its own, turn every record of one topic into two records of
//! another within transactions. Knows nothing of how a broker or the client keeps its promises.
//!
//! - [`job`]: what is done to a record; [`member`]: a member as a process, killed, paused, started again.
//! - [`asked`]: when members asked for their commits.
//! - [`output`]: what stands in the output, as read with and without the transactions that were undone.
//! - [`claims`]: what must hold of input and output, pure.
//! - [`storm`]: the faults, drawn one after the other.

pub mod asked;
pub mod claims;
pub mod job;
pub mod member;
pub mod output;
pub mod storm;
