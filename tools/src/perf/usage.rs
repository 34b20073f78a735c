//! What this process has used: CPU time from the kernel's clock, memory from `/proc`. Knows nothing of what it was used for.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time and memory of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessUsage {
    /// CPU time, user and system, all threads.
    pub cpu: Duration,
    /// Resident memory, in bytes; 0 where the system does not tell.
    pub rss_bytes: u64,
    /// Largest resident memory so far, in bytes; 0 where the system does not tell.
    pub rss_peak_bytes: u64,
}

impl ProcessUsage {
    /// As of now.
    #[must_use]
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec as u32),
            rss_bytes: kib_field(&status, "VmRSS:").unwrap_or(0) * 1024,
            rss_peak_bytes: kib_field(&status, "VmHWM:").unwrap_or(0) * 1024,
        }
    }
}

/// The field `name` of `/proc/<pid>/status`, in KiB.
fn kib_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kib_field(status, "VmRSS:"), Some(1024));
        assert_eq!(kib_field(status, "VmHWM:"), Some(2048));
        assert_eq!(kib_field(status, "Rss:"), None);
    }

    #[test]
    fn work_costs_cpu_time() {
        let before = ProcessUsage::now();
        let mut sum = 0u64;
        while ProcessUsage::now().cpu < before.cpu + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(before.rss_bytes > 0 && before.rss_peak_bytes >= before.rss_bytes / 2);
    }
}
