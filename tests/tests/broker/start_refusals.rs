//! A broker that cannot start says why and what to do, in one sentence, and ends with an exit code that scripts can use.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use tidelog_tests::binaries::binary;
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings, StartRefusal};
use tidelog_tests::command::{CommandLine, without_settings};
use tidelog_tests::loopback;
use tidelog_tests::requirements::{Need, requires};

#[track_caller]
fn refused(settings: BrokerSettings) -> StartRefusal {
    match settings.try_start() {
        Ok(broker) => panic!("it started: {broker:?}"),
        Err(refusal) => refusal,
    }
}

/// Exit code and sentence: one line, in the name of the program, with these words in it.
#[track_caller]
fn assert_says(refusal: &StartRefusal, code: i32, words: &[&str]) {
    let sentence = refusal.sentence();
    assert_eq!(refusal.code, Some(code), "{sentence}");
    assert_eq!(sentence.lines().count(), 1, "not one sentence: {sentence}");
    assert!(sentence.starts_with("tidelog-broker: "), "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "no {word:?} in: {sentence}");
    }
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
}

#[test]
fn a_data_folder_in_use_is_named_and_left_alone() {
    let first = BrokerProcess::start();
    let refusal = refused(BrokerSettings::new().data(first.data()));
    assert_says(&refusal, 1, &["in use", first.data().to_str().unwrap()]);
    assert_eq!(first.http("/readyz").status, 200, "the first broker must not notice");
}

#[test]
fn a_data_folder_of_a_newer_release_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = BrokerSettings::new().data(&data).start();
    assert!(broker.terminate().success());
    let of_cluster = ["vote", "checkpoint", "identity"].map(|name| format!("__cluster_metadata-0/{name}"));
    let of_broker = ["format", "broker-id", "high-watermarks", "closed-cleanly"].map(String::from);
    for name in of_broker.into_iter().chain(of_cluster) {
        let path = data.join(&name);
        let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut later = kept.clone();
        // Magic, version, length, checksum of all but the magic: a whole file, only from the future.
        later[4..6].copy_from_slice(&99u16.to_be_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&later[4..10]), &later[14..]);
        later[10..14].copy_from_slice(&checksum.to_be_bytes());
        std::fs::write(&path, &later).unwrap();
        assert_says(&refused(BrokerSettings::new().data(&data)), 1, &["newer release", "99", &name]);
        assert_eq!(std::fs::read(&path).unwrap(), later, "{name}");
        assert!(data.join("closed-cleanly").exists(), "{name}: nothing is lost for the release that can read it");
        std::fs::write(&path, &kept).unwrap();
    }
    let mut broker = BrokerSettings::new().data(&data).start();
    assert_eq!(broker.log_lines("crash").len(), 0, "{}", broker.log_text());
    assert!(broker.terminate().success());
}

#[test]
fn a_data_folder_whose_format_cannot_be_trusted_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = BrokerSettings::new().data(&data).start();
    assert!(broker.terminate().success());
    std::fs::write(data.join("format"), b"garbage").unwrap();
    assert_says(&refused(BrokerSettings::new().data(&data)), 1, &["format", "restore"]);
    std::fs::remove_file(data.join("format")).unwrap();
    assert_says(&refused(BrokerSettings::new().data(&data)), 1, &["format"]);
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for data in [file.join("data"), file.clone()] {
        assert_says(&refused(BrokerSettings::new().data(data)), 1, &[file.to_str().unwrap(), "set data to a folder"]);
    }
}

#[test]
fn a_taken_port_is_named_and_the_data_folder_is_not_even_created() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(loopback::fresh()).unwrap();
    let address = taken.local_addr().unwrap();
    let data = folder.path().join("data");
    let refusal = refused(BrokerSettings::new().data(&data).listen(address));
    assert_says(&refusal, 1, &["listen", &address.to_string()]);
    let refusal = refused(BrokerSettings::new().data(&data).admin_listen(address));
    assert_says(&refusal, 1, &["admin_listen", &address.to_string()]);
    drop(taken);
    let refusal = refused(BrokerSettings::new().data(&data).listen(address).admin_listen(address));
    assert_says(&refusal, 1, &["listen and admin_listen are both", &address.to_string()]);
    assert!(!data.exists());
}

