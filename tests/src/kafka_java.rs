//! Kafka's own programs for Java, unmodified and at their default settings, each a process of its own. Knows nothing of what they are used for.

use std::path::{Path, PathBuf};

use crate::binaries::workspace;
use crate::command::CommandLine;

/// A folder with the programs; `none` where they were not to be had.
pub const JAVA_VARIABLE: &str = "TEST_JAVA";

/// Where the programs are.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os(JAVA_VARIABLE).map_or_else(|| workspace().join("target/java"), PathBuf::from)
}

/// Whether they are there.
#[must_use]
pub fn installed() -> bool {
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.starts_with("kafka-tools-") && name.ends_with(".jar"))
}

/// The program with this main class, without arguments. The virtual machine starts as fast as it can, which is all that is set.
#[must_use]
pub fn program(class: &str) -> CommandLine {
    started_fast(&class_path(), class)
}

/// As [`program`], with more classes in a folder.
#[must_use]
pub fn program_with(classes: &Path, class: &str) -> CommandLine {
    started_fast(&format!("{}:{}", class_path(), classes.display()), class)
}

fn started_fast(class_path: &str, class: &str) -> CommandLine {
    // What is not ASCII is printed as it is, whatever the machine's language.
    CommandLine::system("java").env("LC_ALL", "C.UTF-8").args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xmx256m",
        "-cp",
        class_path,
        class,
    ])
}

/// Where classes are looked for. Beside the programs lies what keeps them from logging all that they do.
#[must_use]
pub fn class_path() -> String {
    format!("{}:{}", folder().join("*").display(), workspace().join("tests/tests/kafka/java").display())
}
