//! A machine that a simulated broker runs on. Knows nothing of the others.

use tidelog_replication::Flaws;

use super::disk::Disk;
use super::node::Process;
use super::world::Event;

/// A machine, its disk, and the process on it, if one runs.
pub(super) struct Host {
    pub(super) disk: Disk,
    /// The disk as the last start found it.
    pub(super) copy: Option<Disk>,
    pub(super) process: Option<Process>,
    pub(super) life: u32,
    /// Its clock shows `offset + time × rate / 1000`.
    pub(super) clock: (u64, u64),
    /// What arrives while the process stands still.
    pub(super) paused: Option<Vec<Event>>,
    pub(super) flush_ms: u64,
    pub(super) next_flush_fails: bool,
}

impl Host {
    /// With an empty disk, and nothing on it.
    pub(super) fn new(flaws: Flaws) -> Self {
        Self {
            disk: Disk::flawed(flaws),
            copy: None,
            process: None,
            life: 0,
            clock: (0, 1_000),
            paused: None,
            flush_ms: 2,
            next_flush_fails: false,
        }
    }
}
