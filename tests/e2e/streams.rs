//! Streams: connections and datagrams that are passed on as they are.

use cardea_tests::origin::Connection;
use cardea_tests::{Client, Gateway, Origin};

mod introductions;
mod tcp;
mod tls;
mod udp;

/// Sends back whatever comes, until it ends.
pub(crate) fn echo(connection: &mut Connection) {
    loop {
        let count = connection.unread().len();
        if count == 0 {
            if connection.fill().is_err() {
                return;
            }
            continue;
        }
        if let Ok(bytes) = connection.take(count) {
            connection.answer(bytes);
        }
    }
}

/// An origin that says its name to everybody, and then sends back whatever comes.
pub(crate) fn named(name: &'static str) -> Origin {
    Origin::serve(move |connection: &mut Connection| {
        connection.answer(format!("{name}\n"));
        echo(connection);
    })
}

/// Sends a word and expects it back.
#[track_caller]
pub(crate) fn assert_echoes(client: &mut Client, word: &str) {
    client.send(word);
    let back = client.take(word.len());
    assert_eq!(back.as_deref(), Ok(word.as_bytes()));
}

/// The name that an origin says first.
#[track_caller]
pub(crate) fn name_of(client: &mut Client) -> String {
    let name = client.take_through(b"\n").expect("a name");
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// How often a stream's connections ended in a way.
#[track_caller]
pub(crate) fn ended(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    let count = gateway.metric("cardea_stream_ends_total", &labels);
    count.unwrap_or_default()
}
