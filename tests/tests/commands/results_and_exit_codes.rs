//! The commands as scripts see them: results on standard output, complaints on standard error, exit codes that tell cases apart.

use rustix::process::Signal;
use serde_json::{Value, json};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::input::{lines, lines_file};
use tidelog_tests::loopback;
use tidelog_tests::patience::wait_for;

/// For commands that need no broker.
const NOBODY: &str = "127.0.0.1:1";

fn tidelog(server: &str, line: &str) -> Finished {
    CommandLine::of("tidelog").env("TIDELOG_SERVER", server).args(line.split_whitespace()).run()
}

#[track_caller]
fn json(finished: Finished) -> Value {
    let out = finished.success();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn ping_waits_for_a_broker_that_starts_later() {
    // Taken for a moment to learn a free port.
    let address = std::net::TcpListener::bind(loopback::fresh()).unwrap().local_addr().unwrap();
    let server = address.to_string();
    let dead = tidelog(&server, "ping").expect_code(4);
    assert!(dead.stdout.is_empty() && dead.stderr.contains(&server), "{dead:?}");
    let _ = tidelog(&server, "ping --wait 300ms").expect_code(4);
    let waiting = {
        let server = server.clone();
        std::thread::spawn(move || tidelog(&server, "--output json ping --wait 60s"))
    };
    let _broker = BrokerSettings::new().listen(address).start();
    let answer = json(waiting.join().unwrap());
    assert_eq!((&answer["server"], &answer["broker_id"]), (&Value::from(server), &Value::from(1)));
}

#[test]
fn ping_waits_no_longer_for_a_broker_that_says_nothing() {
    let silent = std::net::TcpListener::bind(loopback::fresh()).unwrap();
    let said = tidelog(&silent.local_addr().unwrap().to_string(), "ping --wait 300ms").expect_code(4);
    assert!(said.stderr.contains("not done within 300 ms"), "{}", said.stderr);
}

#[test]
fn the_perf_tools_make_no_topic_for_a_command_line_that_is_wrong() {
    let broker = BrokerProcess::start();
    for (perf, wrong) in [
        ("perf-producer", "--batch-size 1"),
        ("perf-producer", "--acks none --idempotent true"),
        ("perf-producer", "--acks leader --transaction-records 10"),
        ("perf-producer", "--batches-in-flight 6 --transaction-records 10"),
        ("perf-producer", "--transactional-id x"),
        ("perf-consumer", "--create-topic --partitions 1 --consumers 2"),
    ] {
        let line = format!("--server {} --topic ghost --records 1 {wrong}", broker.server());
        let said = CommandLine::of(perf).args(line.split_whitespace()).run().expect_code(2);
        assert!(!said.stderr.contains("created"), "{wrong}: {}", said.stderr);
    }
    assert_eq!(json(tidelog(&broker.server(), "--output json topics list")), json!([]));
}

#[test]
fn ping_names_the_broker_that_answered() {
    let broker = BrokerProcess::start();
    let answer = json(tidelog(&format!("{NOBODY},{}", broker.server()), "--output json ping"));
    assert_eq!(answer["server"], Value::from(broker.server()));
}

#[test]
fn whoever_follows_a_topic_hears_that_its_broker_is_gone_and_that_it_is_back() {
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create orders").expect_code(0);
    let started = |binary: &str, line: &str, follows: &str| {
        let command = CommandLine::of(binary).env("TIDELOG_SERVER", &server).args(line.split_whitespace()).start();
        wait_for("the command to follow", || command.stderr_so_far().contains(follows).then_some(()));
        command
    };
    let patient = started("tidelog", "-v consume orders --from end", "waiting for new records");
    let impatient = [
        started("tidelog", "-v --timeout 3s consume orders --from end", "waiting for new records"),
        started("tidelog", "-v --timeout 3s consume orders --group readers", "joined group"),
        started(
            "perf-consumer",
            "-v --timeout 3s --topic orders --from end --records 1 --idle-timeout 10m",
            "following from the end",
        ),
    ];
    broker.kill();
    for command in impatient {
        let ended = command.finish().expect_code(4);
        assert!(ended.stderr.contains(&format!("lost {server}: no broker answered for 3.0 s")), "{ended:?}");
    }
    let heard = |news: &str| wait_for("the news", || patient.stderr_so_far().contains(news).then_some(()));
    heard(&format!("lost {server}: no broker answers"));
    broker.restart();
    heard(&format!("{server} answers again"));
    patient.signal(Signal::INT);
    let ended = patient.finish().expect_code(0);
    assert_eq!(ended.stderr.matches("lost ").count(), 1, "{ended:?}");
}

#[test]
fn a_load_that_nobody_takes_ends_with_the_first_record_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerSettings::new().data(folder.path()).start();
    let _ = tidelog(&broker.server(), "topics create full").expect_code(0);
    assert!(broker.terminate().success());
    // As on a full disk: what is sent is refused, and may be sent again.
    let broker = BrokerSettings::new().data(folder.path()).set("disk_free_min_bytes", "1099511627776").start();
    let server = broker.server();
    let load = |rate: &str| {
        let before = std::time::Instant::now();
        let ended = CommandLine::of("perf-producer")
            .args(["--server", &server, "--topic", "full", "--records", "1000000", "--throughput", rate])
            .args(["--delivery-timeout", "8s"])
            .run()
            .expect_code(4);
        assert!(ended.stderr.contains("StorageFull") && ended.stderr.contains("not acknowledged"), "{}", ended.stderr);
        let taken = before.elapsed().as_secs();
        assert!((7..15).contains(&taken), "one delivery timeout and not two: {taken} s at {rate}");
    };
    let load = &load;
    // Side by side: all that they do is wait. At the second rate all are due at once.
    std::thread::scope(|scope| {
        for rate in ["-1", "1000000000"] {
            scope.spawn(move || load(rate));
        }
    });
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create there --partitions 2").expect_code(0);
    let (long, missing) = ("n".repeat(250), folder.path().join("missing").display().to_string());
    let garbage = folder.path().join("00000000000000000000.log");
    std::fs::write(&garbage, [0x55; 500]).unwrap();
    let empty = folder.path().join("00000000000000000000.index");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display();
    let garbage = garbage.display();
    for (line, code, word) in [
        ("topics list".to_string(), 0, ""),
        ("topics create there".into(), 5, "exists"),
        ("topics create there --if-not-exists".into(), 0, ""),
        ("topics create other --dry-run".into(), 0, ""),
        ("topics describe other".into(), 3, "other"),
        ("topics create other --config retention.sm=1".into(), 1, "retention.ms"),
        ("topics create other --config retention.ms=soon".into(), 1, "retention.ms"),
        ("topics create other --partitions 0".into(), 2, "partitions"),
        ("topics create other --partitions 1000000".into(), 1, "partitions"),
        ("topics create other --replication-factor 3".into(), 1, "replica"),
        ("topics create a/b".into(), 2, "a/b"),
        ("topics create ../evil".into(), 2, "evil"),
        (format!("topics create {long}"), 2, "249"),
        ("topics add-partitions there --total 1".into(), 1, "partitions"),
        ("topics delete other".into(), 3, "other"),
        ("topics delete other --if-exists".into(), 0, ""),
        ("consume other --until-end".into(), 3, "topics create other"),
        ("consume there --partition 7 --until-end".into(), 3, "7"),
        ("consume there --from offset:99 --until-end".into(), 3, "99"),
        ("consume there --from nowhere".into(), 2, "nowhere"),
        (format!("produce other {missing}"), 3, "missing"),
        ("offsets other".into(), 3, "other"),
        ("records delete there --partition 0 --before 99".into(), 3, "99"),
        (format!("log dump {missing}"), 3, "missing"),
        (format!("log dump {garbage}"), 6, ""),
        (format!("log dump {empty}"), 6, ""),
        ("topics".into(), 2, "create"),
        ("topics create".into(), 2, "NAME"),
        ("consume there --unknown-flag".into(), 2, "--unknown-flag"),
        ("frobnicate".into(), 2, "frobnicate"),
        ("--server 127.0.0.1:99999 ping".into(), 2, "65535"),
        ("--timeout fast ping".into(), 2, "fast"),
        ("--timeout 0s ping".into(), 2, "the least is 1ms"),
        ("topics create __mine".into(), 2, "__mine"),
        ("consume there --from time:9999-12-31T23:59:59Z --until-end".into(), 0, ""),
        ("--output json consume there --until-end --format %v".into(), 2, "--output json"),
    ] {
        let finished = tidelog(&server, &line);
        assert_eq!(finished.code, Some(code), "tidelog {line}\n{}\n{}", finished.text(), finished.stderr);
        assert!(finished.stderr.contains(word), "tidelog {line}: no {word:?} in {}", finished.stderr);
        assert_eq!(finished.stderr.is_empty(), code == 0, "tidelog {line}: {}", finished.stderr);
    }
    let usage = tidelog(&server, "topics create").expect_code(2).stderr;
    assert!(!usage.contains("--server"), "what the environment says is no duty of the command line: {usage}");
    for binary in ["perf-producer", "perf-consumer", "tidelog", "tidelog-broker"] {
        let help = CommandLine::of(binary).args(["--help"]).run().expect_code(0);
        assert!(help.text().contains("Usage:") && help.stderr.is_empty());
        let _ = CommandLine::of(binary).args(["--version"]).run().expect_code(0);
        let wrong = CommandLine::of(binary).args(["--no-such-flag"]).run().expect_code(2);
        assert!(wrong.stdout.is_empty() && wrong.stderr.contains("--no-such-flag"), "{wrong:?}");
    }
}

