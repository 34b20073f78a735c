//! Whether every order has its parcel, once, and each customer's in order. Knows nothing of processes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::demo::Failure;
use super::orders::Database;
use super::warehouse;

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(60);

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    orders: usize,
    lost: usize,
    doubled: usize,
    made_up: usize,
    out_of_order: usize,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.orders > 0 && self.lost + self.doubled + self.made_up + self.out_of_order == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} orders: {} without a parcel, {} with more than one, {} parcels without an order, {} out of order.",
            self.orders, self.lost, self.doubled, self.made_up, self.out_of_order
        )?;
        f.write_str(if self.is_good() { "Verdict: good." } else { "Verdict: BAD." })
    }
}

/// Orders, events that wait, parcels.
pub async fn numbers(shop: &Database, warehouse: &str) -> Result<[u64; 3], Failure> {
    let orders = shop.count().await?.unsigned_abs();
    Ok([orders, shop.backlog().await?.rows, warehouse::count(warehouse).await?.unsigned_abs()])
}

/// Waits until nothing waits and no parcel comes any more; false where that takes too long.
pub async fn wait_settled(shop: &Database, warehouse: &str) -> Result<bool, Failure> {
    let began = Instant::now();
    let mut same = 0;
    let mut before = [0; 3];
    while began.elapsed() < REST {
        let now = numbers(shop, warehouse).await?;
        same = if now == before && now[1] == 0 { same + 1 } else { 0 };
        // Longer than the end of whatever a killed process left open.
        if (same >= 8 && now[2] >= now[0]) || same >= 80 {
            return Ok(true);
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(false)
}

pub async fn judge(shop: &Database, warehouse: &str) -> Result<Verdict, Failure> {
    Ok(compare(&shop.orders().await?, &warehouse::parcels(warehouse).await?))
}

fn compare(orders: &[(String, i64)], parcels: &[(String, i64)]) -> Verdict {
    let mut verdict = Verdict { orders: orders.len(), ..Verdict::default() };
    let mut times: BTreeMap<&(String, i64), usize> = orders.iter().map(|order| (order, 0)).collect();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for parcel in parcels {
        match times.get_mut(parcel) {
            Some(times) => *times += 1,
            None => verdict.made_up += 1,
        }
        let before = last.insert(&parcel.0, parcel.1);
        verdict.out_of_order += usize::from(before.is_some_and(|before| before > parcel.1));
    }
    verdict.lost = times.values().filter(|times| **times == 0).count();
    verdict.doubled = times.values().filter(|times| **times > 1).count();
    verdict
}
