//! All the bytes of a connection, from a client and from an origin.
#![no_main]

use cardea_fuzz::{Side, byte_stream};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    byte_stream(bytes, Side::Client);
    byte_stream(bytes, Side::Origin);
});
