//! The schema and the reference are current, and every example keeps to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value};

use super::{reference, schema, text};
use crate::decode::{Problems, Reading, decode};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Certificate, Document, Domain, Listener, Match, Route, Upstream};
use crate::origin::{Located, SourceId, Sources};
use crate::yaml::{self, Kind, Node};

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check_current(path: &str, expected: &str) {
    let file = workspace(path);
    if std::env::var_os("CARDEA_BLESS").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == expected,
        "{path} is out of date: CARDEA_BLESS=1 cargo test -p cardea-config schema"
    );
}

#[test]
fn the_written_schema_is_current() {
    check_current("docs/reference/configuration.schema.json", &text());
}

#[test]
fn the_reference_page_is_current() {
    let example = read(&workspace("config/examples/full.yaml"));
    let page = reference::page(&schema(), &example);
    check_current("docs/reference/configuration.md", &page);
}

/// The parts of JSON Schema that our schema uses. What a document may say, an editor must not
/// underline.
struct Checker<'s> {
    schema: &'s Value,
    /// The fields that were seen, by definition.
    seen: BTreeSet<String>,
}

impl<'s> Checker<'s> {
    fn new(schema: &'s Value) -> Self {
        Self {
            schema,
            seen: BTreeSet::new(),
        }
    }

    fn check(&mut self, schema: &'s Value, node: Node<'_>, name: &str) -> Result<(), String> {
        let here = node.origin();
        let wrong = |what: &str| Err(format!("{}:{} {name}: {what}", here.line, here.column));
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            return self.check(&self.schema["$defs"][name], node, name);
        }
        for choices in [&schema["anyOf"], &schema["oneOf"]] {
            let Some(choices) = choices.as_array() else {
                continue;
            };
            let tried = choices.iter().map(|one| {
                let mut attempt = Self {
                    schema: self.schema,
                    seen: BTreeSet::new(),
                };
                attempt.check(one, node, name).map(|()| attempt.seen)
            });
            let tried: Vec<_> = tried.collect();
            let Some(seen) = tried.iter().flatten().next() else {
                return wrong(&format!("none of {tried:?}"));
            };
            self.seen.extend(seen.iter().cloned());
            return Ok(());
        }
        if schema["const"] != Value::Null && schema["const"] != scalar(node) {
            return wrong(&format!("not {}", schema["const"]));
        }
        if schema["type"] == Value::Null {
            return Ok(());
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => vec![kind.as_str().unwrap_or_default()],
        };
        match (node.kind(), scalar(node)) {
            (Kind::Map(_), _) if kinds.contains(&"object") => self.fields(schema, node, name),
            (Kind::List(mut items), _) if kinds.contains(&"array") => {
                items.try_for_each(|item| self.check(&schema["items"], item, name))
            }
            (_, Value::Bool(_)) if kinds.contains(&"boolean") => Ok(()),
            (_, Value::Number(number)) if kinds.contains(&"integer") => {
                let number = number.as_i64();
                let least = schema["minimum"].as_i64();
                let most = schema["maximum"].as_i64();
                if number < least || most.is_some_and(|most| number > Some(most)) {
                    return wrong("out of range");
                }
                Ok(())
            }
            (_, Value::Number(_)) if kinds.contains(&"number") => Ok(()),
            (_, Value::String(text)) if kinds.contains(&"string") => {
                let pattern = schema["pattern"].as_str().unwrap_or_default();
                if !Regex::new(pattern).unwrap().is_match(&text) {
                    return wrong("no match");
                }
                Ok(())
            }
            _ => wrong(&format!("none of {kinds:?}")),
        }
    }

    fn fields(&mut self, schema: &'s Value, map: Node<'_>, name: &str) -> Result<(), String> {
        let Kind::Map(pairs) = map.kind() else {
            return Err(format!("{name} is no map"));
        };
        let mut keys = BTreeSet::new();
        for (key, value) in pairs {
            let text = key.text().unwrap_or_default();
            keys.insert(text.to_owned());
            let patterns = schema["patternProperties"].as_object();
            let fits = |pattern: &str| Regex::new(pattern).unwrap().is_match(text);
            let by_pattern = patterns.and_then(|all| all.iter().find(|(it, _)| fits(it)));
            let inner = match (&schema["properties"][text], by_pattern) {
                (Value::Null, Some((_, inner))) => inner,
                (Value::Null, None) => &schema["additionalProperties"],
                (inner, _) => {
                    self.seen.insert(format!("{name}.{text}"));
                    inner
                }
            };
            if !inner.is_object() {
                return Err(format!("{}: {name} has no {text}", key.origin().line));
            }
            self.check(inner, value, &format!("{name}.{text}"))?;
        }
        let required = schema["required"].as_array().into_iter().flatten();
        let missing = required
            .filter_map(Value::as_str)
            .find(|it| !keys.contains(*it));
        missing.map_or(Ok(()), |field| Err(format!("{name} lacks {field}")))
    }
}

/// A scalar as an editor takes it (YAML 1.2, core schema).
fn scalar(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Scalar { text, plain: true } => match (text, text.parse::<i64>()) {
            ("true" | "false", _) => Value::Bool(text == "true"),
            (_, Ok(number)) => number.into(),
            _ if node.is_null() => Value::Null,
            _ => text.into(),
        },
        Kind::Scalar { text, .. } => text.into(),
        _ => Value::Null,
    }
}

