//! Asks a service whether a host may have a certificate.
//!
//! Must not: take silence, or anything but a plain yes, for consent.

use std::time::Duration;

use http_body_util::Empty;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::Denial;

/// The longest wait for an answer.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) async fn ask(url: &str, host: &str) -> Result<(), Denial> {
    let separator = if url.contains('?') { '&' } else { '?' };
    // A host that a rule allows is of letters that need no escape.
    let question = format!("{url}{separator}domain={host}");
    let answer = tokio::time::timeout(ASK_TIME_MAX, get(&question)).await;
    let late = |_| Err(format!("no answer within {} s", ASK_TIME_MAX.as_secs()));
    answer.unwrap_or_else(late).map_err(|answer| Denial::No {
        url: url.to_owned(),
        answer,
    })
}

async fn get(url: &str) -> Result<(), String> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_platform_verifier(cardea_certs::provider::provider())
        .map_err(|error| error.to_string())?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let request = http::Request::get(url)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| crate::solver::chain(&error))?;
    match answer.status() {
        http::StatusCode::OK => Ok(()),
        status => Err(status.to_string()),
    }
}
