//! Active checks: what is asked of an endpoint, what answer is good, and how many answers in a row
//! change our mind. When to ask is the control path's business.
//!
//! Must not: read more of an answer than decides, or wait longer than the check's timeout,
//! whatever the endpoint sends.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::InvalidDnsNameError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::http2::Question;
use super::endpoint::{Endpoint, Health};
use super::introduce;
use super::settings::TlsClient;
use super::{Upstream, describe};
use crate::traffic::proxy_protocol::Version;

mod http2;

/// Bytes of an answer read in search of its status line, interim responses included.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How the endpoints of an upstream are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// What is asked.
    pub probe: Probe,
    /// Whether it is asked over HTTP/2.
    pub is_http2: bool,
    /// The time from one check of an endpoint to its next.
    pub interval: Duration,
    /// How long one check may take, connecting included.
    pub timeout: Duration,
    /// Passed checks in a row that make an unhealthy endpoint healthy.
    pub healthy_after: u32,
    /// Failed checks in a row that make a healthy endpoint unhealthy.
    pub unhealthy_after: u32,
}

/// What is asked of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// That it accepts a connection, and completes a handshake if the upstream speaks TLS.
    Tcp,
    /// That it answers a GET with an expected status.
    Http {
        /// The path and query.
        path: Box<str>,
        /// The `Host` to ask for; none for the endpoint's own.
        host: Option<Box<str>>,
        /// The statuses that pass.
        expect: Box<[RangeInclusive<u16>]>,
    },
    /// That it says it serves, in gRPC's health protocol.
    Grpc {
        /// The service that is asked about; empty for the endpoint as a whole.
        service: Box<str>,
        /// The authority to ask for; none for the endpoint's own.
        host: Option<Box<str>>,
    },
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No connection.
    #[error("connecting failed")]
    Connect(#[source] io::Error),
    /// No TLS.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The endpoint has no name that a certificate could carry.
    #[error("the endpoint's name cannot be verified")]
    Name(#[source] InvalidDnsNameError),
    /// The connection broke.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The connection ended without an answer.
    #[error("the connection ended without an answer")]
    Unanswered,
    /// The answer is no HTTP, or its head is out of bounds.
    #[error("the answer is not valid HTTP")]
    Malformed,
    /// The endpoint, or the service asked about, says that it does not serve.
    #[error("the service does not serve")]
    NotServing,
    /// The endpoint does not agree to HTTP/2.
    #[error("the endpoint does not speak HTTP/2")]
    NotHttp2,
    /// The answer has another status than expected.
    #[error("the status is {0}")]
    Status(u16),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// The checks of an endpoint so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Answers in a row that contradict what we believe.
    contrary: u32,
    pub(super) passed_total: u64,
    pub(super) failed_total: u64,
    pub(super) last_error: Option<Arc<str>>,
}

impl Checks {
    /// What to believe after one more check. The first check of all decides at once.
    fn observe(&mut self, is_passed: bool, believed: Health, settings: &HealthSettings) -> Health {
        let (verdict, needed) = match is_passed {
            true => (Health::Healthy, settings.healthy_after),
            false => (Health::Unhealthy, settings.unhealthy_after),
        };
        let needed = match believed {
            Health::Unchecked | Health::Joining => 1,
            Health::Healthy | Health::Unhealthy => needed.max(1),
        };
        if believed == verdict {
            self.contrary = 0;
            return believed;
        }
        self.contrary += 1;
        if self.contrary < needed {
            return believed;
        }
        self.contrary = 0;
        verdict
    }
}

impl HealthSettings {
    /// Checks an endpoint once.
    pub async fn check(
        &self,
        endpoint: &Endpoint,
        tls: Option<&TlsClient>,
        proxy_protocol: Option<Version>,
    ) -> Result<(), CheckError> {
        let asked = self.ask(endpoint, tls, proxy_protocol);
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(CheckError::Timeout(self.timeout)),
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        tls: Option<&TlsClient>,
        proxy_protocol: Option<Version>,
    ) -> Result<(), CheckError> {
        let mut stream = TcpStream::connect(endpoint.address)
            .await
            .map_err(CheckError::Connect)?;
        // A check is one small write; a failure to say so costs at most a delay.
        let _ = stream.set_nodelay(true);
        if let Some(version) = proxy_protocol {
            let header = introduce::for_ourselves(version);
            stream.write_all(&header).await.map_err(CheckError::Io)?;
        }
        let Some(tls) = tls else {
            return self.converse(stream, endpoint, false).await;
        };
        let name = tls.server_name_of(endpoint).map_err(CheckError::Name)?;
        let config = if self.is_http2 {
            &tls.config
        } else {
            &tls.http1
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(CheckError::Tls)?;
        if self.is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(CheckError::NotHttp2);
        }
        self.converse(stream, endpoint, true).await
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        endpoint: &Endpoint,
        is_secure: bool,
    ) -> Result<(), CheckError> {
        let (host, path, expect) = match &self.probe {
            Probe::Tcp => return Ok(()),
            Probe::Grpc { service, host } => {
                let own = host_of(endpoint, is_secure);
                let host = host.as_deref().unwrap_or(&own);
                return call(&mut stream, service, host, is_secure).await;
            }
            Probe::Http { path, host, expect } => (host, path, expect),
        };
        let own = host_of(endpoint, is_secure);
        let host = host.as_deref().unwrap_or(&own);
        let status = match self.is_http2 {
            true => {
                let question = Question {
                    is_secure,
                    host,
                    path,
                    message: None,
                };
                http2::ask(&mut stream, question).await?.status
            }
            false => Self::get(&mut stream, host, path).await?,
        };
        match expect.iter().any(|range| range.contains(&status)) {
            true => Ok(()),
            false => Err(CheckError::Status(status)),
        }
    }

    /// The status that a GET over HTTP/1.1 has.
    async fn get<S: AsyncRead + AsyncWrite + Unpin>(
        stream: &mut S,
        host: &str,
        path: &str,
    ) -> Result<u16, CheckError> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: cardea-health-check\r\n\
             accept: */*\r\nconnection: close\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(CheckError::Io)?;
        stream.flush().await.map_err(CheckError::Io)?;
        read_status(stream).await
    }
}

/// Asks whether a service serves ("GRPC Health Checking Protocol").
async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    service: &str,
    host: &str,
    is_secure: bool,
) -> Result<(), CheckError> {
    /// Field 1 of the answer, `status`, with the value SERVING.
    const SERVING: &[u8] = &[0x08, 0x01];
    // Field 1 of the question, `service`, a string; its length was checked.
    let length = u8::try_from(service.len()).unwrap_or(0);
    let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    message.extend_from_slice(service.as_bytes());
    let question = Question {
        is_secure,
        host,
        path: "/grpc.health.v1.Health/Check",
        message: Some(&message),
    };
    let answer = http2::ask(stream, question).await?;
    if answer.status != 200 {
        return Err(CheckError::Status(answer.status));
    }
    // Uncompressed, with its length before it.
    match answer.body.strip_prefix(&[0, 0, 0, 0, 2]) {
        Some(SERVING) => Ok(()),
        _ => Err(CheckError::NotServing),
    }
}

fn host_of(endpoint: &Endpoint, is_secure: bool) -> String {
    let port_default = if is_secure { 443 } else { 80 };
    match (&endpoint.host, endpoint.address.port()) {
        (Some(host), port) if port == port_default => host.to_string(),
        (Some(host), port) => format!("{host}:{port}"),
        (None, _) => endpoint.address.to_string(),
    }
}

/// Reads up to the final response's status line.
async fn read_status<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u16, CheckError> {
    let mut answer = Vec::with_capacity(1024);
    loop {
        if let Some(status) = final_status(&answer)? {
            return Ok(status);
        }
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(CheckError::Malformed);
        }
        match stream.read_buf(&mut answer).await.map_err(CheckError::Io)? {
            0 if answer.is_empty() => return Err(CheckError::Unanswered),
            0 => return Err(CheckError::Malformed),
            _ => {}
        }
    }
}

/// The status of the first response that is not interim; none if it has not come yet.
fn final_status(mut answer: &[u8]) -> Result<Option<u16>, CheckError> {
    loop {
        let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let status = parse_status_line(answer.get(..end).unwrap_or_default())?;
        if !(100..200).contains(&status) {
            return Ok(Some(status));
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        answer = answer.get(end + 4..).unwrap_or_default();
    }
}

/// RFC 9112 §4: `HTTP/1.x SP 3DIGIT SP [reason]`; the last space is often forgotten.
fn parse_status_line(line: &[u8]) -> Result<u16, CheckError> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(CheckError::Malformed)?;
    match rest {
        [b'0' | b'1', b' ', hundreds @ b'1'..=b'9', tens, ones]
        | [
            b'0' | b'1',
            b' ',
            hundreds @ b'1'..=b'9',
            tens,
            ones,
            b' ',
            ..,
        ] if tens.is_ascii_digit() && ones.is_ascii_digit() => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok(digit(hundreds) * 100 + digit(tens) * 10 + digit(ones))
        }
        _ => Err(CheckError::Malformed),
    }
}

impl Upstream {
    /// Takes note of an active check. For the control path.
    pub fn report_check(&self, endpoint: &Endpoint, result: Result<(), CheckError>) {
        let Some(settings) = &self.settings.health else {
            return;
        };
        let believed = endpoint.state.health();
        let verdict = {
            let mut details = endpoint.state.details();
            let checks = &mut details.checks;
            match &result {
                Ok(()) => checks.passed_total += 1,
                Err(_) => checks.failed_total += 1,
            }
            checks.last_error = result.as_ref().err().map(|error| describe(error).into());
            checks.observe(result.is_ok(), believed, settings)
        };
        if verdict == believed {
            return;
        }
        let has_changed = endpoint.state.set_health(verdict);
        match &result {
            Ok(()) => tracing::info!(
                upstream = %self.name, endpoint = %endpoint.address, "endpoint healthy"
            ),
            Err(error) => tracing::warn!(
                upstream = %self.name,
                endpoint = %endpoint.address,
                error = describe(error),
                "endpoint unhealthy"
            ),
        }
        if has_changed {
            self.refresh();
        }
    }
}

#[cfg(test)]
mod tests;
