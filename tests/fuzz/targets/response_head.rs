//! The head of a response.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::response_head(bytes));
