//! A configuration document.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::configuration(bytes));
