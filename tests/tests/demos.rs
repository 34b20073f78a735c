//! The demos, as whoever starts them sees them: good where they are whole, bad where what they are there for was taken away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::process::Command;

use tidelog_tests::binaries::demo;
use tidelog_tests::command::without_settings;

/// The demo of the outbox, with everybody being killed: its exit code and what it drew. It bounds itself.
fn outbox(more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(demo("outbox"));
    let line = ["--chaos", "--seed", "7", "--duration", "8s"];
    let ended = without_settings(&mut command).args(line).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains(" kills.") && !said.contains("\n0 kills."), "nobody was killed: {said}");
    (ended.status.code(), said)
}

#[test]
fn orders_and_their_events_never_part_whoever_is_killed() {
    let (code, said) = outbox(&[]);
    assert!(code == Some(0) && said.contains("Verdict: good."), "{code:?} {said}");
}

#[test]
fn events_that_are_staged_outside_of_the_transaction_part_from_their_orders() {
    let (code, said) = outbox(&["--stage-outside"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(!said.contains(" 0 with more than one"), "what is bad is not what was taken away: {said}");
}
