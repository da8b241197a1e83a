//! What is found in a value with many mistakes, and that nothing passes that has one.

use proptest::prelude::*;

use super::*;
use crate::diagnostic::brief;
use crate::model::{Document, Listener, Period, Route};
use crate::origin::Sources;

fn read<T: for<'de> Deserialize<'de>>(text: &str) -> (Option<T>, Vec<String>) {
    let mut problems = Problems::default();
    let value = match crate::yaml::read(text, SourceId::default()) {
        Ok(tree) => decode(tree.root(), &mut problems),
        Err(problem) => {
            problems.add(*problem);
            None
        }
    };
    let mut sources = Sources::default();
    sources.add("x".into(), text.into());
    let mut found = problems.into_found();
    found.sort_by_key(|it| it.origin);
    let found = brief(&found, &sources);
    (value, found.lines().map(str::to_owned).collect())
}

/// Where something is found, and its code.
fn places<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<String> {
    let (_, found) = read::<T>(text);
    let place = |line: &String| {
        let (place, _) = line.split_once("]:")?;
        Some(place.replace(": error[", " ").replacen("x:", "", 1))
    };
    found.iter().filter_map(place).collect()
}

#[test]
fn one_mistake_does_not_hide_another() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(places::<Document>(text), expected, "{text}");
    };
    // In the same item, before and after what is right.
    check(
        "listeners:\n  - name: web\n    bind: [x, ':1', y]\n    timeouts: { head: 10, idle: 1s, handshake: z }\n",
        &[
            "3:12 E-value",
            "3:21 E-value",
            "4:23 E-value",
            "4:48 E-value",
        ],
    );
    // In the items around it.
    check(
        "listeners: [x, { name: a, bind: [b] }, [], { bind: [] }]\n",
        &[
            "1:13 E-value",
            "1:34 E-value",
            "1:40 E-value",
            "1:44 E-missing-field",
        ],
    );
    // In values and keys of maps.
    check(
        "upstreams:\n  'a b': { limits: { requests_max: x } }\n  c: 1\n  d: { endpoints: [1], tls: { verify: maybe } }\n",
        &["2:3 E-value", "3:6 E-value", "4:20 E-value", "4:39 E-value"],
    );
    // In fields that are no fields, and beside them.
    check(
        "wrokers: 1\nshutdown: { grace: 1, grac: 2 }\nadmin: { bnd: x }\n",
        &[
            "1:1 E-unknown-field",
            "2:20 E-value",
            "2:23 E-unknown-field",
            "3:10 E-unknown-field",
        ],
    );
    // Inside what can be switched off, and what has two forms.
    check(
        "access_log: { to: nowhere, queue_lines_max: x }\npolicies: { rate_limit: [{ rate: 0 }, { rate: 1, per: x }, 3], body_limit: 1x }\n",
        &[
            "1:19 E-value",
            "1:45 E-value",
            "2:34 E-value",
            "2:55 E-value",
            "2:60 E-value",
            "2:76 E-value",
        ],
    );
}

#[test]
fn what_follows_from_a_mistake_is_no_second_one() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(places::<Document>(text), expected, "{text}");
    };
    // The name is there, only wrong; the list is not empty, only wrong.
    check("listeners: [{ name: 'a b', bind: [] }]", &["1:21 E-value"]);
    check(
        "listeners: [{ nam: a, bind: [] }]",
        &["1:15 E-unknown-field"],
    );
    check(
        "policies: { cors: { allow_origins: [x] } }",
        &["1:37 E-value"],
    );
    // A file that is nothing that a document is.
    check("[a, b]", &["1:1 E-value"]);
    check("a", &["1:1 E-value"]);
}

#[test]
fn every_item_may_be_wrong() {
    let items: String = (0..3000).map(|number| format!("- {number}\n")).collect();
    assert_eq!(places::<Vec<Located<Listener>>>(&items).len(), 3000);
    assert_eq!(places::<Vec<Located<Route>>>(&items).len(), 3000);
    let text: String = (0..50).map(|field| format!("f{field}: 1\n")).collect();
    assert_eq!(places::<Document>(&text).len(), 50);
}

