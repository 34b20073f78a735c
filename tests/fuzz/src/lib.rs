//! What the fuzz targets call and assert. Knows nothing of the fuzzer: an ordinary test compiles these files, too, and runs the
//! kept corpora through them.
//!
//! A check panics where a promise is broken; that the bytes are refused is never a finding.

pub mod batches;
pub mod decompression;
pub mod frame;
pub mod kafka;
pub mod mend;
pub mod messages;
pub mod recovery;
pub mod seeds;

/// A check: what to do with the bytes of one input.
pub type Check = fn(&[u8]);

/// Every target: its name, which is that of its folder under `corpus/`, and its check.
pub const TARGETS: [(&str, Check); 6] = [
    ("frame", frame::check),
    ("messages", messages::check),
    ("kafka", kafka::check),
    ("batches", batches::check),
    ("decompression", decompression::check),
    ("recovery", recovery::check),
];
