//! An authority that says no, played by an origin: its limits are kept, and its wishes heard.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::origin::Connection;
use cardea_tests::{Client, Gateway, Origin, tls, wait};
use serde_json::{Value, json};

use super::authority::{Ca, Replaces};

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
pub(super) fn rfc3339(secs: u64) -> String {
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

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// A gateway that has a certificate ordered from an authority, good for as many days as given or
/// not there yet.
fn gateway(authority: &Origin, trust: &Authority, days: Option<u64>) -> Gateway {
    gateway_with(authority, trust, days, 33)
}

fn gateway_with(
    authority: &Origin,
    trust: &Authority,
    days: Option<u64>,
    percent_left: u8,
) -> Gateway {
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
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    start(site, authority, certificates, percent_left)
}

fn start(site: Site, authority: &Origin, certificates: &str, percent_left: u8) -> Gateway {
    let config = format!(
        r#"
listeners: [{{ name: secure, bind: ["127.0.0.1:0"], tls: {{}} }}]
acme:
  storage: acme
  issuers: [{{ name: strict, directory: "https://<authority>/dir", terms_agreed: true, trust: trust.pem, renew_at_percent_left: {percent_left} }}]
certificates: {certificates}
domains: [{{ hosts: [a.test], policies: {{ respond: {{}} }} }}]
"#
    );
    site.start(&config, &[("authority", &authority.address())])
}

/// A gateway that has certificates ordered from an authority that issues.
pub(super) fn gateway_of(ca: &Ca, certificates: &str) -> Gateway {
    let site = Site::new();
    ca.trust.save(site.path(), "trust");
    start(site, &ca.origin, certificates, 33)
}

/// As `gateway_of`, with a certificate for `a.test` that is there already.
fn gateway_with_bundle(ca: &Ca, days: u64) -> Gateway {
    gateway(&ca.origin, &ca.trust, Some(days))
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
    requests().map(|seen| payload(&seen)).collect()
}

/// What a request has to say, without the signature.
pub(super) fn payload(seen: &cardea_tests::message::Request) -> Value {
    let signed: Value = serde_json::from_str(&seen.text()).expect("JSON");
    let payload = signed["payload"].as_str().expect("a payload");
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes());
    serde_json::from_slice(&payload.expect("base64url")).expect("JSON")
}

#[test]
fn an_authority_is_told_the_profile_and_whom_to_write_to() {
    let ca = Ca::new();
    // What is refused without a word about when to come back may be tried otherwise at once.
    ca.refuse("400 Bad Request", "rejectedIdentifier", "not that one");
    let gateway = gateway_of(&ca, "[{ name: a, acme: { hosts: [a.test] } }]");
    assert_eq!(told(&ca.origin, "/new-order")[0].get("profile"), None);
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let with = |profile: &str| {
        let more = format!("terms_agreed: true, profile: {profile}, contact: [ops@a.test]");
        config.replace("terms_agreed: true", &more)
    };
    let is_ordered_with = |profile: &str| {
        wait::until_true("it is ordered with the profile", || {
            told(&ca.origin, "/new-order")
                .last()
                .is_some_and(|order| order["profile"] == profile)
        });
    };
    gateway.configure(&with("shortlived"), &[]);
    // The account stays: it is told apart from one that is made.
    let update = told(&ca.origin, "/account/1");
    assert_eq!(update, [json!({ "contact": ["mailto:ops@a.test"] })]);
    is_ordered_with("shortlived");
    // It is told once.
    let gateway = gateway.restart();
    gateway.stderr.wait_for_line("certificate_waiting");
    gateway.configure(&with("classic"), &[]);
    is_ordered_with("classic");
    assert_eq!(told(&ca.origin, "/account/1").len(), 1);
    assert_eq!(told(&ca.origin, "/account").len(), 1);
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
    // By its age alone it would be due: five of its seven days are over.
    let later = (now() + 3600, now() + 7200);
    let authority = refusing(&trust, Some(later));
    let gateway = gateway_with(&authority, &trust, Some(2), 80);
    wait::until_true("the authority was asked", || {
        order(&gateway)["state"] == "good"
    });
    let next = order(&gateway)["next"].as_u64().expect("a moment");
    assert!((later.0..=later.1).contains(&next), "{next} {later:?}");
    let seen = authority.requests();
    assert!(seen.iter().all(|seen| seen.target != "/order"));
    assert!(seen.iter().any(|seen| seen.target.starts_with("/renewal/")));
}

#[test]
fn a_certificate_is_not_left_alone_until_its_end() {
    let trust = Authority::new("trust");
    // The window is around the end of its thirty-two days.
    let end = now() + 30 * 86_400;
    let authority = refusing(&trust, Some((end - 60, end + 86_400)));
    let gateway = gateway(&authority, &trust, Some(30));
    wait::until_true("the authority was asked", || {
        order(&gateway)["state"] == "good"
    });
    let left = end - order(&gateway)["next"].as_u64().expect("a moment");
    let days = left / 86_400;
    assert!((4..8).contains(&days), "{days} days are left");
}

