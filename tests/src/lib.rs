//! The harness of the end-to-end tests: the real gateway as a process of its own, clients and
//! origins on real sockets that say exactly which bytes went by, and the tools a user would use.
//!
//! It is synchronous on purpose: a test reads like a protocol trace, and every wait is a read or a
//! condition with a bound. It shares no code with the gateway: a codec that checks itself finds
//! nothing.
//!
//! Must not: sleep to synchronise, use a fixed port, or leave a process behind.
#![expect(clippy::panic, reason = "a harness fails the test that uses it")]

pub mod certificate;
pub mod client;
pub mod gateway;
pub mod haproxy;
pub mod http2;
pub mod message;
pub mod name_server;
pub mod named;
pub mod origin;
pub mod pebble;
pub mod process;
pub mod proxy_header;
pub mod redis;
pub mod responder;
pub mod tls;
pub mod tool;
pub mod wait;
pub mod websocket;
pub mod wire;

pub use client::Client;
pub use gateway::Gateway;
pub use message::{Fields, Request, Response};
pub use origin::Origin;
pub use wire::{Ending, Wire};
