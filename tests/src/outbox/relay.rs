//! A relay as a process of its own, which kills itself at a step where it is told to. Knows nothing of what it publishes.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tidelog_client::outbox::Step;

use crate::binaries::binary;
use crate::command::{Ended, without_settings};
use crate::patience::wait_for;

/// What a relay is told.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Where the cluster is.
    pub servers: String,
    /// Where the database is.
    pub database: String,
    /// Among how many shards the outbox is divided.
    pub shards: u32,
    /// How long its lease is.
    pub lease: Duration,
    /// How many events go into a transaction at most.
    pub batch_rows: u32,
}

/// The process.
#[derive(Debug)]
pub struct RelayProcess {
    child: Ended,
}

impl RelaySettings {
    /// Starts one.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(&self) -> RelayProcess {
        self.launch(&[])
    }

    /// Starts one that kills itself as it comes to `step` for the `time`th time.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start_to_die(&self, step: Step, time: u32) -> RelayProcess {
        self.launch(&[format!("{step:?}"), time.to_string()])
    }

    fn launch(&self, end: &[String]) -> RelayProcess {
        let mut command = Command::new(binary("outbox-relay"));
        without_settings(&mut command)
            .args([&self.servers, &self.database])
            .args(
                [u128::from(self.shards), self.lease.as_millis(), self.batch_rows.into()]
                    .map(|number| number.to_string()),
            )
            .args(end)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        RelayProcess { child: Ended(command.spawn().unwrap()) }
    }
}

impl RelayProcess {
    /// Waits until it has killed itself.
    ///
    /// # Panics
    /// Where it does not, or ends otherwise.
    #[track_caller]
    pub fn wait_killed(mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait("a relay to kill itself");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it ended otherwise: {status}");
    }

    /// True where it runs.
    ///
    /// # Panics
    /// Where the system does not tell.
    pub fn is_alive(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// Where it ended by itself before.
    pub fn kill(mut self) {
        assert!(self.is_alive(), "the relay ended by itself");
    }

    /// Has it stand still without its knowledge.
    ///
    /// # Panics
    /// Where it does not.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::STOP).unwrap();
        let pid = self.child.0.id();
        wait_for("the relay to stand still", || (crate::process_figures::state_of(pid) == Some('T')).then_some(()));
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::CONT).unwrap();
    }
}
