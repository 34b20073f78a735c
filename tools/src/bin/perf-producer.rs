//! The `perf-producer` binary.
fn main() {}
