//! `tidelog-broker --dev-cluster 3` as a curious person uses it: three real brokers, one of them killed, all ended, all started again; and
//! nothing is left running, however it ends.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tidelog_tests::binaries::binary;
use tidelog_tests::command::{CommandLine, Ended, Finished, without_settings};
use tidelog_tests::loopback;
use tidelog_tests::patience::wait_for;

struct DevCluster {
    process: Ended,
    home: TempDir,
    listen: SocketAddr,
    starts: u32,
}

impl DevCluster {
    fn start() -> Self {
        let home = tempfile::Builder::new().prefix("tidelog-dev-cluster-").tempdir().unwrap();
        let listen = SocketAddr::new(loopback::fresh().ip(), 9092);
        let process = launch(home.path(), listen, 1);
        let cluster = Self { process, home, listen, starts: 1 };
        cluster.ready_line();
        cluster
    }

    fn start_again(&mut self) {
        self.starts += 1;
        self.process = launch(self.home.path(), self.listen, self.starts);
        self.ready_line();
    }

    /// The one line that it prints.
    fn ready_line(&self) -> String {
        wait_for("the cluster to be ready", || {
            let out = std::fs::read_to_string(self.home.path().join(format!("out-{}", self.starts))).unwrap();
            out.lines().find(|line| line.contains("are ready")).map(str::to_string)
        })
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.home.path().join(format!("log-{}", self.starts))).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Processes that it said it started, the last of each broker.
    fn pids(&self) -> Vec<Pid> {
        (1..=3).map(|broker| self.pid(broker).expect("it was started")).collect()
    }

    fn pid(&self, broker: u32) -> Option<Pid> {
        let log = self.log();
        // What is written at this moment is no line yet.
        let whole = log.rsplit_once('\n')?.0;
        let begin = format!("broker-{broker} | started as process ");
        let pid = whole.lines().rev().find_map(|line| line.strip_prefix(&begin))?;
        Pid::from_raw(pid.parse().unwrap())
    }

    fn addresses(&self) -> String {
        let address = |port| SocketAddr::new(self.listen.ip(), port).to_string();
        [9092, 9093, 9094].map(address).join(",")
    }

    fn tidelog(&self, line: &str) -> Finished {
        CommandLine::of("tidelog").env("TIDELOG_SERVER", &self.addresses()).args(line.split_whitespace()).run()
    }

    fn settled(&self) -> Value {
        wait_for("a settled cluster", || {
            let status = self.tidelog("cluster status --output json");
            (status.code == Some(0)).then(|| serde_json::from_slice(&status.stdout).unwrap())
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process.0.id() as i32).unwrap(), signal).unwrap();
    }

    fn wait_until_gone(&self, pids: &[Pid]) {
        for pid in pids {
            wait_for(&format!("the end of process {pid:?}"), || test_kill_process(*pid).is_err().then_some(()));
        }
    }
}

