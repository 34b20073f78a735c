//! What came of it, judged by the events alone, and by what the tellers were told. Knows nothing of how it came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use tidelog_client::event_store::{Aggregate, EventStore};

use super::account::{Account, Moved, name};
use super::demo::Failure;
use super::demo::cast::Actor;
use super::followers::Balances;
use super::{ACCOUNTS, OPENED_WITH, TELLERS};

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(60);
/// Faults that are named.
const NAMED: usize = 5;

/// The judgement.
#[derive(Default)]
pub struct Verdict {
    transfers: usize,
    events: usize,
    balances: BTreeMap<String, i64>,
    /// Transfers that were sent and have not arrived.
    under_way: usize,
    faults: Vec<String>,
}

/// Waits until all money has arrived, or that takes too long; then judges.
pub async fn settled(store: &EventStore, folder: &Path, cast: &mut [Actor]) -> Result<Verdict, Failure> {
    let began = Instant::now();
    loop {
        let mut verdict = Verdict::of(store, folder).await?;
        if verdict.under_way == 0 {
            return Ok(verdict);
        }
        if began.elapsed() > REST {
            verdict.faults.push(format!("{} transfers never arrived", verdict.under_way));
            return Ok(verdict);
        }
        cast.iter_mut().try_for_each(Actor::check)?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Verdict {
    /// Reads everything from the beginning.
    async fn of(store: &EventStore, folder: &Path) -> Result<Self, Failure> {
        let mut verdict = Self::default();
        let (mut sent, mut received) = (BTreeMap::new(), BTreeMap::new());
        for id in (0..ACCOUNTS).map(name) {
            store.catch_up(&id).await?;
            let mut account = Account::default();
            let mut lowest = (0, 0);
            for event in store.load(&id).await?.events {
                verdict.events += 1;
                let moved = Account::decode(&event.kind, &event.payload)?;
                account.apply(&moved);
                lowest = lowest.min((account.cents, event.version.0));
                let (transfer, cents, times, what) = match moved {
                    Moved::Opened { .. } => continue,
                    Moved::Sent { transfer, cents, .. } => (transfer, cents, &mut sent, "sent"),
                    Moved::Received { transfer, cents } => (transfer, cents, &mut received, "received"),
                };
                if times.insert(transfer.clone(), cents).is_some() {
                    verdict.faults.push(format!("transfer {transfer} was {what} twice"));
                }
            }
            if let (cents @ ..0, version) = lowest {
                verdict
                    .faults
                    .push(format!("{id} was at {cents} with version {version}: more was sent than was there"));
            }
            verdict.balances.insert(id, account.cents);
        }
        verdict.transfers = sent.len();
        for (transfer, cents) in received.iter().filter(|(transfer, cents)| sent.get(*transfer) != Some(*cents)) {
            verdict.faults.push(format!("{cents} of transfer {transfer} were received, which is not what was sent"));
        }
        let missing = sent.iter().filter(|(transfer, _)| !received.contains_key(*transfer)).map(|(_, cents)| *cents);
        let missing: Vec<i64> = missing.collect();
        verdict.under_way = missing.len();
        let there = verdict.balances.values().sum::<i64>() + missing.iter().sum::<i64>();
        let paid_in = OPENED_WITH * ACCOUNTS as i64;
        if there != paid_in {
            verdict.faults.push(format!("{paid_in} were paid in, and {there} are there"));
        }
        let told = told(folder);
        for transfer in told.iter().filter(|transfer| !sent.contains_key(*transfer)) {
            verdict.faults.push(format!("a teller was told that transfer {transfer} is done, and it is nowhere"));
        }
        if told.is_empty() {
            verdict.faults.push("no teller was told of any transfer: nothing was shown".into());
        }
        Ok(verdict)
    }

    /// Waits until a view says what the events say; where it does not, that is a fault.
    pub async fn compare(&mut self, what: &str, view: &Balances, cast: &mut [Actor]) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let seen = view.all().await?;
            if seen == self.balances {
                return Ok(());
            }
            if began.elapsed() > REST {
                self.faults.push(format!("{what} says {seen:?}, and the events {:?}", self.balances));
                return Ok(());
            }
            cast.iter_mut().try_for_each(Actor::check)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} transfers, {} events.", self.transfers, self.events)?;
        self.faults.iter().take(NAMED).try_for_each(|fault| writeln!(f, "- {fault}"))?;
        if self.faults.len() > NAMED {
            writeln!(f, "- and {} more", self.faults.len() - NAMED)?;
        }
        f.write_str(if self.is_good() {
            "Verdict: good. Money is conserved: none is lost, none doubled, and no account was ever below zero."
        } else {
            "Verdict: BAD."
        })
    }
}

/// The transfers of which tellers were told that they are done.
fn told(folder: &Path) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for teller in 0..TELLERS {
        let lines = std::fs::read_to_string(folder.join(format!("teller-{teller}.told"))).unwrap_or_default();
        told.extend(lines.lines().map(str::to_owned));
    }
    told
}
