//! The demos, as whoever starts them sees them: good where they are whole, bad where what they are there for was taken away.

use std::process::Command;

use tidelog_tests::binaries::demo;
use tidelog_tests::command::without_settings;

/// A demo, with everybody being killed: its exit code and what it drew. It bounds itself.
fn play(name: &str, seed: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(demo(name));
    let line = ["--chaos", "--seed", seed, "--duration", "8s"];
    let ended = without_settings(&mut command).args(line).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains(" kills.") && !said.contains("\n0 kills."), "nobody was killed: {said}");
    (ended.status.code(), said)
}

#[test]
fn orders_and_their_events_never_part_whoever_is_killed() {
    let (code, said) = play("outbox", "7", &[]);
    assert!(code == Some(0) && said.contains("Verdict: good."), "{code:?} {said}");
}

#[test]
fn events_that_are_staged_outside_of_the_transaction_part_from_their_orders() {
    let (code, said) = play("outbox", "7", &["--stage-outside"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(!said.contains(" 0 with more than one"), "what is bad is not what was taken away: {said}");
}

#[test]
fn a_warehouse_that_commits_its_offsets_first_loses_what_it_was_killed_over() {
    // With this seed the warehouse is killed three times.
    let (code, said) = play("outbox", "3", &["--commit-first"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(!said.contains(" 0 without a parcel"), "what is bad is not what was taken away: {said}");
}

#[test]
fn demos_tell_their_flags_and_name_one_that_is_wrong() {
    for (name, flag) in [("outbox", "--commit-first"), ("bank", "--without-version"), ("orders", "--without-inbox")] {
        let told = |line: &str| {
            let ended = without_settings(&mut Command::new(demo(name))).arg(line).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
        };
        let (code, said, _) = told("--help");
        assert_eq!(code, Some(0), "{name}");
        for flag in [flag, "--chaos", "--seed N", "--duration 30s", "--server HOST:PORT", "--help"] {
            assert!(said.lines().any(|line| line.trim_start().starts_with(flag)), "{name} {flag}: {said}");
        }
        let (code, _, said) = told("--chaso");
        assert!(
            code == Some(2) && said.contains("--chaso means nothing here") && said.contains(flag),
            "{name}: {said}"
        );
    }
}

#[test]
fn money_is_conserved_whoever_is_killed() {
    // With this seed a broker is killed, a teller, the view, and the clearing three times.
    let (code, said) = play("bank", "1853", &[]);
    assert!(code == Some(0) && said.contains("Verdict: good. Money is conserved"), "{code:?} {said}");
}

#[test]
fn tellers_that_do_not_say_on_which_version_they_decided_send_more_than_there_is() {
    let (code, said) = play("bank", "7", &["--without-version"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(said.contains("more was sent than was there"), "what is bad is not what was taken away: {said}");
}

#[test]
fn a_clearing_that_does_not_name_its_commands_brings_money_twice() {
    // With this seed the clearing is killed three times.
    let (code, said) = play("bank", "36", &["--without-command-ids"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(said.contains("was received twice"), "what is bad is not what was taken away: {said}");
}

#[test]
fn every_order_is_shipped_or_undone_in_all_databases_whoever_is_killed() {
    // With this seed the clerk, both workers, two of the services and a broker are killed.
    let (code, said) = play("orders", "65", &[]);
    assert!(code == Some(0) && said.contains("Verdict: good. Every order is shipped or undone"), "{code:?} {said}");
}

#[test]
fn services_that_do_not_recognise_what_is_asked_again_do_it_again() {
    let (code, said) = play("orders", "7", &["--without-keys"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    // Of many faults the first are told.
    let is_double = said.contains("was done 2 times by") || said.contains("was placed 2 times");
    assert!(is_double, "what is bad is not what was taken away: {said}");
}

#[test]
fn services_that_react_to_events_alone_ship_or_undo_every_order_whoever_is_killed() {
    // With this seed the clerk, all of the services and a broker are killed.
    let (code, said) = play("orders", "12", &["--choreography"]);
    assert!(code == Some(0) && said.contains("Verdict: good. Every order is shipped or undone"), "{code:?} {said}");
}

#[test]
fn services_without_an_inbox_react_again_to_what_is_told_again() {
    // With this seed those services whose reactions show are killed late, so that there is something to be told again.
    let (code, said) = play("orders", "19", &["--choreography", "--without-inbox"]);
    assert!(code == Some(1) && said.contains("Verdict: BAD."), "{code:?} {said}");
    assert!(said.contains("2 times"), "what is bad is not what was taken away: {said}");
}

#[test]
fn a_safety_of_the_other_style_is_refused() {
    let refused = |more: &[&str]| {
        let ended = without_settings(&mut Command::new(demo("orders"))).args(more).output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, said) = refused(&["--without-inbox"]);
    assert!(code == Some(2) && said.contains("goes with --choreography"), "{code:?} {said}");
    let (code, said) = refused(&["--choreography", "--without-keys"]);
    assert!(code == Some(2) && said.contains("it has --without-inbox"), "{code:?} {said}");
}
