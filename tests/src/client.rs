//! A client that writes what it is told and reads responses strictly.
//!
//! Must not: follow, retry or decode anything by itself.

use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use crate::message::{Response, parse_response};
use crate::tls;
use crate::wait::BOUND;
use crate::wire::{Broken, Ending, Stream, Wire};

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

/// A response that did not come whole.
#[derive(Debug)]
pub struct Partial {
    /// What came of it; none if its head did not.
    pub response: Option<Response>,
    /// What is wrong.
    pub broken: Broken,
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Client {
    /// Connects in plain text.
    ///
    /// # Panics
    /// If nobody listens there.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect_timeout(&address, BOUND)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self {
            wire: Wire::new(Stream::Plain(tcp)),
        }
    }

    /// On a connection that was begun by hand.
    pub fn over(stream: Stream) -> Self {
        Self {
            wire: Wire::new(stream),
        }
    }

    /// Connects over TLS, the handshake included.
    ///
    /// # Panics
    /// If the handshake fails.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect_tls(address, config, name)
            .unwrap_or_else(|error| panic!("TLS to {address} as {name}: {error}"))
    }

    /// As [`connect_tls`](Self::connect_tls), for handshakes that may be refused.
    ///
    /// # Errors
    /// Why the handshake failed.
    ///
    /// # Panics
    /// If nobody listens there.
    #[track_caller]
    pub fn try_connect_tls(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<Self> {
        let tcp = TcpStream::connect_timeout(&address, BOUND)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        let stream = tls::handshake(tcp, config, name)?;
        Ok(Self {
            wire: Wire::new(Stream::Client(Box::new(stream))),
        })
    }

    /// The connection itself.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// The TLS side of the connection.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn tls(&self) -> &rustls::ClientConnection {
        match self.wire.stream() {
            Stream::Client(tls) => &tls.conn,
            _ => panic!("this connection is plain"),
        }
    }

    /// Asks for a path and reads the response. The connection stays open if the gateway lets it.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.request("GET", host, path)
    }

    /// Sends a request without a body and reads the response.
    #[track_caller]
    pub fn request(&mut self, method: &str, host: &str, path: &str) -> Response {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response_to(method)
    }

    /// Sends bytes and reads the response to a GET.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    /// Reads the response to a GET, or to anything but a HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the final response to a request with `method`; interim ones are kept in it.
    ///
    /// # Panics
    /// If it does not come whole.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method)
            .unwrap_or_else(|partial| panic!("no whole response to {method}: {partial:?}"))
    }

    /// As [`response`](Self::response), for responses that may be cut.
    ///
    /// # Errors
    /// What came of it.
    pub fn try_response(&mut self) -> Result<Response, Box<Partial>> {
        self.try_response_to("GET")
    }

    /// As [`response_to`](Self::response_to), for responses that may be cut.
    ///
    /// # Errors
    /// What came of it.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Box<Partial>> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head(method, &mut interim)?;
            if response.0.status < 200 && response.0.status != 101 {
                interim.push(response.0);
                continue;
            }
            response.0.interim = interim;
            return self.body(response);
        }
    }

    fn head(
        &mut self,
        method: &str,
        interim: &mut [Response],
    ) -> Result<(Response, crate::message::Framing), Box<Partial>> {
        let partial = |broken| {
            Box::new(Partial {
                response: interim.first().cloned(),
                broken,
            })
        };
        let head = self.wire.take_through(b"\r\n\r\n");
        let head = head.map_err(|ending| partial(Broken::Ended(ending)))?;
        parse_response(&head, method).map_err(|fault| partial(Broken::Malformed(fault)))
    }

    fn body(
        &mut self,
        (mut response, framing): (Response, crate::message::Framing),
    ) -> Result<Response, Box<Partial>> {
        match self.wire.take_body(framing) {
            Ok(body) => {
                response.body = body.bytes;
                response.trailers = body.trailers;
                Ok(response)
            }
            Err((body, broken)) => {
                response.body = body.bytes;
                Err(Box::new(Partial {
                    response: Some(response),
                    broken,
                }))
            }
        }
    }

    /// Asserts that the gateway closes the connection in order and sends nothing more.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let (rest, ending) = self.take_rest();
        assert_eq!(
            (crate::message::latin1(&rest).as_str(), ending),
            ("", Ending::Eof),
            "expected nothing but the end of the connection"
        );
    }
}
