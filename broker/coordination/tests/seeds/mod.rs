//! Seeds of random runs: new ones, or the one that a failed run printed. Knows nothing of what is run.

use std::time::{SystemTime, UNIX_EPOCH};

/// Repeats a run: the seed that it printed.
const SEED_VARIABLE: &str = "TEST_SEED";
/// Longer runs: how many times as many rounds as usual.
const ROUNDS_VARIABLE: &str = "TEST_ROUNDS";

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// The seeds of a test: the one that was asked for, or new ones.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    match number(SEED_VARIABLE) {
        Some(seed) => seed..seed + 1,
        None => {
            let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64 >> 10);
            let rounds = usual * number(ROUNDS_VARIABLE).unwrap_or(1);
            println!("seeds {start} to {}", start + rounds - 1);
            start..start + rounds
        }
    }
}

/// Says which run it was that failed.
pub struct Run(pub u64);

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{SEED_VARIABLE}={}", self.0);
        }
    }
}
