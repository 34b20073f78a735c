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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, VecDeque};

    #[test]
    fn each_event_means_something_to_those_next_to_it_only() {
        let named = |name| Service::named(name).unwrap();
        let meanings: Vec<(&str, &str, &str, Reaction)> = SERVICES
            .iter()
            .flat_map(|own| SERVICES.iter().map(move |from| (own, from)))
            .flat_map(|(own, from)| [from.done, from.refused, from.undone].map(|event| (own, from, event)))
            .filter_map(|(own, from, event)| own.reaction(from, event).map(|what| (own.name, from.name, event, what)))
            .collect();
        let expected = [
            ("order", "inventory", "out-of-stock", Reaction::Compensate),
            ("order", "inventory", "released", Reaction::Compensate),
            ("order", "shipping", "shipped", Reaction::Complete),
            ("inventory", "order", "placed", Reaction::Act),
            ("inventory", "payment", "declined", Reaction::Compensate),
            ("inventory", "payment", "refunded", Reaction::Compensate),
            ("payment", "inventory", "reserved", Reaction::Act),
            ("payment", "shipping", "undeliverable", Reaction::Compensate),
            ("payment", "shipping", "recalled", Reaction::Compensate),
            ("shipping", "payment", "charged", Reaction::Act),
        ];
        assert_eq!(meanings, expected);
        for (own, sources) in [
            ("order", vec!["inventory", "shipping"]),
            ("inventory", vec!["order", "payment"]),
            ("payment", vec!["inventory", "shipping"]),
            ("shipping", vec!["payment"]),
        ] {
            assert_eq!(named(own).sources().map(|from| from.name).collect::<Vec<_>>(), sources, "{own}");
        }
        assert_eq!(named("payment").reaction(named("order"), "no such event"), None);
        assert!(Service::named("gifts").is_err());
    }

    /// How an order ends where `refusing` refuses its part: who has done its part and not taken it back, whether it is known to be complete, and
    /// how often each part was done. Each event comes `copies` times, to a service that remembers which it has seen, as the inbox does.
    fn ended(refusing: Option<&str>, copies: usize) -> (Vec<&'static str>, bool, Vec<&'static str>) {
        let (mut standing, mut is_complete, mut made) = (BTreeSet::from([0]), false, Vec::new());
        let mut seen = BTreeSet::new();
        let mut told = VecDeque::from([(0, SERVICES[0].done)]);
        while let Some((from, event)) = told.pop_front() {
            for (own, service) in SERVICES.iter().enumerate() {
                let Some(reaction) = service.reaction(&SERVICES[from], event) else { continue };
                for _ in 0..copies {
                    if !seen.insert((own, from, event)) {
                        continue;
                    }
                    match reaction {
                        Reaction::Act if refusing == Some(service.name) => told.push_back((own, service.refused)),
                        Reaction::Act => {
                            standing.insert(own);
                            made.push(service.name);
                            told.push_back((own, service.done));
                        }
                        Reaction::Compensate => {
                            if standing.remove(&own) {
                                told.push_back((own, service.undone));
                            }
                        }
                        Reaction::Complete => is_complete = true,
                    }
                }
            }
        }
        (standing.into_iter().map(|own| SERVICES[own].name).collect(), is_complete, made)
    }

    #[test]
    fn an_order_ends_complete_or_with_nothing_left_of_it_however_often_events_come() {
        for copies in [1, 3] {
            let all = vec!["order", "inventory", "payment", "shipping"];
            assert_eq!(ended(None, copies), (all.clone(), true, all[1..].to_vec()));
            for (refusing, made) in [("inventory", 0), ("payment", 1), ("shipping", 2)] {
                let ended = ended(Some(refusing), copies);
                assert_eq!(ended, (Vec::new(), false, all[1..=made].to_vec()), "{refusing} refuses");
            }
        }
    }
}
