//! What came of it: whether each order was shipped or undone in all four databases, and whether their totals agree with the sagas' events. Knows
//! nothing of how it came about.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use tidelog_client::saga::{Listing, Phase, SagaError, SagaInput, Sagas};

use super::clerk::TOLD;
use super::demo::Failure;
use super::demo::cast::Actor;
use super::fulfilment::amount;
use super::order::Order;
use super::service::{SERVICES, books};

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(90);
/// Faults that are named.
const NAMED: usize = 5;

/// The judgement.
#[derive(Default)]
pub struct Verdict {
    shipped: usize,
    undone: usize,
    /// Of each service, what its books say.
    totals: Vec<String>,
    faults: Vec<String>,
}

/// Waits until every saga has ended; those that are parked are tried again, as an operator would.
pub async fn settled(sagas: &Sagas, cast: &mut [Actor]) -> Result<Vec<Listing>, Failure> {
    let began = Instant::now();
    loop {
        let all = match sagas.list(|_| true).await {
            Ok(all) => all,
            Err(error) if error.is_retriable() && began.elapsed() < REST => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if all.iter().all(|listing| listing.saga.phase.is_end()) || began.elapsed() > REST {
            return Ok(all);
        }
        for Listing { id, .. } in all.iter().filter(|listing| listing.saga.parked.is_some()) {
            match sagas.retry(id).await {
                Ok(()) | Err(SagaError::Refused { .. }) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        cast.iter_mut().try_for_each(Actor::check)?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

impl Verdict {
    /// Compares what the sagas say with what the services have.
    pub async fn of(sagas: &[Listing], folder: &Path) -> Result<Self, Failure> {
        let mut verdict = Self::default();
        for Listing { id, saga } in sagas {
            match saga.phase {
                Phase::Done => verdict.shipped += 1,
                Phase::Compensated => verdict.undone += 1,
                _ => verdict.faults.push(format!("{id} never ended: {:?}, parked: {:?}", saga.phase, saga.parked)),
            }
        }
        for (service, unit) in SERVICES {
            verdict.compare(sagas, service, unit, books(folder, service).await?)?;
        }
        let told = std::fs::read_to_string(folder.join(TOLD)).unwrap_or_default();
        let known: std::collections::BTreeSet<&str> = sagas.iter().map(|listing| listing.id.as_str()).collect();
        for id in told.lines().filter(|id| !known.contains(id)) {
            verdict.faults.push(format!("the clerk was told that {id} is started, and it is nowhere"));
        }
        if verdict.shipped == 0 || verdict.undone == 0 {
            verdict.faults.push("nothing was shipped, or nothing undone: nothing was shown".into());
        }
        Ok(verdict)
    }

    fn compare(
        &mut self,
        sagas: &[Listing],
        service: &str,
        unit: &str,
        (effects, total): (Vec<(String, i64)>, i64),
    ) -> Result<(), Failure> {
        let mut found: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        effects.iter().for_each(|(id, amount)| found.entry(id).or_default().push(*amount));
        let mut expected_total = 0;
        for Listing { id, saga } in sagas {
            let there = found.remove(id.as_str()).unwrap_or_default();
            let amount = amount(service, &Order::decode(&saga.input)?);
            let expected: &[i64] = if saga.phase == Phase::Done { &[amount] } else { &[] };
            expected_total += expected.iter().sum::<i64>();
            match there.len() {
                _ if there == expected => {}
                0 => self.faults.push(format!("{id} is done, and {service} has nothing of it")),
                1 => self.faults.push(format!("{id} is {:?}, and {service} has {there:?} {unit} of it", saga.phase)),
                times => self.faults.push(format!("{id} was done {times} times by {service}: {there:?} {unit}")),
            }
        }
        for (id, there) in found {
            self.faults.push(format!("{service} has {there:?} {unit} of {id}, which nobody ordered"));
        }
        if total != expected_total {
            self.faults.push(format!("{service} counts {total} {unit}, and the sagas say {expected_total}"));
        }
        self.totals.push(format!("{total} {unit}"));
        Ok(())
    }

    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} orders shipped, {} undone. In the books: {}.",
            self.shipped,
            self.undone,
            self.totals.join(", ")
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
