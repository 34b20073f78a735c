//! Bytes of what coordinators write, keyed for compaction. A key is `u16` type, `u16` form (both little-endian; the form is 1 and never
//! changes, or a key would not meet its older values), then the body as the message macro writes it. A value is `u16` version, then the body
//! at that version. A type or version that this code does not know is an error and never skipped. Knows nothing of what is written.

use alloc::vec::Vec;

use tidelog_protocol::codec::BytesMut;
use tidelog_protocol::{Message, ProtocolVersion};

pub(crate) use crate::versioned_body::{body, split_kind};

/// The one form of keys.
pub(crate) const KEY_FORM: u16 = 1;

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
