//! A member of the pipeline's group as a process of its own. Knows nothing of what it does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::super::binaries::binary;
use super::asked;
use crate::patience::wait_for;
use crate::process_figures::state_of;

/// What a member is told.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// Where the cluster is.
    pub servers: String,
    /// Its group.
    pub group: String,
    /// Where it reads.
    pub input: String,
    /// Where it writes.
    pub output: String,
    /// Partitions of either.
    pub partitions: u32,
}

/// The process.
#[derive(Debug)]
pub struct MemberProcess {
    settings: MemberSettings,
    /// The name under which its transactions outlive it.
    transactional_id: String,
    says: PathBuf,
    asks: PathBuf,
    child: Option<Child>,
    paused: bool,
}

impl MemberProcess {
    /// Starts member `number`. What it says on standard error, and when it [asks](super::asked) for commits, goes to files in `folder`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(settings: &MemberSettings, number: usize, folder: &Path) -> Self {
        let transactional_id = format!("{}-{number}", settings.group);
        let (says, asks) = (folder.join(format!("member-{number}.log")), asked::file_of(folder, &transactional_id));
        let mut member = Self { settings: settings.clone(), transactional_id, says, asks, child: None, paused: false };
        member.restart();
        member
    }

    /// Starts it again, under the same transactional id.
    ///
    /// # Panics
    /// Where it runs, or cannot be started.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.transactional_id);
        let says = File::options().create(true).append(true).open(&self.says).unwrap();
        let MemberSettings { servers, group, input, output, partitions } = &self.settings;
        let child = Command::new(binary("pipeline-member"))
            .args([servers, group, &self.transactional_id, input, output])
            .arg(partitions.to_string())
            .arg(&self.asks)
            // Its last lines are to say why it ended.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(says)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// Where it ended by itself before.
    pub fn kill(&mut self) {
        self.assert_alive();
        self.end();
    }

    /// Stops it without its knowledge, until [`MemberProcess::resume`].
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pause(&mut self) {
        self.assert_alive();
        let pid = self.pid();
        kill_process(pid, Signal::STOP).unwrap();
        wait_for("the member to stand still", || {
            (state_of(pid.as_raw_nonzero().get().cast_unsigned()) == Some('T')).then_some(())
        });
        self.paused = true;
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where it was not paused.
    pub fn resume(&mut self) {
        assert!(std::mem::take(&mut self.paused), "{} was not paused", self.transactional_id);
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// It must not have ended by itself.
    ///
    /// # Panics
    /// Where it did, with what it said.
    pub fn assert_alive(&mut self) {
        let ended = self.child.as_mut().expect("a member that was started").try_wait().unwrap();
        assert!(ended.is_none(), "{} ended by itself ({ended:?}):\n{}", self.transactional_id, self.last_words());
    }

    fn last_words(&self) -> String {
        let all = std::fs::read_to_string(&self.says).unwrap_or_default();
        let lines: Vec<_> = all.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a member that was started"))
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; a stopped process ends as well.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.paused = false;
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what {} said at the end ---\n{}\n---", self.transactional_id, self.last_words());
        }
        self.end();
    }
}
