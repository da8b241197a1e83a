//! Policies see one kind of request: every case is asked over HTTP/1 and over HTTP/2, of gateways of
//! their own, and has to be answered alike.

use cardea_tests::http2::request;
use cardea_tests::{Fields, Gateway, Origin, Response};

use super::client;
use crate::fixture::with_routes;

/// What is asked, once or several times.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// The policies of the route.
    policies: &'static str,
    /// Where the route leads; empty for policies that answer.
    to: &'static str,
    method: &'static str,
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// The statuses, one for each time it is asked.
    statuses: &'static [u16],
}

const GET: Case = Case {
    policies: "{}",
    to: "origin",
    method: "GET",
    path: "/",
    fields: &[],
    body: "",
    statuses: &[200],
};

const CASES: &[Case] = &[
    GET,
    Case {
        policies: "{ rate_limit: { rate: 2, per: 1h } }",
        statuses: &[200, 200, 429, 429],
        ..GET
    },
    Case {
        policies: "{ rate_limit: { rate: 1, per: 1h, by: { header: x-key } } }",
        fields: &[("x-key", "one")],
        statuses: &[200, 429],
        ..GET
    },
    Case {
        policies: "{ redirect: { host: b.test, status: 308 } }",
        to: "",
        path: "/a?b=c",
        statuses: &[308],
        ..GET
    },
    Case {
        policies: "{ redirect: { scheme: https } }",
        to: "",
        method: "HEAD",
        statuses: &[308],
        ..GET
    },
    Case {
        policies: "{ respond: { status: 418, body: short } }",
        to: "",
        statuses: &[418],
        ..GET
    },
    Case {
        policies: "{ respond: { status: 418, body: short } }",
        to: "",
        method: "HEAD",
        statuses: &[418],
        ..GET
    },
    Case {
        policies: "{ header_edits: { request: { set: { x-new: one }, remove: [x-old] }, response: { set: { x-back: two }, remove: [content-type] } } }",
        fields: &[("x-old", "1"), ("x-kept", "2")],
        ..GET
    },
    Case {
        policies: "{ body_limit: 4 }",
        method: "POST",
        body: "four",
        ..GET
    },
    Case {
        policies: "{ body_limit: 4 }",
        method: "POST",
        body: "five!",
        statuses: &[413],
        ..GET
    },
    Case {
        policies: "{ ip_access: { deny: [127.0.0.0/8] } }",
        statuses: &[403],
        ..GET
    },
    Case {
        policies: "{ ip_access: { allow: [127.0.0.0/8] } }",
        ..GET
    },
    Case {
        policies: "{ cors: { allow_origins: [\"https://app.test\"], allow_methods: [GET, PUT], allow_headers: [x-key] } }",
        method: "OPTIONS",
        fields: &[
            ("origin", "https://app.test"),
            ("access-control-request-method", "PUT"),
        ],
        statuses: &[204],
        ..GET
    },
    Case {
        policies: "{ cors: { allow_origins: [\"https://app.test\"] } }",
        fields: &[("origin", "https://app.test")],
        ..GET
    },
    Case {
        policies: "{ cors: { allow_origins: [\"https://app.test\"] } }",
        fields: &[("origin", "https://evil.test")],
        ..GET
    },
    Case {
        policies: "{ rewrite: { path: { replace_full: /new } } }",
        path: "/old/x?y=z",
        ..GET
    },
    Case {
        policies: "{ timeouts: { upstream_head: 200ms } }",
        path: "/silent",
        statuses: &[504],
        ..GET
    },
    Case {
        policies: "{ timeouts: { request: 200ms } }",
        path: "/silent",
        statuses: &[504],
        ..GET
    },
];

/// An origin that says what it saw, in which nothing tells the versions apart.
fn echo() -> Origin {
    Origin::serve(|connection: &mut cardea_tests::origin::Connection| {
        while let Some(request) = connection.request() {
            if request.target == "/silent" {
                continue;
            }
            let told = |name: &str| {
                ![
                    "x-request-id",
                    "transfer-encoding",
                    "content-length",
                    "host",
                ]
                .contains(&name)
                    && !name.starts_with("x-forwarded")
                    && name != "via"
                    && name != "forwarded"
            };
            let mut fields: Vec<String> = request
                .fields
                .0
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .filter(|(name, _)| told(name))
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            fields.sort();
            let seen = format!(
                "{} {} {:?} {}",
                request.method,
                request.target,
                fields,
                request.text()
            );
            let length = if request.method == "HEAD" {
                String::new()
            } else {
                seen.clone()
            };
            connection.answer(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/x-seen\r\nContent-Length: {}\r\n\r\n{length}",
                seen.len()
            ));
        }
    })
}

/// What of a response has to be the same.
fn essence(response: &Response) -> (u16, Vec<(String, String)>, String) {
    let differs = [
        "connection",
        "date",
        "x-request-id",
        "transfer-encoding",
        "retry-after",
    ];
    let Fields(fields) = &response.fields;
    let mut fields: Vec<(String, String)> = fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| !differs.contains(&name.as_str()))
        // How soon it may come back depends on when it asks.
        .map(|(name, value)| match name.as_str() {
            "ratelimit" => (
                name,
                value.split(";t=").next().unwrap_or_default().to_owned(),
            ),
            "content-length" if response.status >= 400 => (name, String::new()),
            _ => (name, value),
        })
        .collect();
    fields.sort();
    // Every response of the gateway names its request.
    let text = response.text();
    let lines = text.lines().filter(|line| !line.starts_with("request: "));
    (
        response.status,
        fields,
        lines.collect::<Vec<_>>().join("\n"),
    )
}

fn over_http1(gateway: &Gateway, case: &Case) -> Response {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: a.test\r\n", case.method, case.path);
    for (name, value) in case.fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !case.body.is_empty() {
        head += &format!("Content-Length: {}\r\n", case.body.len());
    }
    let mut client = gateway.client();
    client.send(format!("{head}\r\n{}", case.body));
    client.response_to(case.method)
}

fn over_http2(gateway: &Gateway, case: &Case) -> Response {
    let mut fields = request(case.method, "a.test", case.path);
    fields.extend_from_slice(case.fields);
    let length = case.body.len().to_string();
    if !case.body.is_empty() {
        fields.push(("content-length", &length));
    }
    let mut client = client(gateway);
    let stream = client.open(&fields, case.body.is_empty());
    if !case.body.is_empty() {
        client.try_send_body(stream, case.body.as_bytes(), true);
    }
    client.response(stream)
}

#[test]
fn every_policy_answers_alike_over_both_versions() {
    for case in CASES {
        let origin = echo();
        let to = match case.to {
            "" => String::new(),
            to => format!(", to: {to}"),
        };
        let route = format!("{{ policies: {}{to} }}", case.policies);
        let old = with_routes(&origin, &[&route]);
        let new = with_routes(&origin, &[&route]);
        for (time, &status) in case.statuses.iter().enumerate() {
            let (one, two) = (over_http1(&old, case), over_http2(&new, case));
            let about = format!("{case:?}, time {time}\n{}", one.text());
            assert_eq!(one.status, status, "{about}");
            assert_eq!(essence(&one), essence(&two), "{about}");
        }
    }
}
