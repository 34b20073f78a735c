//! Who names whom within a package. Reads `crate::` paths as text: good enough to find an arrow that points back, without
//! knowing the language.

/// What `broker/src/net/`, `broker/src/api/` and `broker/src/kafka/` may import of each other; all other folders and files import none of them.
const UPPER: [&str; 3] = ["net", "api", "kafka"];
/// Where the broker is put together from its parts, and so may name all of them.
const ASSEMBLY: [&str; 3] = ["broker/src/broker.rs", "broker/src/lib.rs", "broker/src/main.rs"];

pub fn backward_arrows(path: &str, text: &str) -> Vec<String> {
    if ASSEMBLY.contains(&path) {
        return Vec::new();
    }
    let here = path.trim_start_matches("broker/src/").split(['/', '.']).next().unwrap_or_default();
    let allowed: &[&str] = match here {
        "net" => &["net", "api", "kafka"],
        "api" => &["api"],
        "kafka" => &["kafka"],
        _ => &[],
    };
    let named = modules_named(text);
    let back = named.iter().filter(|module| UPPER.contains(&module.as_str()) && !allowed.contains(&module.as_str()));
    back.map(|module| format!("'{here}' lies below '{module}' and must not import it")).collect()
}

pub fn standard_library(text: &str) -> Vec<String> {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    let uses = |line: &&str| line.contains("std::") && !line.trim_start().starts_with("//");
    text[..tests].lines().filter(uses).map(|line| format!("is pure, but says '{}'", line.trim())).collect()
}

/// The first name of every path that begins with `crate::`, groups in braces included.
fn modules_named(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut named = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|before| is_name(before) || before == '$') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => named.extend(rest.split(|c| !is_name(c)).next().map(ToOwned::to_owned)),
            Some(group) => named.extend(first_names(group)),
        }
    }
    named
}

/// The first name of each item of a group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut items = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            c => items.last_mut().expect("never empty").push(c),
        }
    }
    let first = |item: &String| item.trim().split("::").next().unwrap_or_default().split(' ').next().map(Into::into);
    items.iter().filter_map(first).filter(|name: &String| !name.is_empty()).collect()
}

#[test]
fn an_arrow_that_points_back_is_noticed() {
    for (path, text) in [
        ("broker/src/partition/owner.rs", "use crate::api::Input;"),
        ("broker/src/partition/owner.rs", "use crate::{clock, net::{Listener, serve}};"),
        ("broker/src/quorum/consensus.rs", "fn f() { crate::net::serve() }"),
        ("broker/src/api/produce.rs", "use crate::net;"),
        ("broker/src/kafka/produce.rs", "use crate::api::in_time;"),
        ("broker/src/session.rs", "use crate::{\n    outbox::Outbox,\n    api,\n};"),
    ] {
        assert!(!backward_arrows(path, text).is_empty(), "{path} {text}");
    }
    for (path, text) in [
        ("broker/src/net/connection.rs", "use crate::api;"),
        ("broker/src/broker.rs", "use crate::net::Listener;"),
        ("broker/src/partition/owner.rs", "use tidelog_protocol::api::Api; use crate::network;\n// crate::api decides"),
        ("broker/src/metrics.rs", "use crate::{clock::{api, net}, budget};"),
    ] {
        assert_eq!(backward_arrows(path, text), Vec::<String>::new(), "{path} {text}");
    }
}

#[test]
fn the_standard_library_is_noticed_outside_tests() {
    assert!(!standard_library("use std::time::Instant;").is_empty());
    assert!(standard_library("use alloc::vec::Vec;\n//! like std::vec\n#[cfg(test)]\nuse std::fs;").is_empty());
}
