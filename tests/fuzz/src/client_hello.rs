//! The first words of a TLS client: the verdict does not depend on how they arrive, and a refusal is
//! an alert or silence. What is kept of them, for an endpoint to hear, is what was sent.

use cardea_certs::greeting::Greeting;

/// What is made of first words: the name and the protocols in them, or the alert that answers them.
type Verdict = Option<Result<(Option<String>, Vec<Vec<u8>>), Vec<u8>>>;

/// Any bytes as the first that a client sends to a TLS listener.
pub fn client_hello(bytes: &[u8]) {
    let whole = heard(bytes, bytes.len().max(1));
    for length in [1, 5, 64] {
        assert_eq!(heard(bytes, length), whole, "a split changes the verdict");
    }
    if let Some(Err(alert)) = whole {
        assert!(alert.is_empty() || alert.first() == Some(&21), "{alert:?}");
    }
}

fn heard(bytes: &[u8], length: usize) -> Verdict {
    let mut greeting = Greeting::keeping();
    let mut fed = 0;
    for piece in bytes.chunks(length) {
        fed += piece.len();
        match greeting.feed(piece) {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().map(str::to_owned);
                let protocols = hello.alpn().into_iter().flatten();
                let kept = greeting.into_words();
                assert_eq!(
                    Some(&*kept),
                    bytes.get(..fed),
                    "words are not kept as they were"
                );
                return Some(Ok((name, protocols.map(<[u8]>::to_vec).collect())));
            }
            Err(refused) => {
                // Whatever it finds, it ends.
                let _ = greeting.name_of_refused();
                return Some(Err(refused.alert));
            }
        }
    }
    None
}
