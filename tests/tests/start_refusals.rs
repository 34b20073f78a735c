//! A broker that cannot start says why in one sentence, with what to do, and touches nothing.

use std::fs;
use std::net::TcpListener;

use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings, StartRefusal};

fn refused(settings: BrokerSettings) -> StartRefusal {
    settings.try_start().expect_err("this broker must not start")
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let first = BrokerProcess::start();
    let refusal = refused(BrokerSettings::new().data(first.data()));
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.sentence().contains("is in use by another process"), "{refusal:?}");
}

#[test]
fn a_taken_port_is_refused_before_the_folder_is_looked_at() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let refusal = refused(BrokerSettings::new().data(&data).listen(taken.local_addr().unwrap()));
    assert_eq!(refusal.code, Some(1));
    let sentence = refusal.sentence();
    assert!(sentence.contains("cannot listen on") && sentence.contains("set listen to another address"), "{sentence}");
    assert!(!data.exists());
}

#[test]
fn a_folder_of_a_newer_release_is_refused_and_left_alone() {
    let mut broker = BrokerProcess::start();
    assert!(broker.terminate().success());
    // Magic, version, length of the body, checksum of all but the magic and itself, body; big-endian.
    let path = broker.data().join("format");
    let format = fs::read(&path).unwrap();
    let (magic, length, body) = (&format[..4], &format[6..10], &format[14..]);
    let version = 9u16.to_be_bytes();
    let checksum = crc32c::crc32c(&[&version, length, body].concat()).to_be_bytes();
    let newer = [magic, &version, length, &checksum, body].concat();
    fs::write(&path, &newer).unwrap();
    let refusal = refused(BrokerSettings::new().data(broker.data()));
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.sentence().contains("newer release"), "{refusal:?}");
    assert_eq!(fs::read(&path).unwrap(), newer, "{refusal:?}");
}

#[test]
fn a_bad_setting_names_its_source_key_value_and_range() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    fs::write(&file, "conections_max = 5\n").unwrap();
    let config = file.to_string_lossy().into_owned();
    let cases = [
        (BrokerSettings::new().set("connections_max", "0"), "expected a number from 1 to 1000000"),
        (BrokerSettings::new().set("no_such_key", "1"), "unknown config key 'no_such_key'"),
        (BrokerSettings::new().env("TIDELOG_IDLE_TIMEOUT_MS", "soon"), "environment variable TIDELOG_IDLE_TIMEOUT_MS"),
        (BrokerSettings::new().arg("--config").arg(config), "did you mean 'connections_max'?"),
        (BrokerSettings::new().arg("--config").arg("/no/such/file"), "cannot read the config file /no/such/file"),
        (BrokerSettings::new().arg("--no-such-flag"), "unexpected argument '--no-such-flag'"),
    ];
    for (settings, expected) in cases {
        let refusal = refused(settings);
        assert_eq!(refusal.code, Some(2), "{refusal:?}");
        assert!(refusal.stderr.contains(expected), "{refusal:?}");
    }
}

#[test]
fn too_few_file_descriptors_are_refused() {
    let refusal = refused(BrokerSettings::new().under(["prlimit", "--nofile=64:64"]));
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.sentence().contains("this process may open 64 files only"), "{refusal:?}");
}
