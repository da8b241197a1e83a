//! A chunked body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::chunked_body(bytes));
