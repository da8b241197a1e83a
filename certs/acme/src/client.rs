//! The HTTP client of the conversation with an authority: its TLS is the gateway's own, answers are
//! bounded, and what an authority says about when to come back is kept.
//!
//! Must not: follow a redirect, or wait without end.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cardea_certs::client::{ClientConfigs, ClientSettings, Verify};
use http_body_util::Limited;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};

use crate::error::Error;

/// How long one request may take.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The most an authority may answer, bytes: far above any chain.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The longest time that an authority is believed when it asks to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

type Body = BodyWrapper<bytes::Bytes>;

/// A client for one authority.
#[derive(Clone)]
pub(crate) struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, Body>,
    /// Until when the authority wants to be left alone, as its last refusal had it.
    retry_at: Arc<Mutex<Option<SystemTime>>>,
}

impl Client {
    /// A client that trusts the authorities of a file, or those of the system.
    pub(crate) fn new(trust: Option<&Path>) -> Result<Self, Error> {
        let verify = match trust {
            Some(path) => Verify::Authorities(path.to_owned()),
            None => Verify::Platform,
        };
        let settings = ClientSettings {
            verify,
            ..ClientSettings::default()
        };
        let config = ClientConfigs::default().config(&settings);
        let config = config.map_err(Error::Tls)?.as_ref().clone();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .enable_http2()
            .build();
        Ok(Self {
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
            retry_at: Arc::default(),
        })
    }

    /// Until when the authority wants to be left alone; forgotten once it is told.
    pub(crate) fn take_retry_at(&self) -> Option<SystemTime> {
        self.retry_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: http::Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let answer = self.http.request(request);
        let retry_at = Arc::clone(&self.retry_at);
        Box::pin(async move {
            let other = |error| instant_acme::Error::Other(error);
            let answer = tokio::time::timeout(REQUEST_TIME_MAX, answer).await;
            let late = || Box::new(io::Error::from(io::ErrorKind::TimedOut)) as _;
            let answer = answer.map_err(|_| other(late()))?;
            let answer = answer.map_err(|error| other(Box::new(error)))?;
            let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
            if is_refusal {
                let wanted = answer.headers().get(http::header::RETRY_AFTER);
                let wanted = wanted.and_then(|value| moment(value.to_str().ok()?));
                *retry_at.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
            }
            let answer = answer.map(|body| Box::pin(Limited::new(body, ANSWER_BYTES_MAX)));
            Ok(BytesResponse::from(answer))
        })
    }
}

/// What `Retry-After` means (RFC 9110 section 10.2.3).
fn moment(text: &str) -> Option<SystemTime> {
    let now = SystemTime::now();
    let at = match u64::from_str(text.trim()) {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds))?,
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?,
    };
    Some(at.min(now + RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_number_of_seconds_or_a_date() {
        let now = SystemTime::now();
        let soon = moment("120").unwrap().duration_since(now).unwrap();
        assert!((119..=121).contains(&soon.as_secs()));
        let date = moment("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert!(date < now);
        assert!(moment("soon").is_none() && moment("").is_none());
        let longest = now + RETRY_AFTER_MAX + Duration::from_secs(1);
        assert!(moment("99999999999").unwrap() < longest);
    }
}
