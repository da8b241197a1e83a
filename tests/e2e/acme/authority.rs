//! An authority played by an origin: it takes everybody's word and issues, but can be told to stand
//! still at a step, to refuse orders, or to be difficult about renewals.

use std::sync::{Arc, Mutex, PoisonError};

use cardea_tests::certificate::Authority;
use cardea_tests::origin::Connection;
use cardea_tests::{Origin, tls, wait};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::refusals::{payload, rfc3339};

/// What an authority does when an order says what it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaces {
    /// It says so as well, as RFC 9773 section 5 asks for.
    Echoed,
    /// It takes the order and says nothing.
    Ignored,
    /// It refuses the order: that has a successor already.
    Refused,
}

/// The authority.
pub(super) struct Ca {
    /// Who trusts its own certificate.
    pub(super) trust: Authority,
    issuer: Arc<Authority>,
    state: Arc<Mutex<State>>,
    pub(super) origin: Origin,
}

#[derive(Debug)]
struct State {
    /// Where it stands still: what paths begin with.
    held_at: Option<&'static str>,
    is_held: bool,
    /// What it says to new orders, in place of taking them.
    refusal: Option<(&'static str, Value)>,
    replaces: Replaces,
    /// Which certificates are to be renewed at once, and not some time later.
    window_is_over_for: usize,
    orders: Vec<Order>,
}

#[derive(Debug, Clone)]
struct Order {
    names: Value,
    replaces: Option<Value>,
    certificate: Option<String>,
}

impl Ca {
    pub(super) fn new() -> Self {
        Self::with(Replaces::Echoed)
    }

    pub(super) fn with(replaces: Replaces) -> Self {
        let trust = Authority::new("trust");
        let state = Arc::new(Mutex::new(State {
            held_at: None,
            is_held: false,
            refusal: None,
            replaces,
            window_is_over_for: 0,
            orders: Vec::new(),
        }));
        let identity = trust.issue(&["127.0.0.1", "localhost"]);
        let config = tls::server_config(&identity, None);
        let issuer = Arc::new(Authority::new("issuer"));
        let (shared, issues) = (Arc::clone(&state), Arc::clone(&issuer));
        let origin = Origin::serve_tls(config, move |connection: &mut Connection| {
            while let Some(request) = connection.request() {
                let base = format!("https://{}", request.field("host").unwrap_or_default());
                let answered = answer(&shared, &issues, &base, &request);
                stand_still(&shared, &request.target);
                let (head, body) = answered;
                let body = if request.method == "HEAD" { "" } else { &body };
                let length = body.len();
                connection.answer(format!(
                    "HTTP/1.1 {head}\r\nReplay-Nonce: nonce\r\nContent-Length: {length}\r\n\r\n{body}"
                ));
            }
        });
        Self {
            trust,
            issuer,
            state,
            origin,
        }
    }

    /// Stands still from now on once it did what is asked of it at a path.
    pub(super) fn hold(&self, at: &'static str) {
        self.change(|state| state.held_at = Some(at));
    }

    pub(super) fn waits(&self) {
        wait::until_true("the authority stands still", || {
            self.change(|it| it.is_held)
        });
    }

    pub(super) fn go_on(&self) {
        self.change(|state| {
            state.held_at = None;
            state.is_held = false;
        });
    }

    /// Refuses new orders.
    pub(super) fn refuse(&self, head: &'static str, kind: &str, detail: &str) {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        let problem = json!({ "type": kind, "detail": detail });
        self.change(|state| state.refusal = Some((head, problem)));
    }

    pub(super) fn relent(&self) {
        self.change(|state| state.refusal = None);
    }

    /// Wants the certificates renewed that there were before it issued so many.
    pub(super) fn wants_renewed_until(&self, issued: usize) {
        self.change(|state| state.window_is_over_for = issued);
    }

    /// What it was asked to make certificates for.
    pub(super) fn orders(&self) -> Vec<Value> {
        let all = self.origin.requests().into_iter();
        let orders = all.filter(|seen| seen.target == "/new-order");
        orders.map(|seen| payload(&seen)).collect()
    }

