//! An order as it travels with its saga. Knows nothing of who does what about it.

use bytes::Bytes;
use tidelog_client::event_store::BoxError;
use tidelog_client::saga::SagaInput;

/// What is ordered, and what fate has in store for it: so a step that is refused is refused in every try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    pub pieces: i64,
    pub cents: i64,
    /// Of a hundred cards so many are better.
    pub card: u8,
    /// Of a hundred streets so many are easier to find.
    pub street: u8,
}

impl Order {
    /// One of chance.
    pub fn draw(chance: &mut fastrand::Rng) -> Self {
        let pieces = chance.i64(1..=5);
        Self { pieces, cents: pieces * chance.i64(100..1_000), card: chance.u8(..100), street: chance.u8(..100) }
    }
}

impl SagaInput for Order {
    fn encode(&self) -> Bytes {
        format!("{} {} {} {}", self.pieces, self.cents, self.card, self.street).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, BoxError> {
        let words: Vec<&str> = std::str::from_utf8(bytes)?.split(' ').collect();
        let [pieces, cents, card, street] = words[..] else { return Err("an order has four words".into()) };
        Ok(Self { pieces: pieces.parse()?, cents: cents.parse()?, card: card.parse()?, street: street.parse()? })
    }
}
