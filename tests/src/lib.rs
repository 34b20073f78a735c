//! The test bed: real processes, real disks, faults on purpose, and checkers that judge what came of it. Knows nothing of how a
//! broker works inside; what it asserts is what a user was promised.
//!
//! From the process outwards:
//! - [`binaries`]: where the binaries under test are. [`command`]: runs one to its end.
//! - [`broker_process`]: a broker as a process of its own: start, kill, pause, restart. [`loopback`]: an address for each.
//! - [`local_cluster`]: several brokers in this process, over one metadata log. [`joined_cluster`]: the same as one quorum. [`cuttable_link`]: the way to one of them.
//! - [`capping_proxy`]: makes a broker serve as one of an older release.
//! - [`process_figures`]: memory, descriptors and CPU time of a process. [`http`]: asks an admin port.
//! - [`loop_disk`]: a small file system that can lose power or run full; [`power`] cuts it off.
//! - [`syscall_fault`]: makes a system call fail or slow. [`shifted_clock`]: a wall clock that jumps for one process. [`stalling_disk`]: makes a broker inside the test wait for its disk.
//! - [`requirements`]: what a test needs from the machine. [`chance`]: seeds and rounds. [`patience`]: waits for a condition.
//! - [`raw_connection`]: frames by hand, for what no client would send; [`raw_kafka`]: the same of Kafka's protocol. [`raw_transactions`]: transactions by hand, step by step;
//!   [`raw_reader`]: what of them is read. [`transacting`]: what tests of transactions by the client begin with.
//! - [`workload`]: producers that write a [`history`]; [`contents`] reads back what is there; [`checkers`] compare the two.
//! - [`group_work`]: members of a group that note down what they do, and the judgement of it.
//! - [`kafka_java`]: Kafka's own programs. [`input`]: lines to send. [`pipeline`]: members that read, process and write within transactions, and what must come of it.
//! - [`outbox`]: a shop with an outbox, relays that can be killed, and the judgement of what came out. [`postgres_process`]: a PostgreSQL of its own.
//! - [`simulation`]: the rules of replication on a simulated network and simulated disks, many thousand lives a minute.
//!
//! Set in the environment: `TEST_ROUNDS=20 cargo test -p tidelog-tests` goes twenty times as many rounds of kills and power losses, `TEST_SEED=N`
//! repeats a run that printed it, `TEST_BINARIES=DIR` tests the binaries in that folder, `TEST_JAVA=DIR` runs Kafka's programs
//! that lie there, `CI=true` turns a skipped test into a failed one.
//!
//! The fault tests of a cluster take turns within a program and a few seconds each; `TEST_ROUNDS=20 cargo test -p tidelog-tests --test cluster_faults`
//! is their longer round, `TEST_SECONDS=300` instead lets each of them go on with its faults for so long. Histories and checkers do not care how many brokers there were.
#![allow(clippy::unwrap_used, clippy::panic)] // A test bed fails a test by panicking at the line that called it.

pub mod binaries;
pub mod broker_process;
pub mod capping_proxy;
pub mod chance;
pub mod checkers;
pub mod cluster;
pub mod command;
pub mod contents;
pub mod cuttable_link;
pub mod delaying_proxy;
pub mod group_work;
pub mod history;
pub mod http;
pub mod input;
pub mod joined_cluster;
pub mod kafka_java;
pub mod local_cluster;
pub mod loop_disk;
pub mod loopback;
pub mod numbered;
pub mod outbox;
pub mod patience;
pub mod pipeline;
pub mod postgres_process;
pub mod power;
pub mod process_figures;
pub mod question;
pub mod raw_connection;
pub mod raw_kafka;
pub mod raw_reader;
pub mod raw_transactions;
pub mod requirements;
pub mod shifted_clock;
pub mod simulation;
pub mod stalling_disk;
pub mod syscall_fault;
pub mod transacting;
pub mod workload;
