//! All the bytes of an HTTP/2 connection from an origin, in answer to a few requests.
#![no_main]

use cardea_fuzz::{Http2Role, http2};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http2(bytes, Http2Role::Client));
