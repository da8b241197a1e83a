use std::collections::HashSet;

use super::*;

#[expect(clippy::boxed_local, reason = "replies are made boxed")]
fn body(reply: Box<Reply>, style: &ResponseStyle, accept: Option<&str>) -> (u16, String, String) {
    let rendered = render(*reply, style, accept.map(str::as_bytes), Some(b"id-1"));
    let fields = rendered
        .response
        .headers
        .iter()
        .map(|(_, name, value)| {
            format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            )
        })
        .collect::<Vec<_>>()
        .join("; ");
    (
        rendered.response.status,
        fields,
        String::from_utf8_lossy(&rendered.body).into_owned(),
    )
}

#[test]
fn codes_are_unique_and_stable_in_shape() {
    let mut seen = HashSet::new();
    for reason in Reason::ALL {
        assert!(seen.insert(reason.code()), "{} twice", reason.code());
        assert!(
            reason
                .code()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        assert!((200..600).contains(&reason.status()));
        assert!(reason.explanation().ends_with('.'));
    }
}

#[test]
fn the_body_follows_accept() {
    let check = |accept: Option<&str>, expected: &str| {
        let (_, fields, body) = body(
            Reply::new(Reason::RouteUnknown),
            &ResponseStyle::default(),
            accept,
        );
        assert!(fields.contains(expected), "{accept:?}: {fields}");
        assert!(
            body.contains("route_unknown") && body.contains("id-1"),
            "{body}"
        );
    };
    check(None, "text/plain");
    check(Some("*/*"), "text/plain");
    check(Some("text/html,application/json"), "text/plain");
    check(Some("application/json;q=0.9"), "application/problem+json");
}

#[test]
fn a_page_of_the_operator_wins_by_reason_then_status_then_class() {
    let page = |text: &str| Page {
        body: text.as_bytes().into(),
        content_type: "text/html".into(),
    };
    let mut style = ResponseStyle::default();
    style.pages.insert("4xx".into(), page("class"));
    assert_eq!(
        body(Reply::new(Reason::RouteUnknown), &style, None).2,
        "class"
    );
    style.pages.insert("404".into(), page("status"));
    assert_eq!(
        body(Reply::new(Reason::RouteUnknown), &style, None).2,
        "status"
    );
    style.pages.insert("route_unknown".into(), page("reason"));
    assert_eq!(
        body(Reply::new(Reason::RouteUnknown), &style, None).2,
        "reason"
    );
    assert_eq!(
        body(Reply::new(Reason::DomainUnknown), &style, None).2,
        "status"
    );
}

#[test]
fn statuses_without_a_body_have_none() {
    let (status, fields, body) = body(
        Reply::with_status(Reason::Answered, 204),
        &ResponseStyle::default(),
        None,
    );
    assert_eq!((status, body.as_str()), (204, ""));
    assert!(!fields.contains("content-type"));
}

#[test]
fn the_reason_header_is_opt_in() {
    let style = ResponseStyle {
        reason_header: Some(HeaderName::new("X-Why")),
        ..Default::default()
    };
    assert!(
        body(Reply::new(Reason::RateLimited), &style, None)
            .1
            .contains("x-why: rate_limited")
    );
}
