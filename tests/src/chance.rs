//! Seeds that are printed and can be given back, and how many rounds a randomised test goes. Knows nothing of tests.

use std::time::{SystemTime, UNIX_EPOCH};

/// Repeats a run: the seed that it printed.
pub const SEED_VARIABLE: &str = "TEST_SEED";
/// Longer runs: how many times as many rounds as usual, a number from 1.
pub const ROUNDS_VARIABLE: &str = "TEST_ROUNDS";

/// Random numbers of a seed that is printed, so that a failed run can be repeated as far as the machine allows.
///
/// # Panics
/// Where the variable holds no number.
#[must_use]
pub fn seeded(test: &str) -> fastrand::Rng {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text} is no number")),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64),
    };
    println!("{test}: {SEED_VARIABLE}={seed}");
    fastrand::Rng::with_seed(seed)
}

/// `usual` rounds, or as many times more as the environment asks for.
///
/// # Panics
/// Where the variable holds no number from 1.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    match std::env::var(ROUNDS_VARIABLE) {
        Ok(text) => match text.parse::<u32>() {
            Ok(factor) if factor > 0 => usual.saturating_mul(factor),
            _ => panic!("{ROUNDS_VARIABLE}={text} is no number from 1"),
        },
        Err(_) => usual,
    }
}
