//! What came of it: whether each order was shipped or undone in all four databases, and whether these agree with the events that tell of it. Knows
//! nothing of how it came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use tidelog_client::Client;

use super::books::Books;
use super::clerk::TOLD;
use super::demo::Failure;
use super::ends::{End, Ended, published};
use super::services::{SERVICES, Service};
use super::told::{Counts, Tally};

/// Faults that are named.
const NAMED: usize = 5;

/// The judgement.
#[derive(Default)]
pub struct Verdict {
    shipped: usize,
    undone: usize,
    /// Of each service, what its books say.
    totals: Vec<String>,
    events: u64,
    faults: Vec<String>,
}

/// What a service has, and what it told.
struct Account {
    service: &'static Service,
    /// What is done and not undone, by order.
    effects: BTreeMap<String, Vec<i64>>,
    total: i64,
    told: BTreeMap<String, Counts>,
}

impl Verdict {
    /// Compares how the orders ended with what the services have and with what they told.
    pub async fn of(orders: &[Ended], folder: &Path, client: &Client, shop: &str) -> Result<Self, Failure> {
        let mut verdict = Self::default();
        for Ended { id, end, .. } in orders {
            match end {
                End::Shipped => verdict.shipped += 1,
                End::Undone => verdict.undone += 1,
                End::Never(how) => verdict.faults.push(format!("{id} never ended: {how}")),
            }
        }
        if !published(folder).await? {
            verdict.faults.push("what was staged was not published".into());
        }
        let tally = Tally::of_all(client, shop).await?;
        for service in &SERVICES {
            let account = Account::open(folder, service, &tally).await?;
            verdict.compare(orders, account);
        }
        let taken = std::fs::read_to_string(folder.join(TOLD)).unwrap_or_default();
        let known: BTreeSet<&str> = orders.iter().map(|order| order.id.as_str()).collect();
        for id in taken.lines().filter(|id| !known.contains(id)) {
            verdict.faults.push(format!("the clerk was told that {id} is taken, and it is nowhere"));
        }
        if verdict.shipped == 0 || verdict.undone == 0 {
            verdict.faults.push("nothing was shipped, or nothing undone: nothing was shown".into());
        }
        Ok(verdict)
    }

    fn compare(&mut self, orders: &[Ended], mut account: Account) {
        let Service { name, unit, .. } = account.service;
        let mut expected_total = 0;
        for Ended { id, order, end } in orders {
            let there = account.effects.remove(id).unwrap_or_default();
            let told = account.told.remove(id).unwrap_or_default();
            let amount = account.service.amount(order);
            let expected: &[i64] = if *end == End::Shipped { &[amount] } else { &[] };
            expected_total += expected.iter().sum::<i64>();
            match there.len() {
                _ if there == expected => {}
                0 => self.faults.push(format!("{id} is shipped, and {name} has nothing of it")),
                1 => self.faults.push(format!("{id} is {end:?}, and {name} has {there:?} {unit} of it")),
                times => self.faults.push(format!("{id} was done {times} times by {name}: {there:?} {unit}")),
            }
            self.compare_events(account.service, id, told, there.iter().sum());
            self.events += told.events();
        }
        for (id, there) in account.effects {
            self.faults.push(format!("{name} has {there:?} {unit} of {id}, which nobody ordered"));
        }
        for (id, told) in account.told {
            self.faults.push(format!("{name} told {told:?} of {id}, which nobody ordered"));
        }
        if account.total != expected_total {
            self.faults
                .push(format!("{name} counts {} {unit}, and the orders come to {expected_total}", account.total));
        }
        self.totals.push(format!("{} {unit}", account.total));
    }

    fn compare_events(&mut self, service: &Service, id: &str, told: Counts, there: i64) {
        let Service { name, unit, done, undone, .. } = service;
        if told.amount != there {
            self.faults.push(format!("{name} has {there} {unit} of {id}, and its events say {}", told.amount));
        }
        for (what, times) in [(done, told.done), (undone, told.undone)] {
            if times > 1 {
                self.faults.push(format!("{id} was {what} {times} times, as the events of {name} say"));
            }
        }
    }

    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Account {
    async fn open(folder: &Path, service: &'static Service, tally: &Tally) -> Result<Self, Failure> {
        let (all, total) = Books::open(folder, service).await?.read().await?;
        let mut effects: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        all.into_iter().for_each(|(id, amount)| effects.entry(id).or_default().push(amount));
        Ok(Self { service, effects, total, told: tally.told_by(service) })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shipped, undone, events) = (self.shipped, self.undone, self.events);
        let totals = self.totals.join(", ");
        writeln!(
            f,
            "{shipped} orders shipped, {undone} undone; {events} events tell of them. In the books: {totals}."
        )?;
        self.faults.iter().take(NAMED).try_for_each(|fault| writeln!(f, "- {fault}"))?;
        if self.faults.len() > NAMED {
            writeln!(f, "- and {} more", self.faults.len() - NAMED)?;
        }
        f.write_str(if self.is_good() {
            "Verdict: good. Every order is shipped or undone, in all four databases; stock and money agree with the events."
        } else {
            "Verdict: BAD."
        })
    }
}
