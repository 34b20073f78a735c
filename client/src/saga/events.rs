//! What happens to a saga, and how that is stored. Knows nothing of what follows from it.
//!
//! The payload of an event is a message in the version that the event's schema says. Kinds are never renamed; fields are only added, at the end.

use bytes::Bytes;
use tidelog_protocol::{Message, ProtocolVersion, Timestamp, message, wire_enum};

use crate::event_store::{BoxError, NewEvent, StoredEvent};

/// The schema of all kinds.
const SCHEMA: u16 = 1;

wire_enum! {
    /// Which of the two things that a step can do.
    pub enum Side {
        /// What it is there for.
        0 Action,
        /// Undoes that.
        1 Compensation,
    }
}

message! {
    /// A step as a saga keeps it from its start on.
    pub struct PlannedStep {
        /// Its name.
        1 name: String,
        /// Its stage: steps of one stage run side by side; stages one after the other, from 0.
        1 stage: u16,
        /// What it does can be undone.
        1 is_compensated: bool,
    }
}

message! {
    /// One try of one side of a step.
    pub struct Attempt {
        /// The step, by its place among the steps, from 0.
        1 step: u16,
        /// The side.
        1 side: Side,
        /// Which try it is, from 1.
        1 number: u32,
    }
}

message! {
    /// A saga came about.
    pub struct Started {
        /// The name of its definition.
        1 definition: String,
        /// What it is about, as the application writes it.
        1 input: Bytes,
        /// When.
        1 at: Timestamp,
        /// From when on it goes back rather than on.
        1 deadline: Option<Timestamp>,
        /// Its steps.
        1 steps: Vec<PlannedStep>,
    }
}

message! {
    /// A try is about to be made. Stored before it is.
    pub struct Began {
        /// The try.
        1 attempt: Attempt,
        /// Who makes it.
        1 worker: String,
        /// When.
        1 at: Timestamp,
    }
}

message! {
    /// A try did what it should.
    pub struct Succeeded {
        /// The try.
        1 attempt: Attempt,
        /// What later steps may need to know.
        1 output: Bytes,
    }
}

message! {
    /// A try did not.
    pub struct Failed {
        /// The try.
        1 attempt: Attempt,
        /// Why.
        1 cause: String,
        /// It may have done what it should all the same, or may still do it.
        1 is_doubtful: bool,
        /// When it is tried again; never, where this is absent.
        1 again_at: Option<Timestamp>,
    }
}

message! {
    /// Nobody knows what became of a try: whoever made it is gone.
    pub struct Interrupted {
        /// The try.
        1 attempt: Attempt,
    }
}

message! {
    /// What changes a saga as a whole, and why.
    pub struct Changed {
        /// When.
        1 at: Timestamp,
        /// Why; empty where that goes without saying.
        1 cause: String,
    }
}

/// What happens to a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SagaEvent {
    /// It came about.
    Started(Started),
    /// A try is about to be made.
    Began(Began),
    /// A try did what it should.
    Succeeded(Succeeded),
    /// A try did not.
    Failed(Failed),
    /// Nobody knows what became of a try.
    Interrupted(Interrupted),
    /// It goes back: from now on what was done is undone.
    Turned(Changed),
    /// It stands still until an operator acts.
    Parked(Changed),
    /// An operator has it tried again.
    Resumed(Changed),
    /// All its steps are done.
    Done(Changed),
    /// All that was done is undone.
    Compensated(Changed),
    /// An operator gave it up as it was.
    Abandoned(Changed),
    /// Nothing happened: it stands here again so that whoever takes it up finds it soon.
    Carried(Changed),
}

