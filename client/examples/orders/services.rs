//! The four services: in which order an order comes to them, what each deals in, and what the events are called by which it tells what it did. Pure.

use super::order::Order;

/// A service.
#[derive(Debug)]
pub struct Service {
    /// What it is called; the type of its events' aggregate, too.
    pub name: &'static str,
    /// What its amounts are.
    pub unit: &'static str,
    /// The event of what it did.
    pub done: &'static str,
    /// The event of what it refused to do.
    pub refused: &'static str,
    /// The event of what it did and took back.
    pub undone: &'static str,
}

const ORDER: Service =
    Service { name: "order", unit: "orders", done: "placed", refused: "rejected", undone: "cancelled" };
const INVENTORY: Service =
    Service { name: "inventory", unit: "pieces", done: "reserved", refused: "out-of-stock", undone: "released" };
const PAYMENT: Service =
    Service { name: "payment", unit: "cents", done: "charged", refused: "declined", undone: "refunded" };
const SHIPPING: Service =
    Service { name: "shipping", unit: "parcels", done: "shipped", refused: "undeliverable", undone: "recalled" };

/// All of them, in the order in which an order comes to them.
pub static SERVICES: [Service; 4] = [ORDER, INVENTORY, PAYMENT, SHIPPING];

/// What a service that nobody orchestrates does about an event of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Its part, as the one before it did its own.
    Act,
    /// It takes its part back, as the one behind it refused its own or took it back.
    Compensate,
    /// It notes that the last one did its part: nothing is open any more.
    Complete,
}

impl Service {
    /// The one of this name.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        SERVICES.iter().find(|service| service.name == name).ok_or_else(|| format!("there is no service {name}"))
    }

    /// How much of what it deals in an order takes.
    pub fn amount(&self, order: &Order) -> i64 {
        match self.name {
            "inventory" => order.pieces,
            "payment" => order.cents,
            _ => 1,
        }
    }

    /// Whether fate has it refuse an order, where it refuses so many of a hundred.
    pub fn is_refused(&self, order: &Order, refusals: u8) -> bool {
        match self.name {
            "payment" => order.card < refusals,
            "shipping" => order.street < refusals,
            _ => false,
        }
    }

    /// What an event of another service means to this one; `None` where nothing.
    pub fn reaction(&self, from: &Self, event: &str) -> Option<Reaction> {
        let (own, other) = (self.place(), from.place());
        match own {
            _ if other + 1 == own && event == from.done => Some(Reaction::Act),
            _ if other == own + 1 && (event == from.refused || event == from.undone) => Some(Reaction::Compensate),
            0 if other + 1 == SERVICES.len() && event == from.done => Some(Reaction::Complete),
            _ => None,
        }
    }

    /// Those whose events mean something to this one.
    pub fn sources(&self) -> impl Iterator<Item = &'static Self> {
        let means = |from: &&Self| [from.done, from.undone].iter().any(|event| self.reaction(from, event).is_some());
        SERVICES.iter().filter(means)
    }

    fn place(&self) -> usize {
        SERVICES.iter().take_while(|service| service.name != self.name).count()
    }
}