fn conforms(text: &str, what: &str) -> BTreeSet<String> {
    let schema = schema();
    let tree = yaml::read(text, SourceId::default()).unwrap();
    let mut checker = Checker::new(&schema);
    let checked = checker.check(&schema, tree.root(), "Document");
    assert_eq!(checked, Ok(()), "{what}");
    checker.seen
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = schema();
    let check = |text: &str| {
        let tree = yaml::read(text, SourceId::default()).unwrap();
        Checker::new(&schema).check(&schema, tree.root(), "Document")
    };
    assert_eq!(check("admin: off\nworkers: 2\n"), Ok(()));
    for text in [
        "listenrs: []",
        "workers: many",
        "workers: -1",
        "admin: on",
        "listeners: [{ name: web }]",
        "shutdown: { grace: 30 }",
        "upstreams: { \"a b\": {} }",
        "policies: { redirect: { status: 200 } }",
    ] {
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn examples_load_and_keep_to_the_schema() {
    let directory = workspace("config/examples");
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let loaded = crate::load(&path).unwrap_or_else(|it| panic!("{}", it.render(false)));
        let warnings = brief(&loaded.warnings, &loaded.sources);
        assert!(warnings.is_empty(), "{warnings}");
        conforms(&read(&path), &path.display().to_string());
        count += 1;
    }
    assert!(count >= 2, "the examples are in {}", directory.display());
}

/// The fields of all definitions, as `Definition.field`.
fn all_fields(schema: &Value) -> BTreeSet<String> {
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap();
    let document = ("Document", schema);
    let all = definitions.iter().map(|(name, it)| (name.as_str(), it));
    all.chain([document])
        .flat_map(|(name, it)| {
            let fields = it["properties"].as_object().unwrap_or(&none);
            fields.keys().map(move |field| format!("{name}.{field}"))
        })
        .collect()
}

#[test]
fn the_full_example_has_every_field() {
    let seen = conforms(&read(&workspace("config/examples/full.yaml")), "full.yaml");
    let all = all_fields(&schema());
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The YAML blocks of a page, and the line each begins on.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.trim_start()) {
            (None, "```yaml") => open = Some((number + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// What is wrong with a text as a part of a document; only a whole one has to have all parts.
fn mistakes<T: for<'de> serde::Deserialize<'de>>(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("block".into(), text.into());
    let reading = Reading::start();
    reading.enter(Path::new(""));
    let mut problems = Problems::default();
    match yaml::read(text, id) {
        Ok(tree) => drop(decode::<T>(tree.root(), &mut problems)),
        Err(problem) => problems.add(*problem),
    }
    let mut found = problems.into_found();
    // The variables of whoever reads the page are not set here.
    found.retain(|it| Diagnostic::is_error(it) && !it.message.contains("environment variable"));
    (!found.is_empty()).then(|| brief(&found, &sources))
}

/// What is wrong with a document that can be read, besides what sections that it leaves out would have.
fn unsound(text: &str) -> Option<String> {
    const ELSEWHERE: [(&str, &str); 7] = [
        ("E-no-listener", "listeners:"),
        ("E-unknown-listener", "listeners:"),
        ("E-unknown-certificate", "certificates:"),
        ("E-unknown-upstream", "upstreams:"),
        ("E-no-certificate", "certificates:"),
        ("E-no-acme", "acme:"),
        ("E-no-redis", "redis:"),
    ];
    let mut refused = crate::parse(text, "block").err()?;
    refused.diagnostics.retain(|it| {
        let is_elsewhere = ELSEWHERE.iter().any(|(code, section)| {
            it.code == *code && !text.lines().any(|line| line.starts_with(section))
        });
        let is_variable = it.message.contains("environment variable");
        it.is_error() && !is_elsewhere && !is_variable
    });
    (!refused.diagnostics.is_empty()).then(|| brief(&refused.diagnostics, &refused.sources))
}

#[test]
fn what_the_docs_show_can_be_written() {
    let mut pages = vec![workspace("README.md")];
    for directory in ["docs/guides", "docs/reference", "docs/adr", "docs"] {
        let entries = fs::read_dir(workspace(directory)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let (mut count, mut whole) = (0, 0);
    for page in pages
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "md"))
    {
        for (line, block) in blocks(&read(page)) {
            let kinds = [
                mistakes::<Document>,
                mistakes::<Vec<Located<Domain>>>,
                mistakes::<Vec<Located<Route>>>,
                mistakes::<Vec<Located<Certificate>>>,
                mistakes::<Vec<Located<Match>>>,
                mistakes::<Match>,
                mistakes::<Listener>,
                mistakes::<Domain>,
                mistakes::<Route>,
                mistakes::<Upstream>,
            ];
            let found: Vec<_> = kinds.iter().map(|kind| kind(&block)).collect();
            if found[0].is_none() {
                if let Some(wrong) = unsound(&block) {
                    panic!("{}:{line}:\n{block}\n{wrong}", page.display());
                }
                whole += u32::from(crate::parse(&block, "block").is_ok());
            }
            let is_readable = found.iter().any(Option::is_none);
            let (first, page) = (found[0].as_deref().unwrap_or_default(), page.display());
            assert!(
                is_readable,
                "{page}:{line}:\n{block}\nas a document: {first}"
            );
            count += 1;
        }
    }
    assert!(
        count > 50 && whole > 12,
        "{count} blocks, {whole} of them complete"
    );
}
