//! Bodies of every message: what is read is written again in a form that reads the same.

use tidelog_protocol::api::message_specs;
use tidelog_protocol::messages::Fault;
use tidelog_protocol::{Message, ProtocolVersion, WireError};

/// A struct within a message takes four bytes at least, its length. What is missing at its end takes its default, and some bytes more.
const GROWTH_MAX: usize = 16;

/// The first byte chooses the message (one past the last: a Fault), the second the version, the rest is the body.
pub fn check(input: &[u8]) {
    let [message, version, body @ ..] = input else { return };
    let spoken = ProtocolVersion::CURRENT.0 - ProtocolVersion::OLDEST.0 + 1;
    let version = ProtocolVersion(ProtocolVersion::OLDEST.0 + u16::from(*version) % spoken);
    let specs = message_specs();
    match specs.get(usize::from(*message) % (specs.len() + 1)) {
        Some(spec) => {
            let Ok(written) = (spec.reencode)(body, version) else { return };
            let most = GROWTH_MAX * (body.len() + 4);
            assert!(written.len() <= most, "{}: {} bytes become {}", spec.name, body.len(), written.len());
            assert_eq!((spec.reencode)(&written, version).as_ref(), Ok(&written), "{}", spec.name);
            assert_eq!((spec.show)(&written, version), (spec.show)(body, version), "{}", spec.name);
        }
        None => {
            let Ok(fault) = Fault::from_body(body, version) else { return };
            let error = WireError::from(fault.clone());
            let back = Fault::from(error);
            assert_eq!(
                (&back.message, back.retry_after_ms, &back.range),
                (&fault.message, fault.retry_after_ms, &fault.range)
            );
        }
    }
}
