//! Checks against real sockets, and what their results add up to.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::traffic::upstream::settings::Settings;

fn http(path: &str, expect: &[RangeInclusive<u16>]) -> Probe {
    Probe::Http {
        path: path.into(),
        host: None,
        expect: expect.into(),
    }
}

fn settings(probe: Probe) -> HealthSettings {
    HealthSettings {
        is_http2: false,
        probe,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        healthy_after: 2,
        unhealthy_after: 3,
    }
}

fn upstream(address: SocketAddr, health: HealthSettings) -> Arc<Upstream> {
    let settings = Settings {
        health: Some(health),
        ..Settings::sample(&[&address.to_string()])
    };
    Upstream::new("api".into(), settings, &Arc::default(), None)
}

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    let upstream = upstream(address, settings(Probe::Tcp));
    Arc::clone(&upstream.endpoints().endpoints()[0])
}

/// An origin that reads one request head from each connection, answers in these pieces and closes.
/// What it read comes back through the channel.
async fn origin(
    pieces: &'static [&'static str],
) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (heads, received) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let head = answer(stream, pieces).await;
            let _ = heads.send(head).await;
        }
    });
    (address, received)
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, pieces: &[&str]) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    for piece in pieces {
        let _ = stream.write_all(piece.as_bytes()).await;
        let _ = stream.flush().await;
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn an_http_check_passes_by_its_status() {
    async fn check(pieces: &'static [&'static str], expected: Result<(), &str>) {
        let (address, _heads) = origin(pieces).await;
        let probe = http("/healthz", &[200..=299, 418..=418]);
        let result = settings(probe).check(&endpoint(address), None, None).await;
        let result = result.map_err(|error| error.to_string());
        assert_eq!(
            result.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|e| &**e),
            "{pieces:?}"
        );
    }
    check(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], Ok(())).await;
    check(&["HTTP/1.0 204 \r\n\r\n"], Ok(())).await;
    check(&["HTTP/1.1 200\r\n"], Ok(())).await;
    check(&["HT", "TP/1.1 4", "18 teapot", "\r\n"], Ok(())).await;
    check(
        &["HTTP/1.1 103 Early\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"],
        Ok(()),
    )
    .await;
    check(
        &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 503 No\r\n\r\n"],
        Err("the status is 503"),
    )
    .await;
    check(&["HTTP/1.1 302 Found\r\n\r\n"], Err("the status is 302")).await;
    check(
        &["HTTP/2 200 OK\r\n\r\n"],
        Err("the answer is not valid HTTP"),
    )
    .await;
    check(
        &["HTTP/1.1 20 OK\r\n\r\n"],
        Err("the answer is not valid HTTP"),
    )
    .await;
    check(
        &["HTTP/1.1 2000\r\n\r\n"],
        Err("the answer is not valid HTTP"),
    )
    .await;
    check(
        &["SSH-2.0-OpenSSH_9.2\r\n"],
        Err("the answer is not valid HTTP"),
    )
    .await;
    check(&["HTTP/1.1 200"], Err("the answer is not valid HTTP")).await;
    check(&[], Err("the connection ended without an answer")).await;
}

#[tokio::test]
async fn an_answer_without_end_fails() {
    const ENDLESS: &str = match std::str::from_utf8(&[b'a'; 40_000]) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    };
    let (address, _heads) = origin(&[ENDLESS]).await;
    let result = settings(http("/", &[200..=399]))
        .check(&endpoint(address), None, None)
        .await;
    assert!(matches!(result, Err(CheckError::Malformed)), "{result:?}");
}

#[tokio::test]
async fn the_request_names_the_endpoint_unless_told_otherwise() {
    let (address, mut heads) = origin(&["HTTP/1.1 200 OK\r\n\r\n"]).await;
    let endpoint = endpoint(address);
    let own = settings(http("/up?full=1", &[200..=200]));
    own.check(&endpoint, None, None).await.expect("a pass");
    let head = heads.recv().await.expect("a request");
    assert!(head.starts_with("GET /up?full=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");

    let probe = Probe::Http {
        path: "/".into(),
        host: Some("shop.example.com".into()),
        expect: [200..=200].into(),
    };
    settings(probe)
        .check(&endpoint, None, None)
        .await
        .expect("a pass");
    let head = heads.recv().await.expect("a request");
    assert!(head.contains("\r\nhost: shop.example.com\r\n"), "{head}");
}

#[tokio::test]
async fn a_tcp_check_asks_for_a_connection_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let endpoint = endpoint(address);
    let tcp = settings(Probe::Tcp);
    tcp.check(&endpoint, None, None).await.expect("a pass");
    drop(listener);
    let result = tcp.check(&endpoint, None, None).await;
    assert!(matches!(result, Err(CheckError::Connect(_))), "{result:?}");
}