impl Drop for DevCluster {
    /// Where the test fails, what it found may be that a broker is left over.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pid in self.log().lines().filter_map(|line| line.split_once("| started as process ")?.1.parse().ok()) {
                let own = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let home = self.home.path().as_os_str().as_encoded_bytes();
                // Its number may be another's by now.
                if let Some(pid) = Pid::from_raw(pid).filter(|_| own.windows(home.len()).any(|part| part == home)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}

fn launch(home: &Path, listen: SocketAddr, start: u32) -> Ended {
    let mut command = Command::new(binary("tidelog-broker"));
    without_settings(&mut command)
        .args(["--dev-cluster", "3", "--set", "disk_free_min_bytes=0", "--data"])
        .arg(home.join("data"))
        .args([format!("--listen={listen}"), format!("--admin-listen={}", SocketAddr::new(listen.ip(), 9640))])
        .stdin(Stdio::null())
        .stdout(File::create(home.join(format!("out-{start}"))).unwrap())
        .stderr(File::create(home.join(format!("log-{start}"))).unwrap());
    Ended(command.spawn().unwrap())
}

fn lines_file(folder: &Path) -> (PathBuf, String) {
    let text: String = (0..1_000).map(|line| format!("line {line}\n")).collect();
    let path = folder.join("lines");
    std::fs::write(&path, &text).unwrap();
    (path, text)
}

#[test]
fn a_killed_broker_is_told_of_and_started_again_and_nothing_is_lost() {
    let mut cluster = DevCluster::start();
    let ready = cluster.ready_line();
    assert!(ready.contains(&format!("tidelog --server {} cluster status", cluster.addresses())), "{ready}");
    let status = cluster.settled();
    assert_eq!(status["voters"].as_array().unwrap().len(), 3);
    let _ = cluster.tidelog("topics create logs --partitions 1 --config min.insync.replicas=2").expect_code(0);
    let (path, text) = lines_file(cluster.home.path());
    let sent =
        CommandLine::of("tidelog").env("TIDELOG_SERVER", &cluster.addresses()).args(["produce", "logs"]).stdin(&path);
    let _ = sent.run().expect_code(0);

    // The one that leads, so that it is seen to be another afterwards.
    let partitions = cluster.tidelog("partitions describe logs --output json").success();
    let partitions: Value = serde_json::from_slice(&partitions).unwrap();
    let led = partitions[0]["leader"].as_u64().unwrap();

    // Its log speaks of a loss only where there is one.
    let refused = cluster.tidelog("cluster elect --topic logs --partition 0 --unclean 1 --accept-loss").expect_code(1);
    assert!(refused.stderr.contains("leads it"), "{refused:?}");
    wait_for("word of the refusal", || {
        cluster.log().contains("an operator ordered an unclean election and was told no").then_some(())
    });
    assert!(!cluster.log().contains("unclean election by an operator's order"), "{}", cluster.log());

    let killed = cluster.pids()[led as usize - 1];
    kill_process(killed, Signal::KILL).unwrap();
    wait_for("word of it", || {
        cluster.log().contains(&format!("broker-{led} | ended (signal: 9 (SIGKILL)); starting it again")).then_some(())
    });
    let another = wait_for("another process for it", || {
        let another = cluster.pids()[led as usize - 1];
        (another != killed).then_some(another)
    });
    cluster.settled();
    let read = cluster.tidelog("consume logs --from beginning --until-end").expect_code(0);
    assert_eq!(read.text(), text, "all of it, in order");

    let pids = cluster.pids();
    assert!(pids.contains(&another));
    cluster.signal(Signal::TERM);
    assert!(cluster.process.wait("the end of the cluster").success(), "{}", cluster.log());
    cluster.wait_until_gone(&pids);
    assert!(!cluster.log().contains("has not ended within"), "{}", cluster.log());

    cluster.start_again();
    let status = cluster.settled();
    assert_eq!(status["brokers"].as_array().unwrap().len(), 3);
    let read = cluster.tidelog("consume logs --from beginning --until-end").expect_code(0);
    assert_eq!(read.text(), text, "what was there is there");
}

#[test]
fn a_seat_whose_data_are_gone_comes_back_with_its_vote() {
    let mut cluster = DevCluster::start();
    let voters = |status: &Value| status["voters"].as_array().unwrap().len();
    assert_eq!(voters(&cluster.settled()), 3);
    let incarnation = |status: &Value, broker: usize| status["brokers"][broker]["incarnation"].clone();
    // One that joined, and the one that founded the cluster.
    for broker in [2, 1] {
        let before = cluster.settled();
        let pid = cluster.pids()[broker - 1];
        // Stopped first: what is removed must not be in use.
        kill_process(pid, Signal::STOP).unwrap();
        std::fs::remove_dir_all(cluster.home.path().join(format!("data/broker-{broker}"))).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let after = wait_for("another life of the broker, with its vote", || {
            let status = cluster.settled();
            (incarnation(&status, broker - 1) != incarnation(&before, broker - 1) && voters(&status) == 3)
                .then_some(status)
        });
        assert_eq!(after["cluster_id"], before["cluster_id"]);
        assert!(cluster.log().contains("given up, and its vote with it"), "it never lost its vote");
    }
    cluster.signal(Signal::TERM);
    assert!(cluster.process.wait("the end of the cluster").success());
    // The founder's folder alone is gone at the next start of all.
    std::fs::remove_dir_all(cluster.home.path().join("data/broker-1")).unwrap();
    cluster.start_again();
    wait_for("all three, one cluster", || (voters(&cluster.settled()) == 3).then_some(()));
}

#[test]
fn no_broker_outlives_the_one_who_started_it() {
    let mut cluster = DevCluster::start();
    let pids = cluster.pids();
    for pid in &pids {
        test_kill_process(*pid).expect("it runs");
    }
    // One that cannot hear anything must go as well.
    kill_process(pids[1], Signal::STOP).unwrap();
    cluster.signal(Signal::KILL);
    cluster.process.wait("the end of the parent");
    cluster.wait_until_gone(&pids);
}

#[test]
fn a_cluster_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let run = |arguments: &[&str]| CommandLine::of("tidelog-broker").args(["--data", &data]).args(arguments).run();
    for (arguments, part) in [
        (&["--dev-cluster", "0"][..], "expected 1 to 9"),
        (&["--dev-cluster", "3", "--listen", "127.0.0.1:0"], "3 ports from that of listen on"),
        (&["--dev-cluster", "3", "--join", "127.0.0.1:1"], "cannot be used with"),
        (&["--dev-cluster", "3", "--set", "connections_max=0"], "connections_max"),
        (&["--dev-cluster", "3", "--set", "broker_id=2"], "a broker_id of its own"),
    ] {
        let refused = run(arguments).expect_code(2);
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was half done");
    let ip = loopback::fresh().ip();
    let (listen, admin) = (format!("--listen={ip}:9092"), format!("--admin-listen={ip}:9640"));
    for (port, key, broker) in
        [(9092, "listen", 1), (9093, "listen", 2), (9640, "admin_listen", 1), (9641, "admin_listen", 2)]
    {
        let _taken = TcpListener::bind((ip, port)).unwrap();
        let refused = run(&["--dev-cluster", "2", &listen, &admin]).expect_code(1);
        assert!(refused.stderr.contains(&port_sentence(broker, SocketAddr::new(ip, port), key)), "{refused:?}");
        assert!(!refused.stderr.contains("started as process"), "{refused:?}");
        assert!(!folder.path().join("data").exists(), "nothing was half done");
    }
}

#[test]
fn whoever_stopped_reading_what_is_said_changes_no_exit_code() {
    let mut command = Command::new(binary("tidelog-broker"));
    without_settings(&mut command).args(["--dev-cluster", "0"]).stdin(Stdio::null());
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    command.stdout(writing.try_clone().unwrap()).stderr(writing);
    let status = command.status().unwrap();
    assert_eq!(status.code(), Some(2), "{status}");
}

#[test]
fn brokers_that_were_made_with_other_ports_are_not_started() {
    let ip = loopback::fresh().ip();
    let first = DevCluster::start();
    let data = first.home.path().join("data").display().to_string();
    let listen = format!("--listen={ip}:9192");
    let refused = CommandLine::of("tidelog-broker")
        .args(["--data", &data, "--dev-cluster", "3", &listen, &format!("--admin-listen={ip}:9640")])
        .run()
        .expect_code(1);
    assert!(refused.stderr.contains(&format!("set listen={}", first.listen)), "{refused:?}");
    assert!(!refused.stderr.contains("started as process"), "{refused:?}");
}

fn port_sentence(broker: u32, address: SocketAddr, key: &str) -> String {
    format!(
        "tidelog-broker: broker {broker} cannot listen on {address}: Address already in use (os error 98); end what uses it, or set {key} to \
         another port; the brokers' ports count up from there"
    )
}

#[test]
fn a_second_cluster_on_the_same_ports_is_not_taken_for_the_first_and_can_have_them_after_it() {
    let mut first = DevCluster::start();
    let before = first.settled();
    let home = tempfile::Builder::new().prefix("tidelog-dev-cluster-").tempdir().unwrap();
    let mut second =
        DevCluster { process: launch(home.path(), first.listen, 1), home, listen: first.listen, starts: 1 };
    assert_eq!(second.process.wait("the end of the second").code(), Some(1), "{}", second.log());
    assert!(second.log().contains(&port_sentence(1, first.listen, "listen")), "{}", second.log());
    assert_eq!(std::fs::read(second.home.path().join("out-1")).unwrap(), b"", "it has nothing to say");
    assert!(!second.home.path().join("data").exists(), "it leaves no folder");
    assert_eq!(first.settled()["cluster_id"], before["cluster_id"]);
    first.signal(Signal::TERM);
    assert!(first.process.wait("the end of the first").success());
    second.start_again();
    assert_ne!(second.settled()["cluster_id"], before["cluster_id"], "a cluster of its own");
}

/// Ports are tried before anything is started; who takes one right after that must not be taken for one of the brokers.
#[test]
fn a_port_that_is_taken_while_the_cluster_starts_ends_the_whole() {
    // The first broker is stopped as soon as it is there, since the second is started once the first answers.
    let (mut cluster, taken) = (0..100)
        .find_map(|_| {
            let home = tempfile::Builder::new().prefix("tidelog-dev-cluster-").tempdir().unwrap();
            let listen = SocketAddr::new(loopback::fresh().ip(), 9092);
            let cluster = DevCluster { process: launch(home.path(), listen, 1), home, listen, starts: 1 };
            let first = wait_for("the first broker", || cluster.pid(1));
            kill_process(first, Signal::STOP).unwrap();
            let taken = TcpListener::bind((listen.ip(), 9093)).ok();
            kill_process(first, Signal::CONT).unwrap();
            taken.map(|taken| (cluster, taken))
        })
        .expect("the second broker was never too late");
    assert_eq!(cluster.process.wait("the end of the cluster").code(), Some(1), "{}", cluster.log());
    let log = cluster.log();
    assert!(log.contains("broker-2 | tidelog-broker: cannot listen on"), "{log}");
    assert!(log.contains(&port_sentence(2, taken.local_addr().unwrap(), "listen")), "{log}");
    assert!(!cluster.home.path().join("data/broker-2").exists(), "it leaves no folder");
    cluster.wait_until_gone(&[cluster.pid(1).unwrap()]);
    drop(taken);
    cluster.start_again();
}
