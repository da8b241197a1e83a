//! An authority that says no, played by an origin: its limits are kept, and its wishes heard.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::origin::Connection;
use cardea_tests::{Gateway, Origin, tls, wait};
use serde_json::{Value, json};

/// An authority that registers everybody and lets nobody order for an hour. `window` is when it
/// wants certificates renewed, seconds since 1970.
fn refusing(trust: &Authority, window: Option<(u64, u64)>) -> Origin {
    let identity = trust.issue(&["127.0.0.1", "localhost"]);
    let config = tls::server_config(&identity, None);
    Origin::serve_tls(Arc::clone(&config), move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let base = format!("https://{}", request.field("host").unwrap_or_default());
            let (status, more, body) = answer(&base, &request.target, window);
            let body = if request.method == "HEAD" {
                String::new()
            } else {
                body.to_string()
            };
            connection.answer(format!(
                "HTTP/1.1 {status}\r\nReplay-Nonce: nonce\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

fn answer(base: &str, target: &str, window: Option<(u64, u64)>) -> (&'static str, String, Value) {
    match target.split('/').nth(1).unwrap_or_default() {
        "dir" => {
            let mut directory = json!({
                "newNonce": format!("{base}/nonce"),
                "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"),
            });
            if window.is_some() {
                directory["renewalInfo"] = format!("{base}/renewal").into();
            }
            ("200 OK", String::new(), directory)
        }
        "account" => {
            let location = format!("Location: {base}/account/1\r\n");
            ("201 Created", location, json!({ "status": "valid" }))
        }
        "renewal" => {
            let (start, end) = window.unwrap_or_default();
            let window =
                json!({ "suggestedWindow": { "start": rfc3339(start), "end": rfc3339(end) } });
            ("200 OK", "Retry-After: 21600\r\n".to_owned(), window)
        }
        "order" => {
            let problem = json!({
                "type": "urn:ietf:params:acme:error:rateLimited",
                "detail": "too many orders",
                "status": 429,
            });
            (
                "429 Too Many Requests",
                "Retry-After: 3600\r\n".to_owned(),
                problem,
            )
        }
        _ => ("200 OK", String::new(), Value::Null),
    }
}

/// Days and seconds are enough for a window.
fn rfc3339(secs: u64) -> String {
    let moment = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(secs);
    let date = moment.date();
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// A gateway that has a certificate ordered from an authority, good for as many days as given or
/// not there yet.
fn gateway(authority: &Origin, trust: &Authority, days: Option<u64>) -> Gateway {
    let site = Site::new();
    trust.save(site.path(), "trust");
    if let Some(days) = days {
        let end = SystemTime::now() + Duration::from_secs(days * 86_400);
        let issuer = Authority::new("issuer");
        let identity = issuer.issue_with(&["a.test"], |params| {
            params.not_after = end.into();
            params.use_authority_key_identifier_extension = true;
        });
        let bundle = format!("{}{}", identity.key_pem, identity.chain_pem);
        site.write("acme/certificates/a.pem", &bundle);
    }
    let config = r#"
listeners: [{ name: secure, bind: ["127.0.0.1:0"], tls: {} }]
acme:
  storage: acme
  issuers: [{ name: strict, directory: "https://<authority>/dir", terms_agreed: true, trust: trust.pem }]
certificates: [{ name: a, acme: { hosts: [a.test] } }]
domains: [{ hosts: [a.test], policies: { respond: {} } }]
"#;
    site.start(config, &[("authority", &authority.address())])
}

fn order(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/certs").json()[0]["source"]["order"].clone()
}

/// What an authority was told at a path, once it was told.
fn told(authority: &Origin, path: &str) -> Vec<Value> {
    let requests = || {
        let all = authority.requests();
        all.into_iter().filter(|seen| seen.target == path)
    };
    wait::until_true("the authority is told", || requests().next().is_some());
    let payload = |seen: cardea_tests::message::Request| {
        let signed: Value = serde_json::from_str(&seen.text()).expect("JSON");
        let payload = signed["payload"].as_str().expect("a payload");
        let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes());
        serde_json::from_slice(&payload.expect("base64url")).expect("JSON")
    };
    requests().map(payload).collect()
}

#[test]
fn an_authority_is_told_the_profile_and_whom_to_write_to() {
    let trust = Authority::new("trust");
    let authority = refusing(&trust, None);
    let gateway = gateway(&authority, &trust, None);
    assert_eq!(told(&authority, "/order")[0].get("profile"), None);
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let more = "terms_agreed: true, profile: shortlived, contact: [ops@a.test]";
    gateway.configure(&config.replace("terms_agreed: true", more), &[]);
    // The account stays: it is told apart from one that is made.
    let update = told(&authority, "/account/1");
    assert_eq!(update, [json!({ "contact": ["mailto:ops@a.test"] })]);
    wait::until_true("it is ordered with the profile", || {
        told(&authority, "/order")
            .last()
            .is_some_and(|order| order["profile"] == "shortlived")
    });
    // It is told once.
    let gateway = gateway.restart();
    gateway.stderr.wait_for_line("certificate_not_issued");
    assert_eq!(told(&authority, "/account/1").len(), 1);
    assert_eq!(told(&authority, "/account").len(), 1);
}

#[test]
fn an_authority_is_left_alone_for_as_long_as_it_says() {
    let trust = Authority::new("trust");
    let authority = refusing(&trust, None);
    let gateway = gateway(&authority, &trust, None);
    let line = gateway.stderr.wait_for("the refusal", |text| {
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.contains("certificate_not_issued"))
    });
    assert!(line.contains("too many orders"), "{line}");
    assert!(
        line.contains("tried again when the authority allows"),
        "{line}"
    );
    let next = order(&gateway)["next"].as_u64().expect("a moment");
    let wait = next.saturating_sub(now());
    assert!((3500..=3601).contains(&wait), "{wait}");
    let orders = authority.requests();
    let orders = orders.iter().filter(|seen| seen.target == "/order");
    assert_eq!(orders.count(), 1);
}

#[test]
fn a_certificate_is_renewed_when_the_authority_wants_it() {
    let trust = Authority::new("trust");
    // It has revoked it, say: the window is over.
    let authority = refusing(&trust, Some((now() - 7200, now() - 3600)));
    let gateway = gateway(&authority, &trust, Some(300));
    authority.wait_until("it is asked for another", |authority| {
        authority
            .requests()
            .iter()
            .any(|seen| seen.target == "/order")
    });
    // What there is goes on being served meanwhile.
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told[0]["is_stand_in"], false);
}

#[test]
fn a_certificate_is_left_alone_until_then() {
    let trust = Authority::new("trust");
    // By its age alone it would be due: two days of its four are over.
    let later = (now() + 86_400, now() + 90_000);
    let authority = refusing(&trust, Some(later));
    let gateway = gateway(&authority, &trust, Some(1));
    wait::until_true("the authority was asked", || {
        order(&gateway)["state"] == "good"
    });
    let next = order(&gateway)["next"].as_u64().expect("a moment");
    assert!((later.0 - 60..=later.1).contains(&next), "{next} {later:?}");
    let seen = authority.requests();
    assert!(seen.iter().all(|seen| seen.target != "/order"));
    assert!(seen.iter().any(|seen| seen.target.starts_with("/renewal/")));
}
