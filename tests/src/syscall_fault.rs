//! Makes a system call of a running process fail, or take its time, by `strace` on the unmodified binary. Knows nothing of why it is called. Needs
//! [`Need::Strace`](crate::requirements::Need::Strace).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::Ended;
use crate::patience::wait_for;

/// A fault that waits for its call, until it is dropped.
#[derive(Debug)]
pub struct SyscallFault {
    tracer: Ended,
    trace: PathBuf,
    _folder: TempDir,
}

impl SyscallFault {
    /// From now on `inject` holds, in the words of `strace`: `fdatasync:error=EIO:when=1` lets the first call of each thread fail,
    /// `fdatasync:delay_enter=200000` lets each wait for 200 ms.
    ///
    /// # Panics
    /// Where the process cannot be traced.
    #[track_caller]
    #[must_use]
    pub fn on(pid: u32, inject: &str) -> Self {
        Self::start(pid, &[inject], None)
    }

    /// As [`SyscallFault::on`], with several that hold at once.
    ///
    /// # Panics
    /// Where the process cannot be traced.
    #[track_caller]
    #[must_use]
    pub fn on_all(pid: u32, injects: &[&str]) -> Self {
        Self::start(pid, injects, None)
    }

    /// As [`SyscallFault::on`], for calls about one file alone.
    ///
    /// # Panics
    /// Where the process cannot be traced.
    #[track_caller]
    #[must_use]
    pub fn on_file(pid: u32, inject: &str, file: &Path) -> Self {
        Self::start(pid, &[inject], Some(file))
    }

    #[track_caller]
    fn start(pid: u32, injects: &[&str], file: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (trace, said) = (folder.path().join("trace"), folder.path().join("stderr"));
        let calls: Vec<&str> = injects.iter().filter_map(|inject| inject.split(':').next()).collect();
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &pid.to_string(), "-e", &format!("trace={}", calls.join(","))]);
        for inject in injects {
            command.args(["-e", &format!("inject={inject}")]);
        }
        if let Some(file) = file {
            command.arg("-P").arg(file);
        }
        command.arg("-o").arg(&trace).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&said).unwrap());
        let mut tracer = Ended(command.spawn().unwrap());
        wait_for("strace to attach", || {
            let text = std::fs::read_to_string(&said).unwrap();
            let ended = tracer.0.try_wait().unwrap();
            assert!(ended.is_none(), "strace ended: {text}");
            text.contains("attached").then_some(())
        });
        Self { tracer, trace, _folder: folder }
    }

    /// The calls that failed or waited so far, with the files they were about.
    ///
    /// # Panics
    /// Where the trace is gone.
    #[must_use]
    pub fn injected(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.trace).unwrap();
        text.lines()
            .filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for SyscallFault {
    fn drop(&mut self) {
        // On this signal it lets go of the process it traces; killed outright it might not.
        if let Some(pid) = i32::try_from(self.tracer.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
            let _ = self.tracer.0.wait();
        }
    }
}
