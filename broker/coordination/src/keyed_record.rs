//! Bytes of what coordinators write, keyed for compaction. A key is `u16` type, `u16` form (both little-endian; the form is 1 and never
//! changes, or a key would not meet its older values), then the body as the message macro writes it. A value is `u16` version, then the body
//! at that version. A type or version that this code does not know is an error and never skipped. Knows nothing of what is written.

use alloc::vec::Vec;

use tidelog_protocol::codec::{BytesMut, DecodeError};
use tidelog_protocol::{Message, ProtocolVersion};

/// The one form of keys.
pub(crate) const KEY_FORM: u16 = 1;

/// Why bytes are not a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// They end inside the type or version.
    Short,
    /// A newer broker wrote a type of record that this one does not know.
    UnknownType {
        /// The type.
        kind: u16,
    },
    /// A newer broker wrote a version that this one does not know.
    NewerVersion {
        /// The key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
    /// The body does not parse.
    Body {
        /// The key or value.
        name: &'static str,
        /// Why.
        cause: DecodeError,
    },
    /// The body is longer or shorter than its version says.
    Length {
        /// The key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const UPGRADE: &str = "a newer broker wrote it; upgrade this one";
        match self {
            Self::Short => f.write_str("a coordinator's record is cut short"),
            Self::UnknownType { kind } => write!(f, "coordinator's record of unknown type {kind}: {UPGRADE}"),
            Self::NewerVersion { name, version } => {
                write!(f, "{name} of unknown version {version} in a coordinator's record: {UPGRADE}")
            }
            Self::Body { name, cause } => write!(f, "{name} in a coordinator's record does not parse: {cause}"),
            Self::Length { name, version } => {
                write!(f, "{name} of version {version} in a coordinator's record has another length: {UPGRADE}")
            }
        }
    }
}

impl core::error::Error for RecordError {}

/// A key of a type.
pub(crate) fn key<M: Message>(kind: u16, key: &M) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(64);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&KEY_FORM.to_le_bytes());
    key.encode(&mut out, ProtocolVersion(KEY_FORM));
    out.to_vec()
}

/// A value at a version.
pub(crate) fn versioned<M: Message>(message: &M, version: u16) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(128);
    out.extend_from_slice(&version.to_le_bytes());
    message.encode(&mut out, ProtocolVersion(version));
    out.to_vec()
}

/// The type that a key begins with, and the rest of it.
pub(crate) fn split_kind(key: &[u8]) -> Result<(u16, &[u8]), RecordError> {
    let (kind, rest) = key.split_first_chunk::<2>().ok_or(RecordError::Short)?;
    Ok((u16::from_le_bytes(*kind), rest))
}

/// A body behind its version, or form.
pub(crate) fn body<M: Message>(bytes: &[u8], newest: u16) -> Result<M, RecordError> {
    let (version, body) = bytes.split_first_chunk::<2>().ok_or(RecordError::Short)?;
    let version = u16::from_le_bytes(*version);
    if version == 0 || version > newest {
        return Err(RecordError::NewerVersion { name: M::NAME, version });
    }
    let message = M::from_body(body, ProtocolVersion(version));
    let message = message.map_err(|cause| RecordError::Body { name: M::NAME, cause })?;
    // On the wire a longer body is a newer peer's; here the version says to the byte what there is.
    if message.to_body(ProtocolVersion(version)).len() != body.len() {
        return Err(RecordError::Length { name: M::NAME, version });
    }
    Ok(message)
}
