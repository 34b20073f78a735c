//! What the operating system says about this process. Knows nothing of the broker.

use std::io;
use std::time::Duration;

/// CPU time so far, user and system.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory of this process, in bytes; 0 where the system does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// All of it (VmRSS), pages of mapped log files included: those belong to the page cache, which takes them back when it needs them.
    pub resident: u64,
    /// What is the process's own (RssAnon).
    pub anonymous: u64,
    /// The most that was ever resident (VmHWM).
    pub resident_peak: u64,
}

/// As of now.
#[must_use]
pub fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    Memory { resident: kib("VmRSS:") << 10, anonymous: kib("RssAnon:") << 10, resident_peak: kib("VmHWM:") << 10 }
}

/// Raises the limit of open files as far as the system allows, and says where it ended.
///
/// # Errors
/// Where the limit cannot be changed.
pub fn raise_file_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(most)
}

/// How many files this process may open.
#[must_use]
pub fn file_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_our_own_is_a_part_of_what_is_resident() {
        let memory = memory();
        assert!(memory.anonymous > 0 && memory.anonymous < memory.resident, "{memory:?}");
        assert!(memory.resident <= memory.resident_peak, "{memory:?}");
    }
}
