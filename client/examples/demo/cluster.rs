//! Three brokers as processes (`tidelog-broker --dev-cluster 3`), each of which can be killed and comes back. Knows nothing of topics.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;

/// The cluster; ended where it is dropped.
pub struct Cluster {
    child: Child,
    log: PathBuf,
    servers: String,
}

const BROKERS: u16 = 3;

impl Cluster {
    /// Starts it with its data in `folder`, and waits until it serves.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let program = program()?;
        let port = free_ports()?;
        let (log, ready) = (folder.join("brokers.log"), folder.join("brokers.out"));
        let child = Command::new(&program)
            .args(["--dev-cluster", &BROKERS.to_string(), "--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin-listen", &format!("127.0.0.1:{}", port + BROKERS)])
            // However the demo ends, by a signal too.
            .args(["--ends-with", &std::process::id().to_string()])
            .args(["--set", "disk_free_min_bytes=0", "--data"])
            .arg(folder.join("brokers"))
            .stdin(Stdio::null())
            .stdout(File::create(&ready)?)
            .stderr(File::create(&log)?)
            .spawn()?;
        let servers: Vec<String> = (0..BROKERS).map(|n| format!("127.0.0.1:{}", port + n)).collect();
        let mut cluster = Self { child, log, servers: servers.join(",") };
        let began = Instant::now();
        while !std::fs::read_to_string(&ready)?.contains("are ready") {
            if let Some(status) = cluster.child.try_wait()? {
                return Err(format!("the brokers ended ({status}): {}", std::fs::read_to_string(&cluster.log)?).into());
            }
            if began.elapsed() > Duration::from_secs(60) {
                return Err("the brokers do not serve".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(cluster)
    }

    /// Where it is.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Kills a broker (`kill -9`), which is started again a second later. False where it is just down.
    pub fn kill(&self, broker: u32) -> Result<bool, Failure> {
        let said = std::fs::read_to_string(&self.log)?;
        // What is written at this moment is no line yet.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let begin = format!("broker-{broker} | started as process ");
        let pid = whole.lines().rev().find_map(|line| line.strip_prefix(&begin));
        let pid: u32 = pid.ok_or("no such broker was started")?.trim().parse()?;
        Ok(Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status()?.success())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Asked to end, it ends its brokers.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The broker's binary: in the folder above that of this example.
fn program() -> Result<PathBuf, Failure> {
    let example = std::env::current_exe()?;
    let folder = example.parent().and_then(Path::parent).ok_or("an example lies in a folder of cargo's")?;
    let program = folder.join("tidelog-broker");
    if !program.exists() {
        let build = if folder.ends_with("release") { "cargo build --release" } else { "cargo build" };
        return Err(format!("{} is missing: run `{build} --bin tidelog-broker` first", program.display()).into());
    }
    Ok(program)
}

/// The first of six ports in a row that are free.
fn free_ports() -> Result<u16, Failure> {
    for _ in 0..100 {
        let first = fastrand::u16(20_000..30_000);
        if (first..first + 2 * BROKERS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(first);
        }
    }
    Err("there are no six free ports in a row".into())
}
