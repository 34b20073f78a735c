//! kcat, unmodified and at its defaults, against a real broker.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tidelog_client::{Client, Record};
use tidelog_protocol::records::Batches;
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::CommandLine;
use tidelog_tests::patience::wait_for;
use tidelog_tests::requirements::{Need, requires};

/// Runs kcat to its end, with this as its input.
fn kcat(broker: &BrokerProcess, arguments: &[&str], input: &str) -> String {
    // It ends by itself; where it would not, this does.
    let mut child = Command::new("timeout")
        .args(["60", "kcat", "-b", &broker.server()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "kcat {arguments:?}: {}\n{errors}\n{told}", output.status);
    told
}

#[test]
fn kcat_writes_and_reads_with_keys_headers_and_offsets() {
    if !requires("kcat_writes_and_reads_with_keys_headers_and_offsets", &[Need::Kcat]) {
        return;
    }
    let broker = BrokerProcess::start();
    kcat(&broker, &["-P", "-t", "logs", "-K:", "-H", "from=kcat"], "k1:one\nk2:two\nk3:\n");
    let read = kcat(&broker, &["-C", "-t", "logs", "-e", "-q", "-f", "%p %o %k=%s %h\n"], "");
    assert_eq!(read, "0 0 k1=one from=kcat\n0 1 k2=two from=kcat\n0 2 k3= from=kcat\n");
    let last = kcat(&broker, &["-C", "-t", "logs", "-o", "-1", "-e", "-q", "-f", "%k\n"], "");
    assert_eq!(last, "k3\n");
    for (time, offset) in [("-1", 3), ("-2", 0), ("0", 0)] {
        let found = kcat(&broker, &["-Q", "-t", &format!("logs:0:{time}")], "");
        assert_eq!(found, format!("logs [0] offset {offset}\n"), "at {time}");
    }
    let listed = kcat(&broker, &["-L"], "");
    assert!(listed.contains("topic \"logs\" with 1 partitions"), "{listed}");
    assert!(listed.contains(&format!("broker 1 at {} (controller)", broker.server())), "{listed}");
}

#[test]
fn kcat_reads_back_what_it_wrote_in_every_compression() {
    if !requires("kcat_reads_back_what_it_wrote_in_every_compression", &[Need::Kcat]) {
        return;
    }
    let broker = BrokerProcess::start();
    let mut lines = String::new();
    for line in 0..20_000 {
        writeln!(lines, "line {line} of what is written and read").unwrap();
    }
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for idempotent in ["true", "false"] {
            let topic = format!("{codec}-{idempotent}");
            let setting = format!("enable.idempotence={idempotent}");
            kcat(&broker, &["-P", "-t", &topic, "-z", codec, "-X", &setting], &lines);
            let read = kcat(&broker, &["-C", "-t", &topic, "-e", "-q", "-X", "check.crcs=true"], "");
            assert!(read == lines, "{topic}: {} of {} bytes came back", read.len(), lines.len());
            // Bytes pass through as they came. What does not become smaller comes as it is.
            let logs =
                std::fs::read_dir(broker.data().join(format!("{topic}-0"))).unwrap().map(|entry| entry.unwrap().path());
            let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
            let bytes: Vec<u8> = logs.flat_map(|path| std::fs::read(path).unwrap()).collect();
            let batches = Batches::new(&bytes).map_while(Result::ok);
            let codecs: BTreeSet<_> = batches.map(|batch| batch.header().attributes.compression().name()).collect();
            assert!(codecs.contains(codec), "{topic} is stored as {codecs:?}");
        }
    }
}

#[test]
fn kcat_without_acks_and_with_those_of_the_leader_writes_all() {
    if !requires("kcat_without_acks_and_with_those_of_the_leader_writes_all", &[Need::Kcat]) {
        return;
    }
    let broker = BrokerProcess::start();
    let lines: String = (0..5_000).map(|line| format!("{line}\n")).collect();
    for acks in ["0", "1"] {
        let (topic, setting) = (format!("acks-{acks}"), format!("acks={acks}"));
        kcat(&broker, &["-P", "-t", &topic, "-X", &setting], &lines);
        assert_eq!(kcat(&broker, &["-C", "-t", &topic, "-c", "5000", "-q"], ""), lines);
    }
}

/// A member of a group that prints what it reads into a file. It ends with this.
struct Member {
    child: Child,
    printed: PathBuf,
}

