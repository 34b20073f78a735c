//! The `perf-consumer` binary.
fn main() {}
