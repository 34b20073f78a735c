//! A broker as a process of its own: the real binary, its own address and folder. Knows nothing of what is sent to it.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binary;
use crate::command::{Ended, without_settings};
use crate::http::{HttpAnswer, http_get};
use crate::loopback;
use crate::patience::{LIMIT, wait_for};
use crate::process_figures::{ProcessFigures, stands_still};

/// How a broker is started.
#[derive(Clone, Debug, Default)]
pub struct BrokerSettings {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    keys: Vec<(String, String)>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    prefix: Vec<OsString>,
}

impl BrokerSettings {
    /// A fresh folder, an address of its own, JSON logs, and no space kept free (test disks are small).
    #[must_use]
    pub fn new() -> Self {
        Self::default().set("log_format", "json").set("disk_free_min_bytes", "0")
    }

    /// With its data in this folder, which outlives it; else in a folder that goes with it.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Listening there.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// With its admin port there.
    #[must_use]
    pub fn admin_listen(mut self, address: SocketAddr) -> Self {
        self.admin_listen = Some(address);
        self
    }

    /// With a config key, set by `--set`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.into(), value.into()));
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Started by another program, which must become the broker (exec) and not a parent of it: `ip netns exec NAME`, `prlimit`.
    #[must_use]
    pub fn under<S: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = S>) -> Self {
        self.prefix = prefix.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// Where it does not start, with what it said.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> BrokerProcess {
        match self.try_start() {
            Ok(broker) => broker,
            Err(refusal) => panic!("the broker did not start: {refusal:?}"),
        }
    }

    /// Starts it and waits until it serves, or ends.
    ///
    /// # Errors
    /// [`StartRefusal`] where it ended.
    #[track_caller]
    pub fn try_start(mut self) -> Result<BrokerProcess, StartRefusal> {
        let home = tempfile::Builder::new().prefix("tidelog-broker-").tempdir().unwrap();
        let data = self.data.get_or_insert_with(|| home.path().join("data")).clone();
        let address = loopback::fresh();
        self.listen.get_or_insert(address);
        self.admin_listen.get_or_insert(address);
        let (child, log, ready) = launch(&self, home.path(), 1)?;
        let Ready { address, admin } = ready;
        // A restarted broker is found where it was.
        (self.listen, self.admin_listen) = (Some(address), Some(admin));
        Ok(BrokerProcess { child, settings: self, data, log, address, admin, starts: 1, home })
    }
}

/// A broker that ended instead of serving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartRefusal {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl StartRefusal {
    /// The one sentence for people: what is no log line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        lines.join("\n")
    }
}

struct Ready {
    address: SocketAddr,
    admin: SocketAddr,
}

/// A running broker; killed where it is dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Ended,
    settings: BrokerSettings,
    data: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    starts: u32,
    home: TempDir,
}

impl BrokerProcess {
    /// A broker with usual settings.
    ///
    /// # Panics
    /// Where it does not start.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        BrokerSettings::new().start()
    }

    /// Where clients connect, as text.
    #[must_use]
    pub fn server(&self) -> String {
        self.address.to_string()
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin port is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Its memory, descriptors and CPU time.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    #[must_use]
    pub fn figures(&self) -> ProcessFigures {
        ProcessFigures::of(self.pid()).expect("the broker runs")
    }

    /// False once the process ended.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Asks its admin port.
    ///
    /// # Panics
    /// Where it does not answer.
    #[track_caller]
    #[must_use]
    pub fn http(&self, path: &str) -> HttpAnswer {
        http_get(self.admin, path).unwrap()
    }

    /// What it wrote to standard error since its last start.
    ///
    /// # Panics
    /// Where the file is gone.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Its log lines since its last start whose message contains `message`, as JSON.
    #[must_use]
    pub fn log_lines(&self, message: &str) -> Vec<Value> {
        let lines = self.log_text();
        let parsed = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).collect()
    }

    /// Ends it without a word, as `kill -9`.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait("the end of a broker that was asked to stop")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where the system refuses.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id is positive");
        kill_process(pid, signal).unwrap();
    }

    /// Stops it without its knowledge until [`BrokerProcess::resume`]: none of its threads runs any more when this returns.
    ///
    /// # Panics
    /// Where it does not stand still.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        wait_for("the broker to stand still", || stands_still(self.pid()).then_some(()));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.child.wait("the end of the broker")
    }

    /// Starts it again on the same folder and ports, after it ended.
    ///
    /// # Panics
    /// Where it runs still, or does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        if let Err(refusal) = self.try_restart() {
            panic!("the broker did not start again: {refusal:?}");
        }
    }

    /// As [`BrokerProcess::restart`].
    ///
    /// # Errors
    /// [`StartRefusal`] where it ended instead of serving.
    ///
    /// # Panics
    /// Where it runs still.
    #[track_caller]
    pub fn try_restart(&mut self) -> Result<(), StartRefusal> {
        assert!(!self.is_alive(), "the broker runs still");
        self.starts += 1;
        let (child, log, _) = launch(&self.settings, self.home.path(), self.starts)?;
        (self.child, self.log) = (child, log);
        Ok(())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- last log lines of the broker on {} ---\n{}\n---", self.address, last.join("\n"));
        }
    }
}

#[track_caller]
fn launch(settings: &BrokerSettings, home: &Path, start: u32) -> Result<(Ended, PathBuf, Ready), StartRefusal> {
    let log = home.join(format!("log-{start}"));
    let mut words = settings.prefix.clone();
    words.push(binary("tidelog-broker").into());
    let mut command = Command::new(&words[0]);
    without_settings(&mut command).args(&words[1..]).envs(settings.environment.iter().cloned());
    for (flag, address) in [("--listen", settings.listen), ("--admin-listen", settings.admin_listen)] {
        command.args(address.map(|address| format!("{flag}={address}")));
    }
    command.arg("--data").args(&settings.data);
    for (key, value) in &settings.keys {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command.args(&settings.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut child = Ended(command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")));
    let read = || String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let outcome = wait_for(&format!("a broker to serve or end within {LIMIT:?}"), || {
        let ended = child.0.try_wait().unwrap();
        let text = read();
        if let Some(ready) = text.lines().find_map(ready_line) {
            return Some(Ok(ready));
        }
        ended.map(|status| Err(StartRefusal { code: status.code(), stderr: read() }))
    });
    outcome.map(|ready| (child, log.clone(), ready))
}

fn ready_line(line: &str) -> Option<Ready> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str().filter(|message| message.ends_with("is ready"))?;
    let address = |key: &str| line[key].as_str()?.parse().ok();
    Some(Ready { address: address("address")?, admin: address("admin")? })
}