#[test]
fn a_bad_key_or_value_is_named_with_its_source_and_what_would_be_legal() {
    let folder = tempfile::tempdir().unwrap();
    let with_file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        BrokerSettings::new().arg("--config").arg(file)
    };
    let set = |key, value| BrokerSettings::new().set(key, value);
    for (settings, words) in [
        (set("conections_max", "5"), &["conections_max", "did you mean 'connections_max'"][..]),
        (set("connections_max", "0"), &["connections_max", "'0'", "from 1 to 1000000"]),
        (set("connections_max", "many"), &["connections_max", "'many'"]),
        (set("memory_budget_bytes", "1KiB"), &["memory_budget_bytes", "1048576"]),
        (set("log_format", "xml"), &["log_format", "text or json"]),
        (set("log_level", "loud=very=much"), &["log_level"]),
        (set("log_level", "informaton"), &["log_level", "'informaton'"]),
        (BrokerSettings::new().env("TIDELOG_LISTEN_PORT", "9"), &["environment variable TIDELOG_LISTEN_PORT"]),
        (BrokerSettings::new().env("TIDELOG_BROKER_ID", "-1"), &["environment variable TIDELOG_BROKER_ID", "'-1'"]),
        (with_file("value.toml", "connections_max = \"none\""), &["value.toml", "connections_max", "'none'"]),
        (with_file("table.toml", "[broker]\nconnections_max = 1"), &["table.toml", "'broker'"]),
    ] {
        let refusal = refused(settings);
        assert_says(&refusal, 2, words);
    }
    let refusal = refused(BrokerSettings::new().arg("--config").arg(folder.path().join("none.toml")));
    assert_says(&refusal, 2, &["none.toml"]);
    // TOML shows where it is wrong, on lines of their own.
    let refusal = refused(with_file("broken.toml", "connections_max = ["));
    assert_eq!(refusal.code, Some(2));
    assert!(refusal.stderr.contains("broken.toml") && refusal.stderr.contains("TOML"), "{}", refusal.stderr);
}

#[test]
fn unknown_flags_are_wrong_usage() {
    let refusal = refused(BrokerSettings::new().arg("--lissen=127.0.0.1:1"));
    assert_eq!(refusal.code, Some(2));
    assert!(refusal.stderr.contains("--lissen") && refusal.stderr.contains("--listen"), "{}", refusal.stderr);
    let refusal = refused(BrokerSettings::new().arg("--set").arg("no-equals-sign"));
    assert_eq!(refusal.code, Some(2));
    let refusal = refused(BrokerSettings::new().arg("stray"));
    assert_eq!(refusal.code, Some(2));
}

#[test]
fn too_few_file_descriptors_are_refused_with_what_to_raise() {
    if !requires("too_few_file_descriptors_are_refused_with_what_to_raise", &[Need::Prlimit]) {
        return;
    }
    let refusal = refused(BrokerSettings::new().under(["prlimit", "--nofile=64:64"]));
    assert_says(&refusal, 1, &["64 files", "ulimit -n"]);
    // A low soft limit is raised as far as the hard one goes.
    let broker = BrokerSettings::new().under(["prlimit", "--nofile=64:4096"]).start();
    assert_eq!(broker.http("/readyz").status, 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", broker.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
}

#[test]
fn the_printed_configuration_can_be_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let printed = CommandLine::of("tidelog-broker").args(["--set", "connections_max=77", "--print-config"]).run();
    let printed = String::from_utf8(printed.success()).unwrap();
    assert!(printed.contains("connections_max = 77"), "{printed}");
    let file = folder.path().join("tidelog.toml");
    std::fs::write(&file, &printed).unwrap();
    let again = CommandLine::of("tidelog-broker").args(["--print-config", "--config", file.to_str().unwrap()]).run();
    assert_eq!(String::from_utf8(again.success()).unwrap(), printed);
    let broker = BrokerSettings::new().arg("--config").arg(&file).start();
    assert_eq!(broker.http("/livez").status, 200);
}

#[test]
fn a_configuration_that_cannot_be_printed_is_an_error_and_no_panic() {
    let print = |out: Stdio| {
        let mut command = Command::new(binary("tidelog-broker"));
        command.arg("--print-config").stdout(out).stderr(Stdio::piped());
        without_settings(&mut command).spawn().unwrap().wait_with_output().unwrap()
    };
    let full = print(File::options().write(true).open("/dev/full").unwrap().into());
    let said = String::from_utf8(full.stderr).unwrap();
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.starts_with("tidelog-broker: cannot print") && said.lines().count() == 1, "{said}");
    // Somebody who reads a few lines and goes.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = print(writer.into());
    assert_eq!((closed.status.code(), closed.stderr.len()), (Some(0), 0));
}

#[test]
fn a_data_folder_of_another_broker_is_refused_and_keeps_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = BrokerSettings::new().data(&data).set("broker_id", "2").start();
    let create = ["--server", &broker.server(), "topics", "create", "kept"];
    drop(CommandLine::of("tidelog").args(create).run().success());
    assert!(broker.terminate().success());
    let refusal = refused(BrokerSettings::new().data(&data).set("broker_id", "3"));
    assert_says(&refusal, 1, &["belongs to broker 2", "broker_id"]);
    assert!(data.join("kept-0").is_dir());
    let again = BrokerSettings::new().data(&data).set("broker_id", "2").start();
    assert_eq!(again.http("/readyz").status, 200);
}