impl SagaEvent {
    /// Its kind, as it is stored.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "saga-started",
            Self::Began(_) => "saga-attempt-began",
            Self::Succeeded(_) => "saga-attempt-succeeded",
            Self::Failed(_) => "saga-attempt-failed",
            Self::Interrupted(_) => "saga-attempt-interrupted",
            Self::Turned(_) => "saga-turned",
            Self::Parked(_) => "saga-parked",
            Self::Resumed(_) => "saga-resumed",
            Self::Done(_) => "saga-done",
            Self::Compensated(_) => "saga-compensated",
            Self::Abandoned(_) => "saga-abandoned",
            Self::Carried(_) => "saga-carried",
        }
    }

    /// True of the kinds after which nothing happens any more.
    pub(super) fn is_end(kind: &str) -> bool {
        ["saga-done", "saga-compensated", "saga-abandoned"].contains(&kind)
    }

    /// As it is stored.
    pub(super) fn encode(&self) -> NewEvent {
        let version = ProtocolVersion(SCHEMA);
        let body = match self {
            Self::Started(message) => message.to_body(version),
            Self::Began(message) => message.to_body(version),
            Self::Succeeded(message) => message.to_body(version),
            Self::Failed(message) => message.to_body(version),
            Self::Interrupted(message) => message.to_body(version),
            Self::Turned(message)
            | Self::Parked(message)
            | Self::Resumed(message)
            | Self::Done(message)
            | Self::Compensated(message)
            | Self::Abandoned(message)
            | Self::Carried(message) => message.to_body(version),
        };
        NewEvent::new(self.kind(), body.freeze()).schema(SCHEMA)
    }

    /// A stored event.
    ///
    /// # Errors
    /// For what no saga has written, or a later release.
    pub(super) fn decode(kind: &str, schema: u16, payload: &[u8]) -> Result<Self, BoxError> {
        if schema != SCHEMA {
            return Err(format!("schema {schema} is of a later release: upgrade before going on").into());
        }
        Ok(match kind {
            "saga-started" => Self::Started(read(payload)?),
            "saga-attempt-began" => Self::Began(read(payload)?),
            "saga-attempt-succeeded" => Self::Succeeded(read(payload)?),
            "saga-attempt-failed" => Self::Failed(read(payload)?),
            "saga-attempt-interrupted" => Self::Interrupted(read(payload)?),
            "saga-turned" => Self::Turned(read(payload)?),
            "saga-parked" => Self::Parked(read(payload)?),
            "saga-resumed" => Self::Resumed(read(payload)?),
            "saga-done" => Self::Done(read(payload)?),
            "saga-compensated" => Self::Compensated(read(payload)?),
            "saga-abandoned" => Self::Abandoned(read(payload)?),
            "saga-carried" => Self::Carried(read(payload)?),
            other => return Err(format!("a saga has no event {other:?}").into()),
        })
    }

    /// As [`SagaEvent::decode`].
    pub(super) fn of(event: &StoredEvent) -> Result<Self, BoxError> {
        Self::decode(&event.kind, event.schema, &event.payload)
    }
}

fn read<M: Message>(payload: &[u8]) -> Result<M, BoxError> {
    M::from_body(payload, ProtocolVersion(SCHEMA)).map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidelog_protocol::codec::Entropy;

    fn drawn(entropy: &mut Entropy) -> Vec<SagaEvent> {
        let mut changed = || Changed::draw(entropy);
        let of_all = [
            SagaEvent::Turned(changed()),
            SagaEvent::Parked(changed()),
            SagaEvent::Resumed(changed()),
            SagaEvent::Done(changed()),
            SagaEvent::Compensated(changed()),
            SagaEvent::Abandoned(changed()),
            SagaEvent::Carried(changed()),
        ];
        let of_attempts = [
            SagaEvent::Started(Started::draw(entropy)),
            SagaEvent::Began(Began::draw(entropy)),
            SagaEvent::Succeeded(Succeeded::draw(entropy)),
            SagaEvent::Failed(Failed::draw(entropy)),
            SagaEvent::Interrupted(Interrupted::draw(entropy)),
        ];
        of_all.into_iter().chain(of_attempts).collect()
    }

    #[test]
    fn events_stand_on_disk_as_they_always_did() {
        let hex = |event: &SagaEvent| event.encode().payload.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let attempt = Attempt { step: 2, side: Side::Compensation, number: 7 };
        let step = PlannedStep { name: "pay".into(), stage: 1, is_compensated: true };
        let started = Started {
            definition: "order".into(),
            input: Bytes::from_static(b"3 lamps"),
            at: Timestamp(5),
            deadline: Some(Timestamp(9)),
            steps: vec![step],
        };
        let failed =
            Failed { attempt: attempt.clone(), cause: "no".into(), is_doubtful: true, again_at: Some(Timestamp(300)) };
        let began = Began { attempt, worker: "w".into(), at: Timestamp(6) };
        let goldens = [
            hex(&SagaEvent::Started(started)),
            hex(&SagaEvent::Began(began)),
            hex(&SagaEvent::Failed(failed)),
            hex(&SagaEvent::Parked(Changed { at: Timestamp(8), cause: "why".into() })),
        ];
        assert_eq!(
            goldens,
            [
                "050000006f726465720700000033206c616d70730500000000000000010900000000000000010000000a00000003000000706179010001",
                "070000000200010700000001000000770600000000000000",
                "0700000002000107000000020000006e6f01012c01000000000000",
                "080000000000000003000000776879"
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seed in any::<u64>()) {
            for event in drawn(&mut Entropy::new(seed)) {
                let stored = event.encode();
                prop_assert_eq!(SagaEvent::decode(&stored.kind, stored.schema, &stored.payload).unwrap(), event);
            }
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for event in drawn(&mut Entropy::new(1)) {
                let _ = SagaEvent::decode(event.kind(), SCHEMA, &bytes);
            }
            prop_assert!(SagaEvent::decode("saga-eaten", SCHEMA, &bytes).is_err());
            prop_assert!(SagaEvent::decode("saga-done", SCHEMA + 1, &bytes).is_err());
        }
    }
}
