//! What a fault test needs from the machine. Where it is missing the test says so and is skipped, except in CI, where a skipped fault
//! test would be a promise that nobody checks. Knows nothing of the tests.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kafka_java;

/// Something that not every machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Loop devices, ext4 tools and the right to mount.
    LoopDisk,
    /// `strace` and the right to trace.
    Strace,
    /// `prlimit`.
    Prlimit,
    /// Network namespaces, bridges and packet filters, and the right to make them.
    Namespaces,
    /// A C compiler.
    Compiler,
    /// `kcat`, and `timeout` to end it.
    Kcat,
    /// A Python with the clients of Kafka.
    KafkaPython,
    /// A Python with `aiokafka`.
    Aiokafka,
    /// A Java that runs Kafka's programs.
    KafkaJava,
    /// A Java compiler, and what `KafkaJava` is.
    JavaCompiler,
    /// The server programs of PostgreSQL, and who may run them.
    Postgres,
}

impl Need {
    fn missing(self) -> Option<&'static str> {
        match self {
            Self::LoopDisk if !rustix::process::geteuid().is_root() => Some("must run as root to mount a loop device"),
            Self::LoopDisk if !Path::new("/dev/loop-control").exists() => {
                Some("needs loop devices (/dev/loop-control)")
            }
            Self::LoopDisk if !has_program("mkfs.ext4") => Some("needs mkfs.ext4 (package e2fsprogs)"),
            Self::LoopDisk if !has_program("losetup") => Some("needs losetup (package mount)"),
            Self::LoopDisk if !has_program("fsfreeze") => Some("needs fsfreeze (package util-linux)"),
            Self::Strace if !has_program("strace") => Some("needs strace"),
            Self::Strace if !rustix::process::geteuid().is_root() => Some("must run as root to trace a process"),
            Self::Prlimit if !has_program("prlimit") => Some("needs prlimit (package util-linux)"),
            Self::Namespaces if !rustix::process::geteuid().is_root() => Some("must run as root to make namespaces"),
            Self::Namespaces if !has_program("ip") => Some("needs ip (package iproute2)"),
            Self::Namespaces if !has_program("nft") => Some("needs nft (package nftables)"),
            Self::Namespaces if !has_program("nsenter") => Some("needs nsenter (package util-linux)"),
            Self::Namespaces if !may_make_namespaces() => Some("needs the right to make network namespaces"),
            Self::Compiler if !has_program("cc") => Some("needs a C compiler (package gcc)"),
            Self::Kcat if !has_program("kcat") => Some("needs kcat"),
            Self::Kcat if !has_program("timeout") => Some("needs timeout (package coreutils)"),
            Self::Aiokafka if !has_modules("aiokafka") => Some("needs Python with aiokafka"),
            Self::KafkaPython if !has_modules("kafka, confluent_kafka, snappy, lz4, zstandard") => {
                Some("needs Python with kafka-python, confluent-kafka, python-snappy, lz4 and zstandard")
            }
            Self::JavaCompiler if !has_program("javac") => Some("needs javac (package default-jdk-headless)"),
            Self::KafkaJava | Self::JavaCompiler if !has_program("java") => {
                Some("needs java (package default-jre-headless)")
            }
            Self::KafkaJava | Self::JavaCompiler if !kafka_java::installed() => Some(
                "needs Kafka's programs for Java (mvn -q -f tests/tests/kafka/java/pom.xml dependency:copy-dependencies)",
            ),
            Self::Postgres if crate::postgres_process::programs().is_none() => {
                Some("needs the server of PostgreSQL (package postgresql)")
            }
            Self::Postgres if rustix::process::geteuid().is_root() && !has_program("setpriv") => {
                Some("needs setpriv (package util-linux): PostgreSQL does not run as root")
            }
            Self::LoopDisk | Self::Strace | Self::Prlimit | Self::Namespaces => None,
            Self::Compiler | Self::Kcat | Self::KafkaPython | Self::Aiokafka => None,
            Self::KafkaJava | Self::JavaCompiler | Self::Postgres => None,
        }
    }
}

/// True where the machine has all of it. Else says which test is skipped and why, past the capture of the test runner.
///
/// # Panics
/// Where something is missing and the environment says `CI=true`.
#[must_use]
pub fn requires(test: &str, needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find_map(|need| need.missing()) else { return true };
    // Whoever runs all of CI has tried to install these, and says that they were not to be had.
    let excused = needs.iter().any(|need| match need {
        Need::KafkaPython | Need::Aiokafka => python() == "none",
        Need::KafkaJava | Need::JavaCompiler => kafka_java::folder() == Path::new("none"),
        _ => false,
    });
    assert!(
        excused || !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "CI must run every fault test: {test} {missing}"
    );
    // Where even standard error is closed nobody is there to read it.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing}");
    false
}

/// Root within a container often may not.
fn may_make_namespaces() -> bool {
    let tried = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn python() -> String {
    std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".into())
}

fn has_modules(modules: &str) -> bool {
    let tried = Command::new(python()).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|folder| folder.join(name).exists())
}
