//! The messages of Kafka's protocol: read in a version that is served. What is read is written anew, and reads back as the same; the header of
//! a request is read whatever follows.

use bytes::Bytes;
use tidelog_protocol::kafka::RequestHeader;
use tidelog_protocol::kafka::api::message_specs;
use tidelog_protocol::kafka::codec::Reader;

/// The first byte says which message, the second which version of it; the message follows.
pub fn check(input: &[u8]) {
    let [which, version, message @ ..] = input else { return };
    let specs = message_specs();
    let spec = specs[usize::from(*which) % specs.len()];
    let versions: Vec<i16> = spec.api.versions().collect();
    let version = versions[usize::from(*version) % versions.len()];
    let bytes = Bytes::copy_from_slice(message);
    let _ = RequestHeader::decode(&mut Reader::new(&bytes));
    let Ok((written, _)) = (spec.rewrite)(&bytes, spec.api, version) else { return };
    // Unknown tagged fields are dropped and lengths become minimal, so it may be shorter than it was: but from then on it stays.
    let again = (spec.rewrite)(&written, spec.api, version);
    assert_eq!(again, Ok((written, 0)), "{} version {version} does not read back", spec.name);
}