    /// How often something was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        let all = self.origin.requests().into_iter();
        all.filter(|seen| seen.target == path).count()
    }

    /// Clients that trust what it issues, and nothing else.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        tls::ClientTls::trusting(&self.issuer).config()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.state))
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.go_on();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stand_still(state: &Mutex<State>, path: &str) {
    let is_held = || {
        let mut state = lock(state);
        let is_held = state.held_at.is_some_and(|at| path.starts_with(at));
        state.is_held |= is_held;
        is_held
    };
    if is_held() {
        wait::until_true("the authority may go on", || !is_held());
    }
}

fn answer(
    state: &Mutex<State>,
    issuer: &Authority,
    base: &str,
    request: &cardea_tests::message::Request,
) -> (String, String) {
    let mut state = lock(state);
    let mut parts = request.target.split('/').skip(1);
    let step = parts.next().unwrap_or_default();
    let number: usize = parts.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let ok = |body: Value| ("200 OK".to_owned(), body.to_string());
    let made = |at: String, body: Value| {
        let head = format!("201 Created\r\nLocation: {base}/{at}");
        (head, body.to_string())
    };
    match step {
        "dir" => ok(json!({
            "newNonce": format!("{base}/nonce"),
            "newAccount": format!("{base}/account"),
            "newOrder": format!("{base}/new-order"),
            "renewalInfo": format!("{base}/renewal"),
        })),
        "account" => made("account/1".to_owned(), json!({ "status": "valid" })),
        "renewal" => {
            let is_over = state
                .orders
                .iter()
                .filter(|it| it.certificate.is_some())
                .count()
                < state.window_is_over_for;
            let now = super::refusals::now();
            let start = if is_over { now - 7200 } else { now + 864_000 };
            let window = json!({ "start": rfc3339(start), "end": rfc3339(start + 3600) });
            let head = "200 OK\r\nRetry-After: 21600".to_owned();
            (head, json!({ "suggestedWindow": window }).to_string())
        }
        "new-order" => {
            if let Some((head, problem)) = &state.refusal {
                return ((*head).to_owned(), problem.to_string());
            }
            let asked = payload(request);
            let replaces = asked.get("replaces").cloned();
            if replaces.is_some() && state.replaces == Replaces::Refused {
                let kind = "urn:ietf:params:acme:error:alreadyReplaced";
                let problem = json!({ "type": kind, "detail": "it has a successor" });
                return ("409 Conflict".to_owned(), problem.to_string());
            }
            let is_echoed = state.replaces == Replaces::Echoed;
            state.orders.push(Order {
                names: asked["identifiers"].clone(),
                replaces: replaces.filter(|_| is_echoed),
                certificate: None,
            });
            let number = state.orders.len();
            let order = shown(&state, base, number);
            made(format!("order/{number}"), order)
        }
        "order" => ok(shown(&state, base, number)),
        "finalize" => {
            let csr = payload(request)["csr"].as_str().map(str::to_owned);
            let csr = csr.and_then(|it| data_encoding::BASE64URL_NOPAD.decode(it.as_bytes()).ok());
            let issued = issuer.issue_for(&csr.expect("a request"));
            state.orders[number - 1].certificate = Some(issued);
            ok(shown(&state, base, number))
        }
        "cert" => {
            let certificate = state.orders[number - 1].certificate.clone();
            ("200 OK".to_owned(), certificate.unwrap_or_default())
        }
        _ => ok(Value::Null),
    }
}

/// An order as it is told of.
fn shown(state: &State, base: &str, number: usize) -> Value {
    let order = &state.orders[number - 1];
    let mut shown = json!({
        "status": if order.certificate.is_some() { "valid" } else { "ready" },
        "identifiers": order.names,
        "authorizations": [],
        "finalize": format!("{base}/finalize/{number}"),
    });
    if order.certificate.is_some() {
        shown["certificate"] = format!("{base}/cert/{number}").into();
    }
    if let Some(replaces) = &order.replaces {
        shown["replaces"] = replaces.clone();
    }
    shown
}
