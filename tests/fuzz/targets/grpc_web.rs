//! The body of a call of gRPC-Web.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardea_fuzz::grpc_web(bytes));
