//! An account: what happens to it, and what follows. Knows nothing of other accounts.

use bytes::Bytes;
use tidelog_client::event_store::{Aggregate, BoxError, NewEvent};

/// What happens to an account. Money that leaves one is on its way until it has arrived at the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moved {
    Opened { cents: i64 },
    Sent { transfer: String, to: String, cents: i64 },
    Received { transfer: String, cents: i64 },
}

/// The state.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Account {
    pub is_open: bool,
    pub cents: i64,
}

impl Aggregate for Account {
    type Event = Moved;
    type Refusal = String;
    const STATE_SCHEMA: u16 = 1;

    fn apply(&mut self, moved: &Moved) {
        match moved {
            Moved::Opened { cents } => *self = Self { is_open: true, cents: *cents },
            Moved::Sent { cents, .. } => self.cents -= cents,
            Moved::Received { cents, .. } => self.cents += cents,
        }
    }

    fn encode(moved: &Moved) -> NewEvent {
        match moved {
            Moved::Opened { cents } => NewEvent::new("opened", cents.to_string()),
            Moved::Sent { transfer, to, cents } => NewEvent::new("sent", format!("{transfer} {to} {cents}")),
            Moved::Received { transfer, cents } => NewEvent::new("received", format!("{transfer} {cents}")),
        }
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<Moved, BoxError> {
        let words: Vec<&str> = std::str::from_utf8(payload)?.split(' ').collect();
        match (kind, words.as_slice()) {
            ("opened", [cents]) => Ok(Moved::Opened { cents: cents.parse()? }),
            ("sent", [transfer, to, cents]) => {
                Ok(Moved::Sent { transfer: (*transfer).into(), to: (*to).into(), cents: cents.parse()? })
            }
            ("received", [transfer, cents]) => {
                Ok(Moved::Received { transfer: (*transfer).into(), cents: cents.parse()? })
            }
            _ => Err(format!("an account has no event {kind:?} of {} words", words.len()).into()),
        }
    }

    fn save(&self) -> Bytes {
        format!("{} {}", self.is_open, self.cents).into()
    }

    fn restore(state: &[u8]) -> Result<Self, BoxError> {
        let (is_open, cents) = std::str::from_utf8(state)?.split_once(' ').ok_or("two words")?;
        Ok(Self { is_open: is_open.parse()?, cents: cents.parse()? })
    }
}

/// The name of an account.
pub fn name(at: usize) -> String {
    format!("account-{at:02}")
}
