//! The head of a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::request_head(bytes));