#[test]
fn the_life_of_a_topic_in_json() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let run = |line: &str| json(tidelog(&server, &format!("--output json {line}")));
    let created = run("topics create orders --partitions 2 --durability written --config retention.ms=3600000");
    assert_eq!((&created["topic"], &created["partitions"]), (&"orders".into(), &2.into()));
    assert_eq!(run("topics list").as_array().unwrap().len(), 1);
    let value = |topic: &Value, key: &str| {
        let configs = topic["configs"].as_array().unwrap();
        configs.iter().find(|config| config["key"] == key).unwrap()["value"].clone()
    };
    let described = run("topics describe orders");
    assert_eq!(value(&described[0], "retention.ms"), "3600000");
    assert_eq!(value(&described[0], "durability"), "written");
    let _ = run("topics alter orders --set max.message.bytes=4096 --reset retention.ms");
    // The same spelling does it everywhere.
    for (spelling, name) in [("--config", "c1"), ("-c", "c2"), ("--set", "s1"), ("-s", "s2")] {
        let _ = run(&format!("topics create {name} {spelling} retention.ms=1000"));
        assert_eq!(value(&run(&format!("topics describe {name}"))[0], "retention.ms"), "1000", "{spelling}");
        let _ = run(&format!("topics alter {name} {spelling} retention.ms=2000"));
        assert_eq!(value(&run(&format!("topics describe {name}"))[0], "retention.ms"), "2000", "{spelling}");
        let _ = run(&format!("topics delete {name}"));
    }
    // All of it or nothing.
    let _ =
        tidelog(&server, "topics alter orders --set max.message.bytes=8192 --config durability=never").expect_code(1);
    let described = run("topics describe orders");
    assert_eq!(value(&described[0], "max.message.bytes"), "4096");
    assert_eq!(value(&described[0], "retention.ms"), "604800000");
    assert_eq!(run("topics add-partitions orders --total 5")["partitions"], 5);
    assert_eq!(run("topics describe orders")[0]["partitions"].as_array().unwrap().len(), 5);
    let _ = run("topics delete orders");
    assert_eq!(run("topics list"), Value::Array(Vec::new()));
    // The name is free again, and none of the old data is there.
    let _ = run("topics create orders");
    assert!(tidelog(&server, "consume orders --from beginning --until-end").success().is_empty());
}

