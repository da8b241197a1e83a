//! What docs/guides/routing.md shows is what happens.

use super::*;

/// A section of the guide, from its heading to the next.
fn section(heading: &str) -> &'static str {
    const GUIDE: &str = include_str!("../../../../../docs/guides/routing.md");
    let (_, rest) = GUIDE
        .split_once(&format!("\n{heading}\n"))
        .expect("the heading");
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The routes of the first example in a section.
fn example(section: &str) -> Vec<Located<Route>> {
    let (_, rest) = section.split_once("```yaml\n").expect("an example");
    let (yaml, _) = rest.split_once("```").expect("the end of the example");
    let lines: Vec<&str> = yaml.lines().map(|line| line.trim_start()).collect();
    routes(&lines.join("\n"))
}

/// The rows of all tables in a section, as cells without quotes.
fn rows(section: &str) -> Vec<Vec<String>> {
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells = row.trim_matches(['|', ' ']).split(" | ");
        cells
            .map(|cell| cell.replace('`', "").trim().to_owned())
            .collect()
    })
    .collect()
}

fn label(routes: &[Located<Route>], found: Result<usize, NoRoute>) -> String {
    match found {
        Ok(at) => routes[at].label(at).into_owned(),
        Err(NoRoute::Ambiguous) => "refused".to_owned(),
        Err(NoRoute::Unmatched) => "none".to_owned(),
    }
}

#[test]
fn precedence() {
    let section = section("## Precedence");
    let routes = example(section);
    let table = RouteTable::compile(&routes).expect("routes that compile");
    let rows = rows(section);
    let requests: Vec<_> = rows.iter().filter(|row| row[0].contains(" /")).collect();
    assert_eq!(requests.len(), 6);
    for row in requests {
        assert_eq!(
            label(&routes, find(&table, &row[0], &[])),
            row[1],
            "{}",
            row[0]
        );
    }
}

#[test]
fn normal_forms_and_refusals() {
    let section = section("## Paths")
        .split("\n### ")
        .next()
        .expect("a section");
    let mut seen = 0;
    for row in rows(section) {
        let [_, examples, outcome] = row.as_slice() else {
            continue;
        };
        for path in examples.split(", ").filter(|path| path.starts_with('/')) {
            let mut out = Vec::new();
            let found = match normalise(path.as_bytes(), &PathRules::default(), &mut out) {
                Ok(()) => String::from_utf8(out).expect("a path is ASCII"),
                Err(error) if error.is_ambiguity() => "path_ambiguous".to_owned(),
                Err(_) => "path_invalid".to_owned(),
            };
            assert_eq!(found, *outcome, "{path}");
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
}

#[test]
fn paths_that_can_be_read_twice() {
    let section = section("### Paths that can be read twice");
    let routes = example(section);
    let table = RouteTable::compile(&routes).expect("routes that compile");
    let rows = rows(section);
    let requests: Vec<_> = rows.iter().filter(|row| row[0].starts_with('/')).collect();
    assert_eq!(requests.len(), 4);
    for row in requests {
        let found = label(&routes, find(&table, &format!("GET {}", row[0]), &[]));
        let expected = row[1].split([',', ':']).next().expect("an outcome");
        assert_eq!(found, expected, "{}", row[0]);
    }
}
