//! Seeds that are printed and can be given back, and how many rounds a randomised test goes. Knows nothing of tests.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Repeats a run: the seed that it printed.
pub const SEED_VARIABLE: &str = "TEST_SEED";
/// Longer runs: how many times as many rounds as usual, a number from 1.
pub const ROUNDS_VARIABLE: &str = "TEST_ROUNDS";
/// Runs of a length: for how many seconds a test goes on with its faults, a number from 1. Instead of rounds.
pub const SECONDS_VARIABLE: &str = "TEST_SECONDS";

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

/// The turns of a fault test, numbered from 0: `usual` rounds, or as many times more, or as many as begin within the seconds that the
/// environment asks for, one at least.
///
/// # Panics
/// Where a variable holds no number from 1.
pub fn turns(usual: u32) -> impl Iterator<Item = u32> {
    let seconds = std::env::var(SECONDS_VARIABLE).ok().map(|text| match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds.into()),
        _ => panic!("{SECONDS_VARIABLE}={text} is no number from 1"),
    });
    let (began, usual) = (Instant::now(), rounds(usual));
    (0..).take_while(move |turn| match seconds {
        Some(seconds) => *turn == 0 || began.elapsed() < seconds,
        None => *turn < usual,
    })
}
