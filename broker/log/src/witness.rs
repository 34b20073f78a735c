//! Who besides a partition folder knows how far its log went. No logic.

use tidelog_protocol::Offset;

/// What tells of a log's end where the folder has lost what did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Witness {
    /// Nothing.
    Nobody,
    /// A note of an offset below which everything was flushed once, to be believed of any folder that has a segment: what is missing below it is a
    /// hole, and no offset below it is given out again. So it is with a folder that lost its end, and with an older copy of one.
    Note(Offset),
    /// Replicas that hold what is lost of the end: it may be fetched from them, and the log begins again where it is known to be whole.
    Replicas,
}
