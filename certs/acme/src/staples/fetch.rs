//! Asks a responder over HTTP (RFC 6960 appendix A).
//!
//! Must not: wait or read without end, or believe an answer; that is for whoever knows the question.

use std::time::Duration;

use cardea_certs::ocsp::Question;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::StapleError;

/// The longest wait for an answer.
const FETCH_TIME_MAX: Duration = Duration::from_secs(15);

/// The largest answer, bytes; usual ones have about a thousand.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A client for responders.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: HyperClient<HttpConnector, Full<bytes::Bytes>>,
}

impl Client {
    pub(super) fn new() -> Self {
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Self { http }
    }

    /// Puts a question to its responder.
    pub(super) async fn ask(&self, question: &Question) -> Result<Vec<u8>, StapleError> {
        let answer = tokio::time::timeout(FETCH_TIME_MAX, self.post(question)).await;
        let late = |_| {
            Err(format!(
                "it took longer than {} s",
                FETCH_TIME_MAX.as_secs()
            ))
        };
        answer
            .unwrap_or_else(late)
            .map_err(|detail| StapleError::Fetch {
                url: question.url.clone(),
                detail,
            })
    }

    async fn post(&self, question: &Question) -> Result<Vec<u8>, String> {
        let request = http::Request::post(&question.url)
            .header("content-type", "application/ocsp-request")
            .header("accept", "application/ocsp-response")
            .body(Full::new(bytes::Bytes::copy_from_slice(&question.request)))
            .map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await;
        let answer = answer.map_err(|error| crate::solver::chain(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes().to_vec())
    }
}