#[test]
fn a_dumped_segment_shows_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs").success();
    let file = lines_file(folder.path());
    let _ = tidelog(&server, &format!("produce logs {} --compression lz4", file.display())).success();
    assert!(broker.terminate().success());

    let partition = broker.data().join("logs-0");
    let segment = partition.join("00000000000000000000.log");
    let dumped = tidelog(NOBODY, &format!("--output json log dump --records {}", segment.display()));
    let dumped = String::from_utf8(dumped.success()).unwrap();
    let mut values = Vec::new();
    for batch in dumped.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        for record in batch["records"].as_array().into_iter().flatten() {
            assert_eq!(record["offset"], values.len());
            values.push(record["value"].as_str().unwrap().to_string());
        }
    }
    let text = String::from_utf8(lines()).unwrap();
    assert!(values.iter().map(String::as_str).eq(text.lines()), "{} records, {:.500}", values.len(), dumped);
    for name in
        ["00000000000000000000.index", "00000000000000000000.timeindex", "checkpoint", "leader-epochs", "identity"]
    {
        let text = tidelog(NOBODY, &format!("log dump {}", partition.join(name).display())).success();
        assert!(!text.is_empty(), "{name}");
    }
    // A damaged byte is found where it is.
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, bytes).unwrap();
    let _ = tidelog(NOBODY, &format!("log dump {}", segment.display())).expect_code(6);
}

