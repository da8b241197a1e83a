//! Documents with mistakes and what is said about them, word for word. Whoever changes a message
//! sees what it looks like: `CARDEA_BLESS=1 cargo test -p cardea-config diagnostic`.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::{load, parse};

/// The documents, and beside each what is said about it.
const GOLDEN: &str = "src/diagnostic/golden";

fn documents() -> Vec<PathBuf> {
    let entries = fs::read_dir(GOLDEN).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    paths.sort();
    assert!(paths.len() > 8, "{paths:?}");
    paths
}

fn findings(path: &Path) -> (Vec<Diagnostic>, Sources) {
    match load(path) {
        Ok(loaded) => (loaded.warnings, loaded.sources),
        Err(refused) => (refused.diagnostics, refused.sources),
    }
}

#[test]
fn everything_is_said_as_it_was() {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut stale = Vec::new();
    for path in documents() {
        let (found, sources) = findings(&path);
        let rendered = render(&found, &sources, false);
        let text = rendered.replace(here, "CONFIG").replace(GOLDEN, "GOLDEN") + "\n";
        let expected = path.with_extension("txt");
        if std::env::var_os("CARDEA_BLESS").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        let written = fs::read_to_string(&expected).unwrap_or_default();
        if written != text {
            stale.push(format!("{}:\n{text}", expected.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "{}\nif this is better: CARDEA_BLESS=1 cargo test -p cardea-config diagnostic",
        stale.join("\n")
    );
}

#[test]
fn every_finding_helps() {
    for path in documents() {
        let (found, sources) = findings(&path);
        assert!(!found.is_empty(), "{}", path.display());
        for one in &found {
            let shown = format!("{}: {one:?}", path.display());
            assert!(one.remedy.is_some(), "{shown} has no remedy");
            let is_there = |origin: Origin| {
                let source = sources.find(origin.source)?;
                let line = source.text.lines().nth(origin.line as usize - 1)?;
                (origin.column as usize <= line.chars().count() + 1).then_some(())
            };
            if let Some(origin) = one.origin {
                assert!(is_there(origin).is_some(), "{shown} is nowhere");
            }
        }
    }
}

#[test]
fn programs_read_the_same() {
    let (found, sources) = findings(Path::new("src/diagnostic/golden/twice.yaml"));
    let json = to_json(&found, &sources);
    assert_eq!(
        json,
        serde_json::json!([{
            "severity": "error",
            "code": "E-duplicate-key",
            "message": "`upstreams` stands here twice",
            "label": "the second one",
            "remedy": "keep one of them",
            "file": "src/diagnostic/golden/twice.yaml",
            "line": 5,
            "column": 1,
            "related": [{
                "file": "src/diagnostic/golden/twice.yaml",
                "line": 2,
                "column": 1,
                "label": "the first one",
            }],
        }])
    );
    assert_eq!(
        brief(&found, &sources),
        "src/diagnostic/golden/twice.yaml:5:1: error[E-duplicate-key]: `upstreams` stands here twice; keep one of them\n"
    );
    assert_eq!(summary(&found), "1 error, 0 warnings");
}

/// Rendering never fails, wherever a finding says it is.
#[test]
fn any_place_can_be_shown() {
    let texts = ["", "\n", "a: ü\r\nb: [\"", "a: 'x", "é"];
    for text in texts {
        let sources = match parse(text, "x.yaml") {
            Ok(loaded) => loaded.sources,
            Err(refused) => refused.sources,
        };
        for (line, column) in [
            (0, 0),
            (1, 0),
            (1, 1),
            (1, 4),
            (1, 99),
            (2, 1),
            (2, 4),
            (99, 1),
        ] {
            let origin = Origin {
                line,
                column,
                ..Origin::default()
            };
            let found = [Diagnostic::error("E-value", Some(origin), "wrong")
                .related(origin, "here too")
                .remedy("mend it")];
            for color in [false, true] {
                let shown = render(&found, &sources, color);
                assert!(
                    shown.contains("wrong") && shown.contains("mend it"),
                    "{shown}"
                );
            }
            assert!(brief(&found, &sources).ends_with("error[E-value]: wrong; mend it\n"));
        }
    }
}

#[test]
fn of_very_many_findings_the_first_are_shown() {
    let items = "\n  - nothing".repeat(500);
    let refused = parse(&format!("listeners:{items}\n"), "x.yaml").unwrap_err();
    assert_eq!(refused.diagnostics.len(), 500);
    let shown = refused.render(false);
    assert!(shown.contains("… and 400 more"), "{shown}");
    assert!(shown.ends_with("500 errors, 0 warnings"), "{shown}");
}
