//! A seeded simulation of replication: the real leader, follower and controller machines on a simulated network and simulated disks,
//! in one thread. Knows nothing of sockets, threads or files, and the same seed lives the same life.
//!
//! From the inside out:
//! - [`disk`]: a log that forgets what was not flushed. [`message`], [`network`]: what travels, and how badly.
//! - [`node`]: a broker around the machines. [`control_plane`]: the controller and its leases. [`settings`]: what a cluster is made of.
//! - `host`: the machine that a broker runs on. [`world`]: all of them, driven by one queue of events.
//! - [`invariants`]: what must hold. [`schedule`]: random faults, then peace, then the verdict.
//!
//! `SIMULATION_SCHEDULES=50000` lives so many schedules, `SIMULATION_SEED=N` that one, `SIMULATION_TRACE=1` prints what happens in it.

pub mod control_plane;
pub mod disk;
mod host;
pub mod invariants;
pub mod message;
pub mod network;
pub mod node;
pub mod producer;
pub mod schedule;
pub mod settings;
pub mod transactional;
pub mod world;
