//! What /proc says about a process. Knows nothing of brokers.

use std::time::Duration;

/// Memory, descriptors and CPU time of a process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessFigures {
    /// Memory that belongs to the process alone, in bytes: heap and stacks, without mapped files.
    pub anonymous_bytes: u64,
    /// All resident memory, mapped files included, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// CPU time so far, user and system.
    pub cpu: Duration,
}

impl ProcessFigures {
    /// Looks at a process; `None` where there is none of this id.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |key: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; user and system ticks are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self {
            anonymous_bytes: kib("RssAnon:")? << 10,
            resident_bytes: kib("VmRSS:")? << 10,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
            cpu: Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()),
        })
    }
}

/// True where every thread of a process is stopped. One may go on for a moment after the first has.
#[must_use]
pub fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let stat = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("stat")).ok();
    let stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    // One that has ended meanwhile does not go on either.
    threads.flatten().filter_map(stat).all(stopped)
}

/// The state letter of a process, such as `T` for stopped; `None` where there is none of this id.
#[must_use]
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures_and_a_dead_one_has_none() {
        let figures = ProcessFigures::of(std::process::id()).unwrap();
        assert!(figures.anonymous_bytes > 0 && figures.resident_bytes >= figures.anonymous_bytes);
        assert!(figures.descriptors >= 3);
        assert_eq!(ProcessFigures::of(u32::MAX), None);
        assert!(state_of(std::process::id()).is_some_and(|state| "RS".contains(state)));
        assert_eq!(state_of(u32::MAX), None);
    }
}
