//! The first bytes of a connection from a proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::proxy_header(bytes));