impl Member {
    fn start(broker: &BrokerProcess, group: &str, topic: &str, printed: PathBuf) -> Self {
        let child = Command::new("kcat")
            .args(["-b", &broker.server(), "-G", group, topic, "-q", "-u", "-f", "%p %o %s\n"])
            .args(["-X", "auto.offset.reset=earliest"])
            .stdout(File::create(&printed).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, printed }
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.printed).unwrap().lines().map(str::to_owned).collect()
    }

    /// Asks it to leave.
    fn leave(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_for("a member to leave", || self.child.try_wait().unwrap());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many partitions each member has, where the group is settled.
fn shares(broker: &BrokerProcess, group: &str) -> Option<Vec<usize>> {
    let shown = CommandLine::of("tidelog")
        .args(["--server", &broker.server(), "--output", "json", "groups", "describe", group])
        .run();
    let shown = serde_json::from_slice::<Value>(&shown.stdout).ok().filter(|shown| shown["state"] == "stable")?;
    let members = shown["members"].as_array()?.iter();
    Some(members.map(|member| member["owned"][0]["partitions"].as_array().map_or(0, Vec::len)).collect())
}

#[test]
fn kcat_shares_a_topic_in_a_group_and_goes_on_where_the_group_stopped() {
    if !requires("kcat_shares_a_topic_in_a_group_and_goes_on_where_the_group_stopped", &[Need::Kcat]) {
        return;
    }
    let mut broker = BrokerProcess::start();
    let made = ["--server", &broker.server(), "topics", "create", "work", "--partitions", "4"].map(String::from);
    let _ = CommandLine::of("tidelog").args(made).run().success();
    let produce = |broker: &BrokerProcess, name: &str| {
        for partition in 0..4 {
            let lines: String = (0..25).map(|line| format!("{name} {line}\n")).collect();
            kcat(broker, &["-P", "-t", "work", "-p", &partition.to_string()], &lines);
        }
    };
    produce(&broker, "first");
    let folder = tempfile::tempdir().unwrap();
    let mut one = Member::start(&broker, "workers", "work", folder.path().join("one"));
    wait_for("one to read all", || (one.lines().len() >= 100).then_some(()));
    let mut two = Member::start(&broker, "workers", "work", folder.path().join("two"));
    wait_for("a fair share", || (shares(&broker, "workers")? == [2, 2]).then_some(()));
    produce(&broker, "second");
    wait_for("both to read all", || (one.lines().len() + two.lines().len() >= 200).then_some(()));
    assert_eq!(two.lines().len(), 50, "what it has is half");
    two.leave();
    wait_for("the whole for who stays", || (shares(&broker, "workers")? == [4]).then_some(()));
    one.leave();
    let mut lines = [one.lines(), two.lines()].concat();
    assert_eq!(lines.len(), 200);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 200, "each once");

    broker.kill();
    broker.restart();
    produce(&broker, "third");
    let mut three = Member::start(&broker, "workers", "work", folder.path().join("three"));
    wait_for("the rest", || (three.lines().len() >= 100).then_some(()));
    three.leave();
    assert!(three.lines().iter().all(|line| line.contains("third")), "{:?}", three.lines());
    let lag = ["--server", &broker.server(), "--output", "json", "groups", "lag", "workers"].map(String::from);
    let lag: Value = serde_json::from_slice(&CommandLine::of("tidelog").args(lag).run().success()).unwrap();
    assert_eq!(lag["lag"], 0, "{lag}");
}

/// All that kcat is given is one transaction to it. It reads what is committed, unless it is told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn kcat_writes_within_a_transaction_and_reads_what_is_committed() {
    if !requires("kcat_writes_within_a_transaction_and_reads_what_is_committed", &[Need::Kcat]) {
        return;
    }
    let broker = BrokerProcess::start();
    let run = |arguments: &[&str], input: &str| tokio::task::block_in_place(|| kcat(&broker, arguments, input));
    let read = |isolation: &[&str]| run(&[&["-C", "-t", "paid", "-e", "-q", "-f", "%o=%s "], isolation].concat(), "");
    let uncommitted = ["-X", "isolation.level=read_uncommitted"];
    run(&["-P", "-t", "paid", "-X", "transactional.id=kcat"], "one\ntwo\n");
    let listed =
        CommandLine::of("tidelog").args(["--server", &broker.server(), "transactions", "list"]).run().success();
    assert!(String::from_utf8_lossy(&listed).contains("kcat"), "{listed:?}");
    // Behind the records stands the marker, with an offset of its own.
    assert_eq!(read(&[]), "0=one 1=two ");

    let client = Client::connect(&broker.server()).await.unwrap();
    let mut producer = client.transactional_producer("other").build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    let _delivery = transaction.send(Record::to("paid").value("undone")).await.unwrap();
    transaction.flush().await.unwrap();
    assert_eq!(read(&[]), "0=one 1=two ", "what is open");
    assert_eq!(read(&uncommitted), "0=one 1=two 3=undone ");
    transaction.abort().await.unwrap();
    run(&["-P", "-t", "paid", "-X", "transactional.id=kcat"], "three\n");
    wait_for("what comes behind the transaction that was undone", || {
        (read(&[]) == "0=one 1=two 5=three ").then_some(())
    });
    assert_eq!(read(&uncommitted), "0=one 1=two 3=undone 5=three ");
}
