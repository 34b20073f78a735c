//! Thousands of random lives of a replicated partition, on the real machines. A failed life prints its seed, and the seed lives it
//! again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tidelog_tests::chance::rounds;
use tidelog_tests::simulation::invariants::{Events, Violation};
use tidelog_tests::simulation::schedule::{live, settings};

/// How many lives, or from the environment.
const SCHEDULES: u32 = 20_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Lives `count` schedules from `first` on, on all processors, until one breaks something.
fn live_all(first: u64, count: u64) -> (Events, Option<(u64, Violation)>) {
    let next = AtomicU64::new(first);
    let found = Mutex::new((Events::default(), None));
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || found.lock().unwrap().1.is_some() {
                        return;
                    }
                    let outcome = live(seed, settings(seed));
                    let mut found = found.lock().unwrap();
                    found.0 += outcome.events;
                    if let Some(violation) = outcome.violation {
                        found.1.get_or_insert((seed, violation));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn no_life_of_a_replicated_partition_breaks_an_invariant() {
    let (first, count) = match from_environment("SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (1, from_environment("SIMULATION_SCHEDULES").unwrap_or_else(|| rounds(SCHEDULES).into())),
    };
    let started = std::time::Instant::now();
    let (events, violation) = live_all(first, count);
    println!("{count} schedules in {:?}: {events:#?}", started.elapsed());
    if let Some((seed, violation)) = violation {
        panic!("SIMULATION_SEED={seed} breaks {:?}: {}", violation.invariant, violation.evidence);
    }
    if count > 1_000 {
        assert_not_void(&events);
    }
}

/// A round in which nothing happened would prove nothing.
fn assert_not_void(events: &Events) {
    let Events { acked, failed, leaderships, cuts, records_cut, expansions, shrinks, refused_proposals, .. } = *events;
    let Events { crashes, tails_lost, wipes, set_back, failed_flushes, leases_ended, fenced, lost_messages, .. } =
        *events;
    let Events { pauses, eligible_elected, duplicates, committed, undone, shown, hidden, markers_again, .. } = *events;
    for (what, count) in [
        ("acked", acked),
        ("failed", failed),
        ("duplicates", duplicates),
        ("committed", committed),
        ("undone", undone),
        ("shown", shown),
        ("hidden", hidden),
        ("markers_again", markers_again),
        ("leaderships", leaderships),
        ("cuts", cuts),
        ("records_cut", records_cut),
        ("expansions", expansions),
        ("shrinks", shrinks),
        ("refused_proposals", refused_proposals),
        ("crashes", crashes),
        ("tails_lost", tails_lost),
        ("wipes", wipes),
        ("set_back", set_back),
        ("failed_flushes", failed_flushes),
        ("leases_ended", leases_ended),
        ("fenced", fenced),
        ("lost_messages", lost_messages),
        ("pauses", pauses),
        ("eligible_elected", eligible_elected),
    ] {
        assert!(count > 20, "{what} happened {count} times only");
    }
}
