//! The script that every change must pass: what it counts, it counts right. Knows nothing of what it runs.

use std::process::Command;

/// What the script's last line says of a test run that printed `output`, and whether it lets the change pass.
fn summary(output: &str) -> (String, bool) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), output).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/run");
    let ran = Command::new("bash").args([script, "summary"]).arg(file.path()).output().expect("bash is there");
    (String::from_utf8(ran.stdout).unwrap(), ran.status.success())
}

#[test]
fn results_of_all_test_programs_are_added_up() {
    let line = |words: &str| format!("running 3 tests\ntest a ... ok\n\ntest result: {words}\n");
    let passed = line("ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s");
    let failed = line("FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.10s");
    assert_eq!(summary(&format!("{passed}{passed}")), ("6 passed, 0 failed, 2 skipped\n".into(), true));
    assert_eq!(summary(&format!("{passed}{failed}")), ("5 passed, 1 failed, 1 skipped\n".into(), false));
}

#[test]
fn a_run_without_a_single_test_does_not_pass() {
    assert_eq!(summary("error: could not compile\n"), ("0 passed, 0 failed, 0 skipped\n".into(), false));
}

#[test]
fn the_script_runs_the_test_command_of_the_readme() {
    let tree = super::tree::Tree::read();
    let readme = tree.file("README.md");
    let command = readme.lines().find(|line| line.starts_with("cargo test")).expect("the README says how to test");
    let runs = |line: &str| line.trim().starts_with("step tests ") && line.contains(&format!(" {command} 2>&1"));
    assert!(tree.file(".ci/run").lines().any(runs), "no step of .ci/run is '{command}'");
}
