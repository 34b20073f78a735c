//! Runs a binary of the workspace, or a program of the system, to its end, with a limit. Knows nothing of what it does.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binaries::binary;
use crate::patience::wait_for;

/// What a command left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, where the exit code is this.
    ///
    /// # Panics
    /// With both outputs, where it is not.
    #[track_caller]
    #[must_use]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Standard output, where the command succeeded.
    ///
    /// # Panics
    /// Where it did not.
    #[track_caller]
    #[must_use]
    pub fn success(self) -> Vec<u8> {
        self.expect_code(0).stdout
    }
}

/// A command line. Standard output and error go to files, so no pipe can fill up.
#[derive(Debug)]
pub struct CommandLine {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    stdin: Option<PathBuf>,
}

impl CommandLine {
    /// The binary `name`, without arguments.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { program: binary(name), arguments: Vec::new(), environment: Vec::new(), stdin: None }
    }

    /// A program of the system, without arguments.
    #[must_use]
    pub fn system(program: &str) -> Self {
        Self { program: program.into(), arguments: Vec::new(), environment: Vec::new(), stdin: None }
    }

    /// With more arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Reading a file as standard input; else there is none.
    #[must_use]
    pub fn stdin(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it cannot be started, or does not end.
    #[track_caller]
    #[must_use]
    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(self) -> Started {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let mut command = Command::new(&self.program);
        without_settings(&mut command).args(&self.arguments).envs(self.environment);
        let stdin = self.stdin.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
        command.stdin(stdin).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Started { child: Ended(command.spawn().unwrap()), what: format!("the end of {command:?}"), folder }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    child: Ended,
    what: String,
    folder: TempDir,
}

impl Started {
    /// What it has written to standard error by now.
    ///
    /// # Panics
    /// Where that cannot be read.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("stderr")).unwrap()).into_owned()
    }

    /// What it has written to standard output by now.
    ///
    /// # Panics
    /// Where that cannot be read.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("stdout")).unwrap()).into_owned()
    }

    /// False once it has ended.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    #[must_use]
    pub fn finish(mut self) -> Finished {
        let status = self.child.wait(&self.what);
        let stdout = std::fs::read(self.folder.path().join("stdout")).unwrap();
        Finished { code: status.code(), stdout, stderr: self.stderr_so_far() }
    }
}

/// Takes away what the environment of the tests would set in a broker or tool.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDELOG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program of the system to its end.
///
/// # Panics
/// Where it cannot be started or fails, with what it said.
#[track_caller]
pub fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {complaint}", output.status);
    text
}

/// A child that does not outlive the one who waits for it.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Ended {
    /// Waits for the end.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn wait(&mut self, what: &str) -> ExitStatus {
        wait_for(what, || self.0.try_wait().unwrap())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
