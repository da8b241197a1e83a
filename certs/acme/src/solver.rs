//! Records in the DNS, put there and taken away by somebody who can: a program, a service, or the
//! name server itself.
//!
//! Must not: wait without end, or trust what they print.

use std::process::Stdio;

use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokio::process::Command;

use crate::error::Error;
use crate::settings::{Credentials, DnsHand, DnsSolver};

mod update;

/// How much of what a solver says goes into an error, bytes.
const SAID_BYTES_MAX: usize = 1024;

/// The most that a service may answer, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a solver is to do with a record.
#[derive(Debug, Clone, Copy)]
enum Action {
    Present,
    CleanUp,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::CleanUp => "cleanup",
        }
    }
}

/// Puts the record of a host into the DNS.
pub(crate) async fn present(solver: &DnsSolver, host: &str, value: &str) -> Result<(), Error> {
    act(solver, Action::Present, host, value).await
}

/// Takes it away again.
pub(crate) async fn clean_up(solver: &DnsSolver, host: &str, value: &str) -> Result<(), Error> {
    act(solver, Action::CleanUp, host, value).await
}

async fn act(solver: &DnsSolver, action: Action, host: &str, value: &str) -> Result<(), Error> {
    let record = format!("_acme-challenge.{host}.");
    let work = async {
        match &solver.by {
            DnsHand::Exec(command) => run(command, action, &record, value).await,
            DnsHand::Http { url, credentials } => {
                call(url, credentials.as_ref(), action, &record, value).await
            }
            DnsHand::Update { server, zone, key } => {
                update::update(server, zone.as_deref(), key, action, &record, value).await
            }
        }
    };
    let done = tokio::time::timeout(solver.timeout, work).await;
    let late = |_| {
        Err(format!(
            "it took longer than {} s",
            solver.timeout.as_secs()
        ))
    };
    let done = done.unwrap_or_else(late);
    done.map_err(|detail| Error::Solver {
        action: match action {
            Action::Present => "add",
            Action::CleanUp => "remove",
        },
        host: host.to_owned(),
        detail,
    })
}

async fn run(command: &[String], action: Action, record: &str, value: &str) -> Result<(), String> {
    let [program, arguments @ ..] = command else {
        return Err("there is no program to run".to_owned());
    };
    let ended = Command::new(program)
        .args(arguments)
        .args([action.as_str(), record, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Whoever waits no longer leaves no process behind.
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = said(&ended.stderr);
    Err(format!("`{program}` ended with {}: {said}", ended.status))
}

async fn call(
    url: &str,
    credentials: Option<&Credentials>,
    action: Action,
    record: &str,
    value: &str,
) -> Result<(), String> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_platform_verifier(cardea_certs::provider::provider())
        .map_err(|error| error.to_string())?
        .https_or_http()
        .enable_http1()
        .build();
    let client = HyperClient::builder(TokioExecutor::new()).build(connector);
    let body = serde_json::json!({ "fqdn": record, "value": value }).to_string();
    let url = format!("{}/{}", url.trim_end_matches('/'), action.as_str());
    let mut request = http::Request::post(&url).header("content-type", "application/json");
    if let Some(Credentials { user, password }) = credentials {
        let pair = format!("{user}:{}", **password);
        let value = format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
        request = request.header("authorization", value);
    }
    let request = request
        .body(Full::new(bytes::Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| chain(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body.await.map_err(|error| error.to_string())?.to_bytes();
    if status.is_success() {
        return Ok(());
    }
    Err(format!("{url} answered {status}: {}", said(&body)))
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What a solver said, in a line that can be shown.
fn said(bytes: &[u8]) -> String {
    let bytes = bytes.get(..SAID_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim().replace(|c: char| c.is_control(), " ");
    if text.is_empty() {
        return "it said nothing".to_owned();
    }
    text
}
