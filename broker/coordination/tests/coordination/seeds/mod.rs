//! Seeds of random runs: new ones, or the one that a failed run printed; and what many runs have to show together. Knows nothing of what is
//! run.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
fn seeds(usual: u64) -> std::ops::Range<u64> {
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
struct Run(u64);

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{SEED_VARIABLE}={}", self.0);
        }
    }
}

/// What happened in a run, so that it can show that its faults did.
pub trait Happened: Default + Debug {
    /// Of another run as well.
    fn add(&mut self, other: &Self);

    /// What never happened.
    fn missing(&self) -> Vec<&'static str>;
}

/// A count of each kind of trouble.
macro_rules! tally {
    ($($name:ident)*) => {
        /// What happened, so that a run can show that its faults did.
        #[derive(Default, Debug)]
        pub struct Tally { $(pub $name: u64,)* }

        impl crate::seeds::Happened for Tally {
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name),)*].into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }
    };
}
pub(crate) use tally;

/// Runs so many seeds, or more where something rare has not happened yet: in the end everything must have.
pub fn sweep<T: Happened>(usual: u64, run: impl Fn(u64) -> T) {
    let mut total = T::default();
    let seeds = seeds(usual);
    let many = seeds.end - seeds.start > 1;
    let more = if many { 10 * (seeds.end - seeds.start) } else { 0 };
    for seed in seeds.start..seeds.end + more {
        if seed >= seeds.end && total.missing().is_empty() {
            break;
        }
        let told = Run(seed);
        total.add(&run(seed));
        drop(told);
    }
    println!("{total:?}");
    if many {
        assert_eq!(total.missing(), Vec::<&str>::new(), "every kind of trouble has happened");
    }
}

/// Whether it was one of these invariants that broke. A bug breaks more than one, and seldom not the most likely first.
#[track_caller]
pub fn assert_broken(said: &str, invariants: &[&str]) {
    assert!(invariants.iter().any(|invariant| said.contains(invariant)), "{said}");
}

/// What the first of so many runs says that fails, with a bug planted on purpose.
pub fn caught(flaw: impl Debug, runs: u64, run: impl Fn(u64)) -> String {
    for seed in seeds(runs) {
        if let Err(said) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            let fixed = said.downcast_ref::<&str>().map(|text| String::from(*text));
            return said.downcast_ref::<String>().cloned().or(fixed).unwrap_or_default();
        }
    }
    panic!("nothing was noticed of {flaw:?}");
}
