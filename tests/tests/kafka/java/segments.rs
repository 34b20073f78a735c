//! `kafka-dump-log` over what the broker wrote: segments, offset and time indexes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::command::Finished;
use tidelog_tests::input::{lines, lines_file};
use tidelog_tests::kafka_java::program;
use tidelog_tests::requirements::{Need, requires};

use super::native;

fn dump(files: &[PathBuf], arguments: &[&str]) -> Finished {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    program("org.apache.kafka.tools.DumpLogSegments").args(arguments).args(["--files", &files.join(",")]).run()
}

/// What the program prints of files that it has nothing to say against. That a segment which does not begin at offset 0 follows on nothing is
/// no complaint, though it looks like one.
#[track_caller]
fn dumped(files: &[PathBuf], arguments: &[&str]) -> String {
    let finished = dump(files, arguments);
    let begins = |line: &str| {
        let first = line.strip_prefix("  -1 is followed by ").map(|offset| format!("{offset:0>20}"));
        first.is_some_and(|first| files.iter().any(|file| *file.file_stem().unwrap() == *first))
    };
    let complaints: Vec<_> = finished
        .stderr
        .lines()
        .filter(|line| !line.starts_with("Non-consecutive offsets in ") && !begins(line))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    String::from_utf8(finished.success()).unwrap()
}

/// The files of a partition with this ending, by offset.
fn files(partition: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

/// The number behind `name: ` in a line.
fn number(line: &str, name: &str) -> u64 {
    let rest = line.split_once(&format!("{name}: ")).unwrap_or_else(|| panic!("no {name} in {line}")).1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn kafka_dump_log_reads_the_segments_and_indexes_of_the_broker() {
    if !requires("kafka_dump_log_reads_the_segments_and_indexes_of_the_broker", &[Need::KafkaJava]) {
        return;
    }
    let mut broker = BrokerSettings::new().start();
    let folder = tempfile::tempdir().unwrap();
    let input = lines_file(folder.path());
    let input = input.to_str().unwrap();
    let _ = native(
        &broker,
        &["topics", "create", "logs", "--config", "segment.bytes=1048576", "--config", "max.message.bytes=262144"],
    );
    let mut codecs = BTreeSet::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        codecs.insert(codec);
        let _ = native(&broker, &["produce", "logs", input, "--batch-size", "16KiB", "--compression", codec]);
    }
    let _ = native(&broker, &["produce", "logs", input, "--transactional-id", "import-1"]);
    let partition = broker.data().join("logs-0");
    // The last segment is longer than what is in it as long as the broker runs: the program prints all, and complains of what comes then.
    let running = dump(&files(&partition, "log"), &["--deep-iteration", "--print-data-log"]).expect_code(1);
    let all = String::from_utf8(lines()).unwrap().lines().count() * 6;
    assert_eq!(running.text().matches(" payload: ").count(), all);
    let complaint = "CorruptRecordException: Found record size 0 smaller than minimum record overhead";
    assert!(running.stderr.contains(complaint), "{}", running.stderr);
    assert!(broker.terminate().success());

    let logs = files(&partition, "log");
    assert!(logs.len() > 1, "{logs:?}");
    let told = dumped(&logs, &["--deep-iteration", "--print-data-log"]);
    let (records, batches): (Vec<_>, Vec<_>) =
        told.lines().filter(|line| line.contains("ffset: ")).partition(|line| line.starts_with("| offset"));
    let payloads: Vec<&str> = records.iter().filter_map(|line| Some(line.split_once(" payload: ")?.1)).collect();
    let lines = String::from_utf8(lines()).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(payloads == lines.repeat(6), "{} records of {}", payloads.len(), lines.len() * 6);
    assert!(batches.iter().all(|batch| !batch.starts_with("baseOffset") || batch.contains("isvalid: true")));
    for codec in codecs {
        assert!(batches.iter().any(|batch| batch.contains(&format!("compresscodec: {codec}"))), "{codec}");
    }
    let marker = records.iter().filter(|line| line.contains("endTxnMarker: COMMIT")).count();
    assert_eq!(marker, 1, "one transaction, one marker");

    // The program looks every entry up in the segment, and says where they differ.
    for ending in ["index", "timeindex"] {
        let indexes = files(&partition, ending);
        assert!(indexes.len() > 1, "{indexes:?}");
        let told = dumped(&indexes, &[]);
        let other = told.lines().find(|line| !line.starts_with("Dumping ") && !line.contains("offset: "));
        assert_eq!(other, None, "{told}");
        assert!(told.lines().filter(|line| line.contains("offset: ")).count() > 20, "{told}");
        assert!(dumped(&indexes, &["--index-sanity-check"]).matches(" passed sanity check.").count() == indexes.len());
    }
    let sparse: BTreeSet<u64> = dumped(&files(&partition, "index"), &[])
        .lines()
        .filter(|line| line.starts_with("offset: "))
        .map(|line| number(line, "offset"))
        .collect();
    let ends: BTreeSet<u64> = batches
        .iter()
        .filter(|batch| batch.starts_with("baseOffset"))
        .map(|batch| number(batch, "lastOffset"))
        .collect();
    assert!(sparse.is_subset(&ends), "entries are of batches: {sparse:?}");

    // Its look can fail.
    let [index, ..] = &files(&partition, "index")[..] else { panic!("no index in {}", partition.display()) };
    let mut bytes = std::fs::read(index).unwrap();
    bytes[3] ^= 1;
    std::fs::write(index, bytes).unwrap();
    let complaint = dump(std::slice::from_ref(index), &[]).stderr;
    assert!(complaint.contains("Mismatches in"), "{complaint}");
}
