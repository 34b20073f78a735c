//! Metadata and the way to change it. In flow order:
//! - [`controllers`]: takes a command, lets the pure controller decide, proposes its records, waits until they hold.
//! - [`local`]: the quorum of one: a flushed log of metadata records and the image that they make.
//!
//! The seam to consensus is what [`local::Quorum`] offers and no more: propose many records as one entry, watch the image, know
//! the role. Knows nothing of sockets, nor of where partitions are opened.

mod controllers;
mod local;

pub use controllers::Controllers;
pub use local::{Quorum, QuorumError, Role};
