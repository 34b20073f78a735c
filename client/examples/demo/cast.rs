//! The processes of a demo: this program again, each in a role. Knows nothing of the roles.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Failure;

/// One process of a demo; killed where it is dropped.
pub struct Actor {
    /// What it is called in the timeline.
    pub name: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Actor {
    /// Starts this program with these arguments. What it says goes to `log`.
    pub fn start(name: &str, arguments: &[&str], log: PathBuf) -> Result<Self, Failure> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut actor = Self { name: name.into(), arguments, log, child: None };
        actor.restart()?;
        Ok(actor)
    }

    /// Kills it (`kill -9`) where it runs, and starts it again.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// An error where it has ended by itself.
    pub fn check(&mut self) -> Result<(), Failure> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                Err(format!("{} ended by itself ({status}): {}", self.name, last.join(" | ")).into())
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns as the process that started this one is gone: its end of the pipe is closed then. A process of a demo ends with that.
pub async fn orphaned() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}

/// How often a process has begun before that notes its lives in this file.
pub fn begin_life(file: &Path) -> Result<u64, Failure> {
    let mut lives = File::options().create(true).append(true).open(file)?;
    let before = lives.metadata()?.len();
    lives.write_all(b".")?;
    Ok(before)
}