#[test]
fn the_load_generators_state_their_figures_in_one_json_object() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let run = |binary: &str, arguments: &str| {
        let command = CommandLine::of(binary).env("TIDELOG_SERVER", &server).args(["--json", "--topic", "perf"]);
        json(command.args(arguments.split_whitespace()).run())
    };
    let produced = run("perf-producer", "--records 5000 --record-size 200 --warmup 0");
    let consumed = run("perf-consumer", "--records 5000 --warmup 0");
    for figures in [&produced, &consumed] {
        assert_eq!(figures["records"], 5000, "{figures}");
        for key in ["bytes", "seconds", "records_per_second", "mb_per_second", "client_cpu_seconds", "broker_rss_bytes"]
        {
            assert!(figures[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {figures}");
        }
        assert!(figures["broker_cpu_seconds"].as_f64().is_some(), "{figures}");
        for key in ["p50", "p99", "p99_9", "p99_99", "max"] {
            assert!(figures["latency_ms"].get(key).is_some(), "{key}: {figures}");
        }
    }
    assert_eq!(produced["bytes"], 1_000_000);
}

#[test]
fn members_of_a_group_share_the_load_and_the_next_run_goes_on_where_they_stopped() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let run = |binary: &str, arguments: &str| {
        let command = CommandLine::of(binary).env("TIDELOG_SERVER", &server).args(["--json", "--topic", "perf"]);
        command.args(arguments.split_whitespace()).run()
    };
    let _ = json(run("perf-producer", "--partitions 6 --producers 6 --records 6000 --record-size 100 --warmup 0"));
    let first = json(run("perf-consumer", "--group readers --consumers 3 --records 3900 --warmup 100"));
    assert_eq!(
        (&first["records"], &first["group"]["members"], &first["group"]["lag"]),
        (&json!(3900), &json!(3), &json!(2000))
    );
    let group = &first["group"];
    assert!(group["partitions_given"].as_u64() >= Some(6) && group["spread_seconds"].as_f64() > Some(0.0), "{group}");
    assert_eq!((&group["group"], &group["partitions_lost"]), (&json!("readers"), &json!(0)));
    let second = run("perf-consumer", "--group readers --records 2001 --idle-timeout 2s").expect_code(4);
    assert!(second.stderr.contains("1 of 2,001 records did not come"), "the group had read the others: {second:?}");
    let text =
        CommandLine::of("perf-consumer").env("TIDELOG_SERVER", &server).args(["--topic", "perf", "--group", "others"]);
    let text = text.args(["--consumers", "8", "--records", "6000"]).run().expect_code(0).text();
    assert!(text.contains("others of 8 members") && text.contains("0 records of lag"), "{text}");
}

