//! The wire of Tidelog, to the last byte. Knows nothing of sockets, files, threads or clocks.
//!
//! In the order a byte meets them:
//! - [`frame`]: the preface, the fixed header, its checksum and its limits.
//! - [`codec`]: how one field is written and read, bounded by the bytes that remain.
//! - [`message`]: the macro that declares a message once, with the version that introduced each field.
//! - [`api`]: the table of APIs; one row, one message file, one handler.
//! - [`messages`]: one file per API.
//! - [`records`]: Kafka record batches (magic 2), the payload that is never re-encoded.
//! - [`kafka`]: the wire of Kafka, which the same port answers.
//! - [`ids`], [`error`] and [`durability`]: the words all of them share.
//!
//! `SPEC.md` beside this crate is the written form; a test holds the two together.

pub mod api;
pub mod codec;
pub mod durability;
pub mod error;
pub mod frame;
pub mod ids;
pub mod kafka;
pub mod message;
pub mod messages;
pub mod records;
pub mod version;

pub use durability::Durability;
pub use error::{ErrorCode, WireError};
pub use ids::*;
pub use message::Message;
pub use version::ProtocolVersion;

/// What the macros need where a `no_std` crate expands them.
#[doc(hidden)]
pub mod owned {
    pub use std::{format, string::String, vec, vec::Vec};
}
