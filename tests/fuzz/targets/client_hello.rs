//! The first words of a TLS client.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::client_hello(bytes));