#[test]
fn with_json_a_failure_is_one_object_on_standard_error_and_a_result_stands_only_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    let server = broker.server();
    let missing = folder.path().join("missing").display().to_string();
    for (line, code) in [
        ("--output json topics delete nope".to_string(), 3),
        ("--output json topics describe nope".into(), 3),
        ("--output json consume nope --until-end".into(), 3),
        ("--output json offsets nope".into(), 3),
        (format!("--output json log dump {missing}"), 3),
        ("--output json --server 127.0.0.1:1 ping".into(), 4),
    ] {
        let failed = tidelog(&server, &line).expect_code(code);
        assert!(failed.stdout.is_empty(), "{line}: {failed:?}");
        let told: Value =
            serde_json::from_str(&failed.stderr).unwrap_or_else(|error| panic!("{line}: {error}: {failed:?}"));
        assert_eq!(told["error"]["exit_code"], code, "{line}");
        assert!(told["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}: {told}");
    }
    let _ = tidelog(&server, "topics create there").success();
    let half = tidelog(&server, "--output json topics delete there nope other").expect_code(3);
    let done: Value = serde_json::from_slice(&half.stdout).unwrap();
    assert_eq!(done, serde_json::json!([{"topic": "there", "deleted": true}]), "what was done is said");
    assert!(half.stderr.contains("nope"), "{half:?}");
}

#[test]
fn reading_a_topic_that_is_not_there_does_not_create_it() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let consumer = |line: &str| {
        CommandLine::of("perf-consumer").env("TIDELOG_SERVER", &server).args(line.split_whitespace()).run()
    };
    let refused = consumer("--topic nope --records 1").expect_code(3);
    assert!(refused.stderr.contains("there is no topic 'nope'"), "{refused:?}");
    let told = consumer("--topic nope --records 1 --json").expect_code(3);
    assert_eq!(serde_json::from_str::<Value>(&told.stderr).unwrap()["error"]["exit_code"], 3);
    let _ = tidelog(&server, "topics describe nope").expect_code(3);
    // Who waits for a producer to come says so.
    let _ = consumer("--topic nope --records 1 --create-topic --from end --idle-timeout 100ms");
    let _ = tidelog(&server, "topics describe nope").success();
}

#[test]
fn a_run_of_which_nothing_was_measured_prints_why_and_no_zeros() {
    let broker = BrokerProcess::start();
    for format in ["", "--json"] {
        let line = format!("--topic perf --records 10 --record-size 2000000 {format}");
        let perf = CommandLine::of("perf-producer").env("TIDELOG_SERVER", &broker.server());
        let failed = perf.args(line.split_whitespace()).run().expect_code(1);
        assert!(failed.stdout.is_empty(), "{failed:?}");
        assert!(failed.stderr.contains("2000074") && failed.stderr.contains("max.message.bytes"), "{failed:?}");
    }
}

