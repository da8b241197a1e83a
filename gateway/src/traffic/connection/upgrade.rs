//! A request of HTTP/1.1 that has its connection go on in HTTP/2 (`Upgrade: h2c`, RFC 7540 section 3.2).
//! HTTP/2 has given that up since (RFC 9113 section 3.1), so a listener has to be told to take it. What is
//! not asked for exactly as it has to be is served as any request, and nothing of it is ever forwarded.
//!
//! Must not: take an upgrade over TLS, or of a request with a body, which would still be coming in the
//! words of HTTP/1.1.

use cardea_http1::{Field, Framing, Known, RequestHead, Upgrade};
use data_encoding::BASE64URL_NOPAD;

use super::head::HeadFacts;
use crate::traffic::buffer::Inbound;
use crate::traffic::exchange::Request;
use crate::traffic::headers::lists_token;

/// What tells the client that it may go on.
pub(super) const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";

/// A connection that turned out to speak HTTP/2.
#[derive(Debug, Default)]
pub struct Turned {
    /// What was received of it and not read: it begins with the client's preface.
    pub(super) received: Inbound,
    /// The request that asked for it, if one did.
    pub(super) first: Option<Box<First>>,
}

/// A request that becomes the first stream.
#[derive(Debug)]
pub(super) struct First {
    pub(super) request: Box<Request>,
    pub(super) facts: HeadFacts,
    /// The payload of the SETTINGS frame that the client would have sent.
    pub(super) settings: Vec<u8>,
}

/// The settings of a client whose request asks for HTTP/2; none if it does not, or not properly.
pub(super) fn settings(head: &RequestHead, bytes: &[u8]) -> Option<Vec<u8>> {
    let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
    if head.upgrade != Upgrade::Other || has_body {
        return None;
    }
    let values = |known: Known| {
        let fields = head.fields.iter().filter(move |field| field.known == known);
        fields.map(move |field: &Field| field.value.of(bytes))
    };
    let only = |known: Known| {
        let mut values = values(known);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    };
    let is_nominated = values(Known::Connection).any(|value| lists_token(value, b"http2-settings"));
    if !is_nominated || only(Known::Upgrade)? != b"h2c" {
        return None;
    }
    let settings = BASE64URL_NOPAD.decode(only(Known::Http2Settings)?).ok()?;
    settings.len().is_multiple_of(6).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &str) -> Option<Vec<u8>> {
        let text = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &cardea_http1::Limits::default())
            .expect("a head");
        settings(&head, text.as_bytes())
    }

    #[test]
    fn an_upgrade_is_asked_for_properly_or_not_at_all() {
        const ASKS: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n";
        let whole = format!("{ASKS}HTTP2-Settings: AAMAAABk\r\n");
        assert_eq!(found(&whole), Some(vec![0, 3, 0, 0, 0, 100]));
        assert_eq!(found(&format!("{ASKS}HTTP2-Settings:\r\n")), Some(vec![]));
        assert_eq!(
            found(&format!("{whole}Content-Length: 0\r\n")).map(|it| it.len()),
            Some(6)
        );
        for wrong in [
            String::new(),
            ASKS.to_owned(),
            format!("{whole}HTTP2-Settings: AAMAAABk\r\n"),
            format!("{ASKS}HTTP2-Settings: AAMAAABk=\r\n"),
            format!("{ASKS}HTTP2-Settings: AAMA\r\n"),
            format!("{ASKS}HTTP2-Settings: AAMAAAB!\r\n"),
            format!("{whole}Upgrade: h2c\r\n"),
            whole.replace("h2c", "h2c, websocket"),
            whole.replace("h2c", "h2"),
            whole.replace(", HTTP2-Settings", ""),
            whole.replace("Connection: Upgrade,", "Connection:"),
            format!("{whole}Content-Length: 5\r\n"),
            format!("{whole}Transfer-Encoding: chunked\r\n"),
        ] {
            assert_eq!(found(&wrong), None, "{wrong}");
        }
    }
}