#[tokio::test]
async fn silence_is_a_failure_within_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let timeout = Duration::from_millis(20);
    let silent = HealthSettings {
        timeout,
        ..settings(http("/", &[200..=200]))
    };
    let result = silent.check(&endpoint(address), None, None).await;
    assert!(
        matches!(result, Err(CheckError::Timeout(after)) if after == timeout),
        "{result:?}"
    );
}

/// A TLS origin for `origin.test`, and how to speak to it.
async fn tls_origin() -> (SocketAddr, TlsClient) {
    let certified = rcgen::generate_simple_self_signed(["origin.test".to_owned()]).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(server));
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &["HTTP/1.1 200 OK\r\n\r\n"]).await;
            }
        }
    });
    let server_name = Some("origin.test".try_into().expect("a name"));
    (
        address,
        TlsClient {
            config: Arc::clone(&client),
            http1: Arc::clone(&client),
            raw: client,
            server_name,
        },
    )
}

#[tokio::test]
async fn checks_speak_tls_where_the_upstream_does() {
    let (address, tls) = tls_origin().await;
    let endpoint = endpoint(address);
    for probe in [Probe::Tcp, http("/", &[200..=200])] {
        settings(probe.clone())
            .check(&endpoint, Some(&tls), None)
            .await
            .expect("a pass");

        // Without a name of its own the endpoint must prove its address, which it cannot.
        let unnamed = TlsClient {
            server_name: None,
            ..tls.clone()
        };
        let result = settings(probe).check(&endpoint, Some(&unnamed), None).await;
        assert!(matches!(result, Err(CheckError::Tls(_))), "{result:?}");
    }
}

#[test]
fn results_in_a_row_change_what_is_believed() {
    use Health::{Healthy, Joining, Unchecked, Unhealthy};
    let check = |begin: Health, results: &str, expected: Health| {
        let settings = settings(Probe::Tcp);
        let mut checks = Checks::default();
        let end = results.chars().fold(begin, |believed, result| {
            checks.observe(result == '+', believed, &settings)
        });
        assert_eq!(end, expected, "{begin:?} after {results}");
    };
    check(Unchecked, "+", Healthy);
    check(Unchecked, "-", Unhealthy);
    check(Joining, "+", Healthy);
    check(Joining, "-", Unhealthy);
    check(Healthy, "--", Healthy);
    check(Healthy, "---", Unhealthy);
    check(Healthy, "--+--", Healthy);
    check(Unhealthy, "+", Unhealthy);
    check(Unhealthy, "+-+", Unhealthy);
    check(Unhealthy, "++", Healthy);
    check(Healthy, "---+", Unhealthy);
    check(Healthy, "---++", Healthy);
}

#[test]
fn results_reach_the_endpoint_and_the_set() {
    let upstream = upstream(([127, 0, 0, 1], 80).into(), settings(Probe::Tcp));
    let endpoint = Arc::clone(&upstream.endpoints().endpoints()[0]);
    let version = upstream.version();
    upstream.report_check(&endpoint, Ok(()));
    assert_eq!(endpoint.state.health(), Health::Healthy);
    assert_eq!(upstream.version(), version, "requests notice nothing");

    let refused = || CheckError::Connect(io::ErrorKind::ConnectionRefused.into());
    for _ in 0..3 {
        assert!(endpoint.state.is_usable());
        upstream.report_check(&endpoint, Err(refused()));
    }
    let report = endpoint.report();
    assert_eq!(report.health, Health::Unhealthy);
    assert_eq!(
        (report.checks_passed_total, report.checks_failed_total),
        (1, 3)
    );
    let error = report.last_check_error.as_deref();
    assert_eq!(error, Some("connecting failed: connection refused"));
    assert!(upstream.endpoints().is_panicking());
    assert_ne!(upstream.version(), version);

    upstream.report_check(&endpoint, Ok(()));
    assert_eq!(endpoint.report().last_check_error, None);
}
