//! The HTTP client of conversations with an authority: its TLS is the gateway's own, answers are
//! bounded, and what stands in the head of the last answer of a conversation is kept beside it.
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
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

type Body = BodyWrapper<bytes::Bytes>;

/// A client for one authority.
#[derive(Clone)]
pub(crate) struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, Body>,
}

/// What stands in the head of an answer, and in no error or order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// Its status; none if there is no answer yet.
    pub(crate) status: Option<u16>,
    /// Until when the authority wants to be left alone, if it refused.
    pub(crate) retry_at: Option<SystemTime>,
    /// Where what was made is.
    pub(crate) location: Option<String>,
}

tokio::task_local! {
    /// The head of the last answer in the conversation of this task. Conversations of one account
    /// go on beside each other: what one is told is nothing for another.
    static LAST: Arc<Mutex<Head>>;
}

/// Runs a conversation with an authority, one request after another.
pub(crate) async fn conversation<T>(talk: impl Future<Output = T>) -> T {
    LAST.scope(Arc::default(), talk).await
}

/// The head of the last answer in this conversation; an empty one outside of any.
pub(crate) fn last_head() -> Head {
    LAST.try_with(|last| lock(last).clone()).unwrap_or_default()
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
        })
    }

    /// A step in the conversation failed.
    pub(crate) fn failed(&self, step: &'static str, source: instant_acme::Error) -> Error {
        let Head {
            status, retry_at, ..
        } = last_head();
        Error::Authority {
            step,
            source,
            status,
            retry_at,
        }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: http::Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let answer = self.http.request(request);
        let last = LAST.try_with(Arc::clone).unwrap_or_default();
        *lock(&last) = Head::default();
        Box::pin(async move {
            let other = |error| instant_acme::Error::Other(error);
            let answer = tokio::time::timeout(REQUEST_TIME_MAX, answer).await;
            let late = || Box::new(io::Error::from(io::ErrorKind::TimedOut)) as _;
            let answer = answer.map_err(|_| other(late()))?;
            let answer = answer.map_err(|error| other(Box::new(error)))?;
            *lock(&last) = head(answer.status(), answer.headers());
            let answer = answer.map(|body| Box::pin(Limited::new(body, ANSWER_BYTES_MAX)));
            Ok(BytesResponse::from(answer))
        })
    }
}

fn head(status: http::StatusCode, headers: &http::HeaderMap) -> Head {
    let text = |name| headers.get(name)?.to_str().ok();
    let is_refusal = status.is_client_error() || status.is_server_error();
    let retry_after = text(http::header::RETRY_AFTER).filter(|_| is_refusal);
    Head {
        status: Some(status.as_u16()),
        retry_at: retry_after.and_then(moment),
        location: text(http::header::LOCATION).map(str::to_owned),
    }
}

fn lock(head: &Mutex<Head>) -> std::sync::MutexGuard<'_, Head> {
    head.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn what_one_conversation_is_told_is_nothing_for_another() {
        let told = |retry_after: Option<&str>| {
            let mut headers = http::HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
            }
            let head = head(http::StatusCode::TOO_MANY_REQUESTS, &headers);
            LAST.with(|last| *lock(last) = head);
        };
        let first = conversation(async {
            told(Some("3600"));
            // Another one is refused as well, without a word about when to come back.
            let other = conversation(async {
                told(None);
                last_head().retry_at
            });
            assert_eq!(other.await, None);
            last_head().retry_at
        });
        assert!(first.await.is_some());
        assert!(last_head().status.is_none());
    }

    #[test]
    fn only_refusals_say_when_to_come_back() {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, "60".parse().unwrap());
        headers.insert(http::header::LOCATION, "https://ca.test/1".parse().unwrap());
        let made = head(http::StatusCode::CREATED, &headers);
        assert_eq!(made.retry_at, None);
        assert_eq!(made.location.as_deref(), Some("https://ca.test/1"));
        let busy = head(http::StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert!(busy.retry_at.is_some());
    }
}
