//! Partitions that live here. In flow order:
//! - [`handle`]: what the rest of the broker holds; its mailbox, and who runs the owner.
//! - [`assignment`]: what the metadata wants of a replica: lead, follow or wait.
//! - [`owner`]: the one place where a partition's state changes, as a step function over commands.
//! - [`marker`]: how a transaction ended, as a coordinator has it written.
//! - [`tail`]: the offsets that an owner publishes, and readers wait on.
//! - [`cursor`]: reading forward, never ahead of what is published, never blocking a network thread; [`replica_cursor`]: the same for
//!   followers, up to what is written. [`undone`]: what readers of what is committed leave out.
//! - [`repair_attempts`]: which damaged ranges no other replica has whole either.
//! - [`continuation`]: what a leader pushed, fitted to where the log here ends.
//! - [`upstream`]: the way to a leader elsewhere; [`proposal`]: in-sync sets that the controller is asked for.
//! - [`opening`]: from a folder on disk to a running owner, and back to nothing; `recoveries`: what many of them had to find out again.
//! - [`leftovers`]: folders that the metadata do not know.
//! - [`registry`]: which partitions there are, kept in step with the metadata image.
//!
//! Knows nothing of sockets and frames.

mod assignment;
mod command;
mod continuation;
mod cursor;
mod handle;
mod leftovers;
mod marker;
mod opening;
mod owner;
mod proposal;
mod recoveries;
pub(crate) mod refusals;
mod registry;
mod repair_attempts;
mod replica_cursor;
mod tail;
mod undone;
mod upstream;

pub use assignment::{Assignment, Member, Part};
pub use command::{Acked, Append, Command, Followed, Replicated, Tick, Ticket};
pub use cursor::{Cursor, Fetched, Serves};
pub use handle::Handle;
pub use leftovers::{LeftoversError, check_age};
pub use marker::Marker;
pub use opening::Opening;
pub use proposal::{Proposals, Proposed};
pub use registry::{Registry, RegistryOptions};
pub use repair_attempts::{Failed, RepairAttempts};
pub use replica_cursor::{Care, Pushed, ReplicaCursor};
pub use tail::Tail;
pub use upstream::{Attempt, Question, Replica, Upstream};
