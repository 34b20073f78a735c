//! The `tidelog-broker` binary.
fn main() {}
