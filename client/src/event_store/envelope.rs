//! What stands in the headers of the store's records, and how it is written. Knows nothing of what an event means.
//!
//! The bytes of a header are a form number, then a message. Numbers are never reused; fields are only added, at the end.

use bytes::Bytes;
use tidelog_protocol::{Message, Offset, ProtocolVersion, message};

/// Of an event.
pub(super) const EVENT_HEADER: &str = "tidelog-event";
/// Of a snapshot.
pub(super) const SNAPSHOT_HEADER: &str = "tidelog-snapshot";
/// Of the first record of the first partition.
pub(super) const STORE_HEADER: &str = "tidelog-event-store";
/// Of what a checkpoint of the index is made of.
pub(super) const CHECKPOINT_HEADER: &str = "tidelog-event-index";

/// The kind of an event after which an aggregate is forgotten: the next one of the same id is the first of another.
pub(super) const RETIRED_KIND: &str = "tidelog-retired";

/// The form of everything but what forgets an aggregate.
const FORM: u8 = 1;

/// The same form under another number: releases that do not know what a retirement means, and would take the next event under its id for damage,
/// refuse it by that.
const RETIREMENT_FORM: u8 = 2;

message! {
    /// The header of an event. The record's key is the id of its aggregate, its value the payload.
    pub struct EventEnvelope {
        /// The version of the aggregate with this event, from 1.
        1 version: u64,
        /// Where the event before it of the same aggregate stands, in the same partition.
        1 previous: Option<Offset>,
        /// The append that it belongs to: a number that is drawn anew for each.
        1 append: [u8; 16],
        /// Its place within the append, from 0.
        1 place: u16,
        /// How many events the append has.
        1 count: u16,
        /// Its kind.
        1 kind: String,
        /// The version of the kind's schema.
        1 schema: u16,
        /// The command that it came of.
        1 command: Option<Bytes>,
    }
}

message! {
    /// The header of a snapshot. The record's key is the id of its aggregate, its value the state.
    pub struct SnapshotEnvelope {
        /// The version of the aggregate that this is the state of.
        1 version: u64,
        /// The version of the state's schema.
        1 schema: u16,
    }
}

message! {
    /// The header of the first record of the first partition: what was decided when the store was made, and may not change.
    pub struct StoreEnvelope {
        /// Over how many partitions the aggregates are spread.
        1 partitions: u32,
    }
}

impl EventEnvelope {
    /// The aggregate is forgotten with it.
    pub(super) fn is_retirement(&self) -> bool {
        self.kind == RETIRED_KIND
    }
}

/// Why a header cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum EnvelopeFault {
    /// A later release wrote it.
    #[error(
        "it is written in form {0}, and this release knows the forms up to {RETIREMENT_FORM}: upgrade before going on"
    )]
    Form(u8),
    /// It is not what it says it is.
    #[error("its header does not parse: {0}")]
    Malformed(String),
}

/// The bytes of a header.
pub(super) fn encode<M: Message>(message: &M) -> Bytes {
    numbered(FORM, message)
}

/// The bytes of an event's header.
pub(super) fn encode_event(event: &EventEnvelope) -> Bytes {
    numbered(if event.is_retirement() { RETIREMENT_FORM } else { FORM }, event)
}

fn numbered<M: Message>(form: u8, message: &M) -> Bytes {
    let body = message.to_body(ProtocolVersion(FORM.into()));
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(form);
    bytes.extend_from_slice(&body);
    bytes.into()
}

/// The message in the bytes of a header.
pub(super) fn decode<M: Message>(bytes: &[u8]) -> Result<M, EnvelopeFault> {
    match bytes.split_first() {
        None => Err(EnvelopeFault::Malformed("it is empty".into())),
        Some((&(FORM | RETIREMENT_FORM), body)) => M::from_body(body, ProtocolVersion(FORM.into()))
            .map_err(|error| EnvelopeFault::Malformed(error.to_string())),
        Some((&form, _)) => Err(EnvelopeFault::Form(form)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidelog_protocol::codec::Entropy;

    fn event() -> EventEnvelope {
        EventEnvelope {
            version: 7,
            previous: Some(Offset(300)),
            append: [9; 16],
            place: 1,
            count: 2,
            kind: "deposited".into(),
            schema: 3,
            command: Some(Bytes::from_static(b"c1")),
        }
    }

    #[test]
    fn headers_stand_on_disk_as_they_always_did() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let golden = "010700000000000000012c0100000000000009090909090909090909090909090909010002000900\
                      00006465706f736974656403000102000000\
                      6331";
        assert_eq!(hex(&encode(&event())), golden);
        assert_eq!(hex(&encode(&SnapshotEnvelope { version: 5, schema: 2 })), "0105000000000000000200");
        assert_eq!(hex(&encode(&StoreEnvelope { partitions: 12 })), "010c000000");
    }

    #[test]
    fn a_form_of_a_later_release_is_told_apart_from_damage() {
        let mut bytes = encode(&event()).to_vec();
        bytes[0] = 3;
        assert_eq!(decode::<EventEnvelope>(&bytes), Err(EnvelopeFault::Form(3)));
        assert!(matches!(decode::<EventEnvelope>(&bytes[..0]), Err(EnvelopeFault::Malformed(_))));
    }

    #[test]
    fn a_retirement_is_refused_by_releases_that_do_not_know_of_any() {
        let retirement = EventEnvelope { kind: RETIRED_KIND.into(), ..event() };
        let bytes = encode_event(&retirement);
        assert_eq!((bytes[0], &bytes[1..]), (2, &encode(&retirement)[1..]), "form 1 is all that they know");
        assert_eq!(decode(&bytes), Ok(retirement));
        assert_eq!(encode_event(&event()), encode(&event()), "any other event they know as before");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seed in any::<u64>()) {
            let message = EventEnvelope::draw(&mut Entropy::new(seed));
            prop_assert_eq!(decode::<EventEnvelope>(&encode(&message)), Ok(message));
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<EventEnvelope>(&bytes);
        }
    }
}
