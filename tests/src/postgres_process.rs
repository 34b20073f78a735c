//! A PostgreSQL of its own: the real server, on a loopback address and in a folder that go with it. Knows nothing of tables.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::loopback;
use crate::patience::wait_for;

const PORT: u16 = 5432;
/// It does not run as root: this user does nothing else.
const USER: &str = "nobody";

/// The folder of the newest server programs that are installed.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let number = |folder: &PathBuf| {
        let version = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        version.and_then(|version| version.parse::<u32>().ok()).unwrap_or(0)
    };
    folders.filter(|folder| folder.join("postgres").exists()).max_by_key(number)
}

/// A running server; ended where it is dropped, with all its processes.
#[derive(Debug)]
pub struct PostgresProcess {
    programs: PathBuf,
    address: IpAddr,
    home: TempDir,
    child: Option<Child>,
}

impl PostgresProcess {
    /// Makes a cluster of databases and starts the server on it.
    ///
    /// # Panics
    /// Where that does not work, with what it said.
    #[must_use]
    pub fn start() -> Self {
        let home = tempfile::Builder::new().prefix("tidelog-postgres-").tempdir().unwrap();
        let programs = programs().expect("the server of PostgreSQL is installed");
        let mut process = Self { programs, address: loopback::fresh().ip(), home, child: None };
        if geteuid().is_root() {
            let made = Command::new("install").args(["-d", "-o", USER, "-m", "700"]).arg(process.data()).status();
            assert!(made.unwrap().success(), "no folder for {USER}");
            // The folder is on the way to it.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(process.home.path(), open).unwrap();
        }
        let made = process
            .command("initdb")
            .args(["--username=shop", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(process.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        process.restart();
        process
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// Where it runs, or does not serve.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let settings = [
            format!("listen_addresses={}", self.address),
            format!("port={PORT}"),
            "unix_socket_directories=".into(),
            "max_connections=60".into(),
        ];
        for setting in &settings {
            command.args(["-c", setting]);
        }
        // Signals of a terminal are not for it.
        let child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
        wait_for("PostgreSQL to serve", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "PostgreSQL ended ({ended:?}): {}", std::fs::read_to_string(self.log()).unwrap());
            let asked = Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h", &self.address.to_string(), "-p", &PORT.to_string()])
                .status();
            asked.unwrap().success().then_some(())
        });
    }

    /// Ends it at once, as a crash does: what was not committed is undone as it starts again.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn crash(&mut self) {
        assert!(self.child.is_some(), "it does not run");
        self.end();
    }

    /// Has it let nobody in without a password from now on. Nobody has one.
    ///
    /// # Panics
    /// Where that does not work.
    pub fn ask_for_passwords(&mut self) {
        self.end();
        std::fs::write(self.data().join("pg_hba.conf"), "host all all all scram-sha-256\n").unwrap();
        self.restart();
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://shop@{}:{PORT}/postgres", self.address)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// A program of PostgreSQL, as somebody who may run it.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={USER}"), "--clear-groups".into(), "--no-new-privs".into()]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // It shall not depend on where it is started, nor on the language of who does.
        command.current_dir("/").env("LC_ALL", "C");
        command
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // "Immediate": its processes end without writing anything, all of them, which a kill of the first would not do.
        let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
        let _ = child.wait();
    }
}

impl Drop for PostgresProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- PostgreSQL at the end ---\n{}\n---", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        self.end();
    }
}