/// Waits until all certificates are in a state.
fn wait_for_all(gateway: &Gateway, names: &[String], state: &str) {
    wait::until_true("all certificates are so", || {
        let told = gateway.admin("GET", "/certs").json();
        let told = told.as_array().cloned().unwrap_or_default();
        told.len() == names.len()
            && told
                .iter()
                .all(|it| it["source"]["order"]["state"] == state)
    });
}

#[test]
fn a_limit_of_the_account_holds_for_all_its_certificates_and_over_restarts() {
    let ca = Ca::new();
    let head = "429 Too Many Requests\r\nRetry-After: 3600";
    ca.refuse(head, "rateLimited", "too many new orders from this account");
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    let each = names.iter();
    let each = each.map(|name| format!("{{ name: {name}, acme: {{ hosts: [{name}.test] }} }}"));
    let each: Vec<String> = each.collect();
    let gateway = gateway_of(&ca, &format!("[{}]", each.join(", ")));
    wait_for_all(&gateway, &names, "waiting");
    // Those that were under way already, and nobody after them.
    let orders = ca.orders().len();
    assert!((1..=4).contains(&orders), "{orders}");
    let next = order(&gateway)["next"].as_u64().expect("a moment");
    assert!((3500..=3601).contains(&(next - now())), "{next}");
    let gateway = gateway.restart();
    wait_for_all(&gateway, &names, "waiting");
    let next = order(&gateway)["next"].as_u64().expect("a moment");
    assert!((3400..=3601).contains(&(next - now())), "{next}");
    assert_eq!(ca.orders().len(), orders);
}

#[test]
fn a_limit_of_one_host_is_none_for_others() {
    let ca = Ca::new();
    let head = "429 Too Many Requests\r\nRetry-After: 3600";
    ca.refuse(
        head,
        "rateLimited",
        "too many failed authorizations (5) for \"a.test\"",
    );
    let certificate = "{ name: a, acme: { hosts: [a.test] } }";
    let gateway = gateway_of(&ca, &format!("[{certificate}]"));
    gateway.stderr.wait_for_line("certificate_not_issued");
    ca.relent();
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let more = format!("{certificate}, {{ name: b, acme: {{ hosts: [b.test] }} }}");
    gateway.configure(&config.replace(certificate, &more), &[]);
    gateway.stderr.wait_for("the other one", |text| {
        let mut lines = text.lines();
        lines.find(|line| line.contains("certificate_stored") && line.contains("certificate=b"))?;
        Some(())
    });
    assert_eq!(order(&gateway)["state"], "waiting");
    assert_eq!(ca.orders().len(), 2);
}

#[test]
fn a_host_that_must_not_be_ordered_is_not_wished_for_again() {
    let ca = Ca::new();
    let head = "429 Too Many Requests\r\nRetry-After: 3600";
    ca.refuse(
        head,
        "rateLimited",
        "too many failed authorizations (5) for \"x.w.test\"",
    );
    let rule = "[{ name: w, acme: { on_demand: { allow: [\"*.w.test\"] } } }]";
    let gateway = gateway_of(&ca, rule);
    let ask = |gateway: &Gateway| {
        let config = ca.client();
        Client::try_connect_tls(gateway.listener("secure"), &config, "x.w.test").is_ok()
    };
    assert!(!ask(&gateway));
    gateway.stderr.wait_for_line("certificate_dropped");
    ca.relent();
    // Over a restart as well.
    let gateway = gateway.restart();
    assert!(!ask(&gateway));
    let line = gateway.stderr.wait_for_line("certificate_denied");
    assert!(line.contains("not tried again before"), "{line}");
    assert_eq!(ca.orders().len(), 1);
}

#[test]
fn a_renewal_says_what_it_replaces_and_does_without_where_that_is_refused() {
    let check = |replaces: Replaces, expected: &[bool]| {
        let ca = Ca::with(replaces);
        ca.wants_renewed_until(1);
        let gateway = gateway_with_bundle(&ca, 300);
        gateway.stderr.wait_for_line("certificate_stored");
        let orders = ca.orders();
        let told = orders.iter().map(|order| order.get("replaces").is_some());
        assert_eq!(told.collect::<Vec<_>>(), expected, "{replaces:?}");
        wait::until_true("it is served", || {
            let address = gateway.listener("secure");
            Client::try_connect_tls(address, &ca.client(), "a.test").is_ok()
        });
        // Nothing more comes of it.
        wait::until_true("it is good", || order(&gateway)["state"] == "good");
        assert_eq!(ca.orders().len(), expected.len(), "{replaces:?}");
        assert_eq!(gateway.generation(), 1);
    };
    check(Replaces::Echoed, &[true]);
    check(Replaces::Refused, &[true, false]);
    check(Replaces::Ignored, &[true]);
}
