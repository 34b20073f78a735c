//! Style and layering, where a machine can check them. Each rule is a pure function over text, proven on small strings to be able
//! to fail; here they meet the tree. Knows nothing of what the code does.

mod ci;
mod compatibility;
mod imports;
mod manifests;
mod maps;
mod prose;
mod tasks;
mod tree;

use tree::Tree;

/// Fails with every complaint at once, so that one run shows all there is to mend.
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// What `rule` says about each file that `picked` picks, behind the file's path. There must be such files.
fn complaints(tree: &Tree, picked: fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let files: Vec<_> = tree.files().iter().filter(|file| picked(&file.path)).collect();
    assert!(!files.is_empty(), "no file to look at: the rule would hold of anything");
    let said = |file: &&tree::File| {
        let path = file.path.clone();
        rule(&file.path, &file.text).into_iter().map(move |complaint| format!("{path}: {complaint}"))
    };
    files.iter().flat_map(said).collect()
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_manifest(path: &str) -> bool {
    path.ends_with("Cargo.toml") && path != "Cargo.toml"
}

fn is_page(path: &str) -> bool {
    path.ends_with(".md")
}

#[test]
fn every_file_says_first_what_it_is() {
    assert_none(complaints(&Tree::read(), is_rust, |_, text| prose::opening(text)));
}

#[test]
fn no_file_grows_beyond_what_one_concept_needs() {
    let tree = Tree::read();
    for file in tree.files().iter().filter(|file| is_rust(&file.path)) {
        if prose::is_questionable_length(&file.text) {
            println!("{} has {} lines: is it one concept?", file.path, file.text.lines().count());
        }
    }
    assert_none(complaints(&tree, is_rust, |_, text| prose::length(text)));
}

#[test]
fn files_are_named_by_what_they_are() {
    assert_none(complaints(&Tree::read(), is_rust, |path, _| prose::name(path)));
}

#[test]
fn nothing_is_left_to_do_and_nobodys_folders_are_named() {
    assert_none(complaints(&Tree::read(), |_| true, |_, text| prose::leftovers(text)));
}

#[test]
fn unsafe_code_has_one_door_in_each_package() {
    let tree = Tree::read();
    for package in tree.packages() {
        let doors: Vec<_> = tree
            .files()
            .iter()
            .filter(|file| is_rust(&file.path) && tree.package_of(&file.path) == package && file.path.contains("/src/"))
            .filter(|file| prose::opens_unsafe_door(&file.text))
            .map(|file| file.path.as_str())
            .collect();
        assert!(doors.len() <= 1, "{package} allows unsafe code in {doors:?}");
    }
}

#[test]
fn packages_depend_on_what_the_architecture_allows() {
    assert_none(complaints(&Tree::read(), is_manifest, |_, text| manifests::layering(text)));
}

#[test]
fn every_package_keeps_to_the_lints_of_the_workspace() {
    assert_none(complaints(&Tree::read(), is_manifest, |path, text| {
        // The fuzz targets are a workspace of their own: they need a nightly compiler.
        if path.starts_with("tests/fuzz/") { Vec::new() } else { manifests::lints(text) }
    }));
}

#[test]
fn the_pure_packages_have_no_standard_library() {
    let tree = Tree::read();
    for package in ["broker/replication", "broker/coordination"] {
        let map = tree.file(&format!("{package}/src/lib.rs"));
        assert!(map.lines().any(|line| line == "#![no_std]"), "{package} is not no_std");
        let sources = |path: &str| path.starts_with("broker/") && path.contains("/src/");
        assert_none(complaints(&tree, sources, |path, text| {
            if path.starts_with(package) { imports::standard_library(text) } else { Vec::new() }
        }));
    }
}

#[test]
fn inside_the_broker_the_arrows_go_one_way() {
    let inside = |path: &str| path.starts_with("broker/src/") && is_rust(path);
    assert_none(complaints(&Tree::read(), inside, imports::backward_arrows));
}

#[test]
fn what_runs_beside_the_broker_is_watched() {
    let starts = |path: &str| ["broker/src/broker.rs", "broker/src/replica/mod.rs"].contains(&path);
    assert_none(complaints(&Tree::read(), starts, |_, text| tasks::unwatched(text)));
}

#[test]
fn pages_name_only_files_and_folders_that_exist() {
    let tree = Tree::read();
    assert_none(complaints(&tree, is_page, |path, text| maps::missing(path, text, &|claim| tree.exists(claim))));
}

#[test]
fn the_top_level_stays_as_it_is() {
    let fixed = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "broker",
        "client",
        "protocol",
        "tests",
        "tools",
    ];
    // What building and running leave behind.
    let fleeting = ["target", "tidelog-data"];
    let strays: Vec<_> = Tree::top_level()
        .into_iter()
        .filter(|name| !name.starts_with('.') && !fixed.contains(&name.as_str()) && !fleeting.contains(&name.as_str()))
        .collect();
    assert!(strays.is_empty(), "{strays:?} belong into a folder, or behind a dot");
}
