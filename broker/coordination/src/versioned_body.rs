//! What is stored of a record: `u16` type, then `u16` version and the body as the message macro writes it at that version (little-endian). A type
//! or version that this code does not know is an error and never skipped. Knows nothing of what is written.

use tidelog_protocol::codec::DecodeError;
use tidelog_protocol::{Message, ProtocolVersion};

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
    /// A newer broker wrote a version of it that this one does not know.
    NewerVersion {
        /// The record, key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
    /// The cluster was raised to a level that this broker does not have.
    NewerFeatureLevel {
        /// The level.
        level: u16,
        /// The newest that this broker has.
        known: u16,
    },
    /// The body does not parse.
    Body {
        /// The record, key or value.
        name: &'static str,
        /// Why.
        cause: DecodeError,
    },
    /// The body is longer or shorter than its version says.
    Length {
        /// The record, key or value.
        name: &'static str,
        /// The version.
        version: u16,
    },
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const UPGRADE: &str = "a newer broker wrote it; upgrade this one";
        match self {
            Self::Short => f.write_str("a record is cut short"),
            Self::UnknownType { kind } => write!(f, "record of unknown type {kind}: {UPGRADE}"),
            Self::NewerVersion { name, version } => write!(f, "record {name} of unknown version {version}: {UPGRADE}"),
            Self::NewerFeatureLevel { level, known } => {
                write!(f, "metadata of feature level {level}, {known} is known here: {UPGRADE}")
            }
            Self::Body { name, cause } => write!(f, "record {name} does not parse: {cause}"),
            Self::Length { name, version } => {
                write!(f, "record {name} of version {version} has another length: {UPGRADE}")
            }
        }
    }
}

impl core::error::Error for RecordError {}

/// The type that bytes begin with, and the rest of them.
pub(crate) fn split_kind(bytes: &[u8]) -> Result<(u16, &[u8]), RecordError> {
    let (kind, rest) = bytes.split_first_chunk::<2>().ok_or(RecordError::Short)?;
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
