//! End-to-end tests: the real gateway, real sockets, real origins. One binary, one module per
//! behaviour; a test's name says which promise it keeps.
//!
//! Must not: depend on another test, a fixed port, or time passing.

#![expect(clippy::panic, reason = "a test says what went wrong by panicking")]

mod fixture;

mod acme;
mod balancing;
mod bodies;
mod certificates;
mod command_line;
mod deadlines;
mod differential;
mod forwarding;
mod harness;
mod http2;
mod observation;
mod origins;
mod overload;
mod policy;
mod proxy_protocol;
mod reload;
mod responses;
mod routing;
mod security;
mod service_manager;
mod shutdown;
mod streams;
mod tunnels;
mod upstream_tls;