#[test]
fn a_group_goes_on_where_it_stopped_and_dead_letters_are_listed_and_sent_back() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create orders --partitions 3").expect_code(0);
    let folder = tempfile::tempdir().unwrap();
    let produce = |from: usize, to: usize| {
        let file = folder.path().join("lines");
        std::fs::write(&file, (from..to).map(|n| format!("v{n:04}\n")).collect::<String>()).unwrap();
        let _ = tidelog(&server, &format!("produce orders {}", file.display())).expect_code(0);
    };
    let consumed = |line: &str| {
        let out = String::from_utf8(tidelog(&server, line).success()).unwrap();
        let mut values: Vec<String> = out.lines().map(Into::into).collect();
        values.sort();
        values
    };
    let expected = |from: usize, to: usize| (from..to).map(|n| format!("v{n:04}")).collect::<Vec<_>>();
    produce(0, 300);
    assert_eq!(consumed("consume orders --group printers --until-end"), expected(0, 300));
    produce(300, 400);
    let some = consumed("consume orders --group printers --max 40");
    assert_eq!(some.len(), 40);
    let rest = consumed("consume orders --group printers --until-end");
    let mut all = [some, rest].concat();
    all.sort();
    assert_eq!(all, expected(300, 400), "each once, by whichever of the two");
    let lag = json(tidelog(&server, "--output json groups lag printers"));
    assert!(lag.to_string().contains("\"lag\":0"), "{lag}");

    let none = tidelog(&server, "dead-letters list orders").expect_code(0);
    assert_eq!(none.text(), "there are no dead letters of 'orders'\n");
    let none = tidelog(&server, "dead-letters list nothing").expect_code(3);
    assert!(none.stderr.contains("there is no topic 'nothing'"), "{none:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use tidelog_client::group::{RetryPolicy, RunOptions};
        let client = tidelog_client::Client::connect(&server).await.unwrap();
        let consumer = client.group("billing").topics(["orders"]).start(tidelog_client::Start::Beginning);
        let options = RunOptions::new(4).retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
        let stop = async {
            let dead = client.admin().dead_letters("orders");
            tidelog_tests::patience::wait_until("a dead letter", async || {
                dead.list(&tidelog_client::group::RedriveFilter::default(), 10).await.ok().filter(|all| !all.is_empty())
            })
            .await;
        };
        let handler = |record: tidelog_client::ConsumerRecord| async move {
            if record.value.as_deref() == Some(b"v0007") { Err("seven is\tout of 'stock'") } else { Ok(()) }
        };
        consumer.build().await.unwrap().run_with(options, stop, handler).await.unwrap();
    });
    let listed = json(tidelog(&server, "--output json dead-letters list orders --group billing"));
    let letter = &listed[0];
    assert_eq!(
        (&letter["cause"], &letter["value"], &letter["redriven"]),
        (&"seven is\tout of 'stock'".into(), &"v0007".into(), &false.into())
    );
    assert!(tidelog(&server, "dead-letters list orders").success().windows(5).any(|text| text == b"stock"));
    // What is printed can be given back, and is what is meant.
    let text = tidelog(&server, "dead-letters list orders").text();
    assert!(text.contains(r"seven is\tout of 'stock'"), "{text}");
    for (cause, found) in [("'stock'", 1), (r"is\tout", 1), (r"is\nout", 0), (r"is\\tout", 0)] {
        let listed = json(tidelog(&server, &format!("--output json dead-letters list orders --cause {cause}")));
        assert_eq!(listed.as_array().unwrap().len(), found, "{cause}");
    }
    let sent = json(tidelog(&server, "--output json dead-letters redrive orders"));
    assert_eq!((&sent["sent"], &sent["passed"]), (&1.into(), &0.into()));
    assert_eq!(consumed("consume orders --group printers --until-end"), ["v0007"]);
    let again = json(tidelog(&server, "--output json dead-letters redrive orders"));
    assert_eq!((&again["sent"], &again["already"]), (&0.into(), &1.into()));
    // Whatever the filter: what was sent back is not sent again, and is shown as such.
    let again = json(tidelog(&server, "--output json dead-letters redrive orders --cause is\\tout"));
    assert_eq!((&again["sent"], &again["already"]), (&0.into(), &1.into()));
    assert_eq!(json(tidelog(&server, "--output json dead-letters list orders"))[0]["redriven"], true);
}
