//! The repository itself: its rules, and the kept inputs of the fuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, helpers included"
)]

mod fuzz_corpora;
mod tidy;
