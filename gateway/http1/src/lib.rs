//! HTTP/1.0 and HTTP/1.1, bytes in and messages out: the codec on both sides of the gateway.
//!
//! Its place in the life of a request: after TLS and before routing on the way in, after the
//! upstream's bytes and before the client's on the way back. It must not do IO, must not wait, and
//! must not know of routes, policies or status pages: it says what a message is, or exactly why the
//! bytes are not one.
//!
//! # Reading a message
//!
//! ```
//! use cardea_http1::{Framing, HeadScan, Limits, RequestHead};
//!
//! let limits = Limits::default();
//! let mut head = RequestHead::default(); // kept and reused: warm, it does not allocate
//! let mut scan = HeadScan::request();
//!
//! let buffer = b"GET /hinge?open=1 HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! assert_eq!(head.receive(&mut scan, &buffer[..20], &limits)?, None); // read more
//! let span = head.receive(&mut scan, buffer, &limits)?.expect("the head is complete");
//! let bytes = span.of(buffer); // every other span counts from here
//! assert_eq!(head.target.path.of(bytes), b"/hinge");
//! assert_eq!(head.host.of(bytes), b"example.com");
//! assert_eq!(head.framing, Framing::None);
//! # Ok::<(), cardea_http1::HeadError>(())
//! ```
//!
//! [`ChunkedDecoder`] then walks a chunked body without copying it, and [`write`](mod@write) serialises what is
//! sent on.
//!
//! # Strictness
//!
//! The codec refuses whatever two parsers could read as two different messages, and says where.
//! The choices that the RFCs leave open are written down beside the code that makes them: request
//! targets in [`Target`], authorities in [`Authority`], framing in [`Framing`], `Connection` in
//! [`Nominated`], chunk extensions and trailers in [`ChunkedDecoder`].
//!
//! The verdict on a sequence of bytes never depends on how they were split into reads.

mod class;
mod error;
mod known;
mod limits;
mod span;

mod scan;

mod authority;
mod field;
mod framing;
mod target;

mod request;
mod response;

mod chunked;
pub mod write;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod properties;

pub use authority::{Authority, parse_authority};
pub use chunked::{ChunkedDecoder, Step};
pub use error::{ChunkError, ChunkFault, ErrorKind, HeadError, HeadFault};
pub use field::{Nominated, Upgrade, parse_trailers};
pub use framing::{Framing, parse_content_length, parse_transfer_encoding};
pub use known::Known;
pub use limits::{Limits, Underscores};
pub use request::{Method, RequestHead, Version};
pub use response::ResponseHead;
pub use scan::HeadScan;
pub use span::{Field, Span};
pub use target::{Form, Scheme, Target};
