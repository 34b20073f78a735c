//! Partitions that live here. In flow order:
//! - [`handle`]: what the rest of the broker holds; its mailbox, and who runs the owner.
//! - [`owner`]: the one place where a partition's state changes, as a step function over commands.
//! - [`tail`]: the offsets that an owner publishes, and readers wait on.
//! - [`cursor`]: reading forward, never ahead of what is published, never blocking a network thread.
//! - [`opening`]: from a folder on disk to a running owner, and back to nothing.
//! - [`registry`]: which partitions there are, kept in step with the metadata image.
//!
//! Knows nothing of sockets and frames.

mod command;
mod cursor;
mod handle;
mod opening;
mod owner;
pub(crate) mod refusals;
mod registry;
mod tail;

pub use command::{Acked, Append, Command, Ticket};
pub use cursor::{Cursor, Fetched};
pub use handle::Handle;
pub use opening::Opening;
pub use registry::{Registry, RegistryOptions};
pub use tail::Tail;