#[test]
fn origins_are_where_values_begin() {
    let (listeners, found) = read::<Vec<Located<Listener>>>(
        "- name: a\n  bind: [':1', \":2\"]\n- { name: b, bind: [] }\n",
    );
    assert_eq!(found, [""; 0]);
    let listeners = listeners.unwrap();
    let place = |origin: Origin| (origin.line, origin.column);
    let places: Vec<_> = listeners.iter().map(|it| place(it.origin)).collect();
    assert_eq!(places, [(1, 3), (3, 3)]);
    let binds: Vec<_> = listeners[0]
        .bind
        .iter()
        .map(|it| place(it.origin))
        .collect();
    assert_eq!(binds, [(2, 10), (2, 16)]);
}

#[test]
fn scalars_have_the_type_of_their_field() {
    let (periods, found) = read::<Vec<Period>>("[1s, '2s', \"3s\"]");
    assert_eq!((periods.map(|it| it.len()), found.len()), (Some(3), 0));
    // A name may look like a number, a boolean or nothing in quotes.
    for name in ["80", "true", "'~'", "1.0", "0x1f"] {
        let text = format!("{{ name: {name}, bind: [] }}");
        let (listener, found) = read::<Listener>(&text);
        let is_name = listener.is_some_and(|it| it.name.as_str() == name.trim_matches('\''));
        assert_eq!(is_name, name != "'~'", "{name}: {found:?}");
    }
}

#[test]
fn suggestions() {
    let check = |name: &str, known: &[&str], expected: &str| {
        assert_eq!(suggestion(name, known), expected);
    };
    check(
        "listner",
        &["listeners", "domains"],
        "did you mean `listeners`?",
    );
    check(
        "round-robin",
        &["random", "round_robin"],
        "did you mean `round_robin`?",
    );
    check("HTTPS", &["http", "https"], "did you mean `https`?");
    check("xyz", &["http", "https"], "there is: http, https");
    check("a", &["b"], "there is: b");
    check("x", &[], "there is none");
    let many: Vec<String> = (0..30).map(|number| format!("upstream-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(suggestion("zzz", &many).ends_with("and 10 more"));
}

/// A listener with some of its parts wrong, and how many are.
fn listeners() -> impl Strategy<Value = (String, usize)> {
    let part = |right: &'static str, wrong: &'static str| {
        any::<bool>().prop_map(move |is_wrong| match is_wrong {
            true => (wrong, 1),
            false => (right, 0),
        })
    };
    let parts = (
        part("a", "'a b'"),
        part("':1'", "x"),
        part("1", "zero"),
        part("1s", "1"),
        part("'1.3'", "'1.4'"),
        part("hosts: [a]", "host: [a]"),
    );
    parts.prop_map(|(name, bind, connections, head, version, hosts)| {
        let text = format!(
            "{{ name: {}, bind: ['[::1]:2', {}], connections_max: {}, timeouts: {{ head: {}, idle: 2s }}, tls: {{ min_version: {} }}, {} }}",
            name.0, bind.0, connections.0, head.0, version.0, hosts.0
        );
        let wrong = name.1 + bind.1 + connections.1 + head.1 + version.1 + hosts.1;
        (text, wrong)
    })
}

proptest! {
    #[test]
    fn all_mistakes_are_counted(items in prop::collection::vec(listeners(), 1..6)) {
        let text: String = items.iter().map(|(text, _)| format!("- {text}\n")).collect();
        let expected: usize = items.iter().map(|(_, wrong)| wrong).sum();
        let (value, found) = read::<Vec<Located<Listener>>>(&text);
        prop_assert_eq!(found.len(), expected, "{}\n{:#?}", text, found);
        prop_assert!(value.is_some());
    }
}
