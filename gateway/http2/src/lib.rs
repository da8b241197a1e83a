//! HTTP/2 (RFC 9113), bytes in and messages out: the codec of either end of a connection.
//!
//! Its place in the life of a request: after TLS and before routing on the way in, after the
//! upstream's bytes and before the client's on the way back, beside the codec of HTTP/1. It must not
//! do IO, read a clock, wait, or know of routes, policies or status pages.
//!
//! ```
//! use cardea_http2::{Connection, Event, Limits, Role};
//!
//! let mut client = Connection::new(Role::Client, Limits::default());
//! let mut server = Connection::new(Role::Server, Limits::default());
//! let stream = client.open().expect("the first stream");
//! client.send_head(stream, true, |head| {
//!     head.field(b":method", b"GET");
//!     head.field(b":scheme", b"https");
//!     head.field(b":authority", b"example.com");
//!     head.field(b":path", b"/hinge");
//! });
//! let mut text = Vec::new();
//! let (mut at, mut event) = server.receive(&client.out, 0, &mut text)?;
//! while !matches!(event, None | Some(Event::Head { .. })) {
//!     let (taken, next) = server.receive(&client.out[at..], 0, &mut text)?;
//!     (at, event) = (at + taken, next);
//! }
//! assert_eq!(text, b"GET /hinge HTTP/1.1\r\nhost: example.com\r\n\r\n");
//! # Ok::<(), cardea_http2::Fault>(())
//! ```

mod budget;
mod error;
mod frame;
mod limits;
mod stream;

mod hpack;
mod message;

mod connection;

pub use connection::{Connection, Event, HeadWriter, Role};
pub use error::{ErrorCode, Fault};
pub use frame::PREFACE;
pub use hpack::HpackError;
pub use limits::Limits;
pub use message::{MessageFault, Verdict};
