//! Messages of Kafka's protocol: bytes from the fuzzer to the check of the same name in `src/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidelog_fuzz::kafka::check(input));
