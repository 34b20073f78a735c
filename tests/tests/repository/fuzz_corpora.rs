//! The kept corpora of the fuzz targets, through the same checks, on a stable compiler. Knows nothing of the fuzzer.
//!
//! `UPDATE_SEEDS=1` adds the seeds to the corpora, where a target or a form of input is new.

#[path = "../../fuzz/src/lib.rs"]
mod checks;

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use checks::TARGETS;

/// All corpora together: they are for finding the way, not for keeping.
const BYTES_MAX: u64 = 700 << 10;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(corpus(target)).unwrap_or_else(|error| panic!("corpus of {target}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(target: &str) {
    let (_, check) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    assert!(inputs.len() >= 5, "the corpus of {target} is lost");
    for path in inputs {
        let input = fs::read(&path).unwrap();
        assert!(catch_unwind(|| check(&input)).is_ok(), "{} fails; see above", path.display());
    }
}

#[test]
fn frames_hold() {
    replay("frame");
}

#[test]
fn messages_hold() {
    replay("messages");
}

#[test]
fn kafka_holds() {
    replay("kafka");
}

#[test]
fn batches_hold() {
    replay("batches");
}

#[test]
fn decompression_holds() {
    replay("decompression");
}

#[test]
fn recovery_holds() {
    replay("recovery");
}

#[test]
fn seeds_hold_and_reach_every_target() {
    let seeds = checks::seeds::all();
    for (target, check) in TARGETS {
        let own = seeds.iter().filter(|(name, _)| *name == target);
        assert!(own.clone().count() >= 5, "{target}");
        for (index, (_, seed)) in own.enumerate() {
            check(seed);
            if std::env::var_os("UPDATE_SEEDS").is_some() {
                fs::create_dir_all(corpus(target)).unwrap();
                fs::write(corpus(target).join(format!("seed-{index:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn every_target_is_listed_and_replayed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect::<Vec<_>>(), names);
}

#[test]
fn corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(|(name, _)| inputs(name)).map(|path| fs::metadata(path).unwrap().len());
    let total: u64 = sizes.sum();
    assert!(total <= BYTES_MAX, "{total} bytes: minimise them with tests/fuzz/run");
}

#[test]
fn a_broken_promise_is_noticed() {
    // A check that refuses everything silently would pass any corpus: these inputs must reach the far side.
    let seeds = checks::seeds::all();
    let batch = seeds.iter().find(|(name, seed)| *name == "batches" && seed[0] == 0).unwrap();
    let valid = tidelog_protocol::records::validate_produce(
        bytes::Bytes::copy_from_slice(&batch.1[1..]),
        tidelog_protocol::records::ProduceLimits::default(),
    );
    assert_eq!(valid.unwrap().records(), 4);
}
