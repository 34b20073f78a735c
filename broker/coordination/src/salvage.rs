//! What is left of a coordinator's log of which a part is lost for good. Knows nothing of what its records mean: what becomes of them is for the
//! rules that wrote them.

use alloc::vec::Vec;

/// What is left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remains<R> {
    /// The latest that there is of each key, without those that were taken back.
    pub records: Vec<Remnant<R>>,
    /// How many records are lost, at most.
    pub lost: u64,
}

/// The latest record that there is of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remnant<R> {
    /// The record.
    pub record: R,
    /// What is lost came after it, so that it may not be the last word.
    pub is_doubtful: bool,
}
