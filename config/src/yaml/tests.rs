//! What both readers read, what only one does, and that they agree.

use std::fmt::Write;

use proptest::prelude::*;

use super::outline::outlined;
use super::*;

fn full(text: &str) -> Result<String, String> {
    let tree = full::read(text, SourceId::default());
    tree.map(|tree| outlined(&tree)).map_err(|problem| {
        let origin = problem.origin.unwrap_or_default();
        let (code, message, label) = (problem.code, problem.message, problem.label);
        format!(
            "{}:{} {code} {message} / {label}",
            origin.line, origin.column
        )
    })
}

/// The readers agree if both read a text.
fn agree(text: &str) -> Result<bool, TestCaseError> {
    match quick::read(text, SourceId::default()) {
        Some(quick) => prop_assert_eq!(full(text), Ok(outlined(&quick)), "{:?}", text),
        None => return Ok(false),
    }
    Ok(true)
}

#[test]
fn what_the_quick_reader_reads() {
    let check = |text: &str, expected: &str| {
        let tree = quick::read(text, SourceId::default());
        let tree = tree.unwrap_or_else(|| panic!("left to the full reader: {text:?}"));
        assert_eq!(outlined(&tree), expected, "{text:?}");
        assert_eq!(full(text).as_deref(), Ok(expected), "{text:?}");
    };
    check("a: 1", "1:1 {1:1 a=1:4 1,}");
    check("---\na: 1\n", "2:1 {2:1 a=2:4 1,}");
    check(
        "# c\n\na: x y # c\nb:\nc: ~\n",
        "3:1 {3:1 a=3:4 x y,4:1 b=~,5:1 c=5:4 ~,}",
    );
    check(
        "a:\n  b: 1\n  c: 2\nd: 3\n",
        "1:1 {1:1 a=2:3 {2:3 b=2:6 1,3:3 c=3:6 2,},4:1 d=4:4 3,}",
    );
    check(
        "a:\n- 1\n- 2\nb: 3",
        "1:1 {1:1 a=[2:3 1,3:3 2,],4:1 b=4:4 3,}",
    );
    check(
        "a:\n  - 1\n  -\n  - - 2\n    - 3\n",
        "1:1 {1:1 a=[2:5 1,~,[4:7 2,5:7 3,],],}",
    );
    check(
        "- a: 1\n  b: 2\n-   c: 3\n",
        "[1:3 {1:3 a=1:6 1,2:3 b=2:6 2,},3:5 {3:5 c=3:8 3,},]",
    );
    check("-\n  a: 1\n-\n- b", "[2:3 {2:3 a=2:6 1,},~,4:3 b,]");
    check(
        "a: [x, 'y', \"z\", ]\n",
        "1:1 {1:1 a=[1:5 x,1:8 y',1:13 z',],}",
    );
    check(
        "a: { b: 1, c: [2], 'd': , e: x y }\n",
        "1:1 {1:1 a=1:4 {1:6 b=1:9 1,1:12 c=[1:16 2,],1:20 d'=~,1:27 e=1:30 x y,},}",
    );
    check(
        "a: [\n    x, # c\n\n    y,\n  ]\n",
        "1:1 {1:1 a=[2:5 x,4:5 y,],}",
    );
    check(
        "a: 'it''s'\nb: \"\\\"\\\\\\n\"\n",
        "1:1 {1:1 a=1:4 it's',2:1 b=2:4 \"\\\n',}",
    );
    check(
        "a: |\n  x\n    y\n\n  z\n\nb: |-\n  t\n",
        "1:1 {1:1 a=2:3 x\n  y\n\nz\n',7:1 b=8:3 t',}",
    );
    check(
        "\"404\": x\n'k y': z\n",
        "1:1 {1:1 404'=1:8 x,2:1 k y'=2:8 z,}",
    );
    check(
        "a: http://x:80/#y\r\nb: :80\r\n",
        "1:1 {1:1 a=1:4 http://x:80/#y,2:1 b=2:4 :80,}",
    );
    check(
        "a: ü # ö\nb: [é, è]\n",
        "1:1 {1:1 a=1:4 ü,2:1 b=[2:5 é,2:8 è,],}",
    );
    check("a: \"ü\"", "1:1 {1:1 a=1:4 ü',}");
}

#[test]
fn what_only_the_full_reader_reads() {
    let check = |text: &str, expected: &str| {
        assert!(quick::read(text, SourceId::default()).is_none(), "{text:?}");
        assert_eq!(full(text).as_deref(), Ok(expected), "{text:?}");
    };
    check("", "1:1 {}");
    check("# nothing\n", "1:1 {}");
    check("--- \n...\n", "1:1 {}");
    check("{a: 1}", "1:1 {1:2 a=1:5 1,}");
    check("a: x\n  y\n", "1:1 {1:1 a=1:4 x y,}");
    check("a: >\n  x\n  y\n", "1:1 {1:1 a=2:3 x y\n',}");
    check("a: [b: 1]\n", "1:1 {1:1 a=[1:5 {1:5 b=1:8 1,},],}");
    check("a: &x [1]\nb: *x\n", "1:1 {1:1 a=[1:8 1,],2:1 b=[1:8 1,],}");
    check(
        "a: &a { x: 1, y: 2 }\nb: { <<: *a, y: 3 }\nc: 4\n",
        "1:1 {1:1 a=1:7 {1:9 x=1:12 1,1:15 y=1:18 2,},2:1 b=2:4 {2:14 y=2:17 3,1:9 x=1:12 1,},3:1 c=3:4 4,}",
    );
    check(
        "a: &a { x: 1 }\nb: &b { y: 2, x: 0 }\nc: { <<: [*b, *a] }\nd: 1\n",
        "1:1 {1:1 a=1:7 {1:9 x=1:12 1,},2:1 b=2:7 {2:9 y=2:12 2,2:15 x=2:18 0,},3:1 c=3:4 {2:9 y=2:12 2,2:15 x=2:18 0,},4:1 d=4:4 1,}",
    );
    check(
        "a: { <<: &m { x: &v 1 }, w: 2 }\nb: *v\nc: *m\n",
        "1:1 {1:1 a=1:4 {1:26 w=1:29 2,1:15 x=1:21 1,},2:1 b=2:4 1,3:1 c=3:4 {1:15 x=1:21 1,},}",
    );
    check("\u{feff}a: 1", "1:1 {1:1 a=1:4 1,}");
    check("a: \"\\u00e9\"", "1:1 {1:1 a=1:4 é',}");
}

#[test]
fn what_is_refused() {
    let check = |text: &str, expected: &str| {
        assert!(quick::read(text, SourceId::default()).is_none(), "{text:?}");
        assert_eq!(full(text), Err(expected.to_owned()), "{text:?}");
    };
    check(
        "a: 1\n---\nb: 2\n",
        "2:1 E-yaml-documents a second YAML document / it begins here",
    );
    check(
        "%YAML 1.2\n---\na: 1\n",
        "1:1 E-yaml the file is not valid YAML / directives have no meaning here",
    );
    check(
        "a: 1\na: 2\n",
        "2:1 E-duplicate-key `a` stands here twice / the second one",
    );
    check(
        "a: { b: 1, \"b\": 2 }\n",
        "1:12 E-duplicate-key `b` stands here twice / the second one",
    );
    check("[a]: 1\n", "1:1 E-yaml-key a key must be text / ");
    check("a: !x 1\n", "1:4 E-yaml-tag tags have no meaning here / ");
    check(
        "a: *.example.com\n",
        "1:4 E-yaml-alias there is no anchor `&.example.com` for `*.example.com` / YAML reads `*` as a reference",
    );
    check(
        "a: &a [*a]\n",
        "1:8 E-yaml-alias an alias inside its own anchor / ",
    );
    check(
        "a: { <<: 1 }\n",
        "1:10 E-yaml-merge only a map can be merged / ",
    );
    check(
        "a:\n\tb: 1\n",
        "2:2 E-yaml the file is not valid YAML / there is a tab",
    );
    check(
        "a: b: c\n",
        "1:5 E-yaml the file is not valid YAML / there cannot be a `key: value` here",
    );
    check(
        "a: [1, 2\nb: 3\n",
        "2:2 E-yaml the file is not valid YAML / there cannot be a `key: value` here",
    );
    check(
        "a: \"x\nb: 1\n",
        "1:4 E-yaml the file is not valid YAML / these quotes are not closed",
    );
    check(
        "a: @x\n",
        "1:4 E-yaml the file is not valid YAML / no value begins with `@`",
    );
    check(
        "a: \"\\d\"\n",
        "1:4 E-yaml the file is not valid YAML / there is no such escape",
    );
    check(
        "a: 1\nbc\n",
        "2:1 E-yaml the file is not valid YAML / this fits neither the lines above nor a `key: value`",
    );
    check(
        "a: 1\n  b: 2\n",
        "2:4 E-yaml the file is not valid YAML / there cannot be a `key: value` here",
    );
    check(
        "a: \u{0}\n",
        "1:4 E-yaml the file is not valid YAML / no value begins with `\\0`",
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let deep = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(full(&deep(60)).is_ok());
    for depth in [66, 250, 10_000] {
        assert!(full(&deep(depth)).is_err(), "{depth}");
    }
    // Nine lists of nine aliases each, of lists of nine aliases each, and so on.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
    }
    assert!(full(&bomb).is_err_and(|error| error.contains("E-yaml-size")));
}

#[test]
fn repeated_keys_are_found_in_large_maps() {
    let mut text: String = (0..100).map(|key| format!("k{key}: 1\n")).collect();
    assert!(quick::read(&text, SourceId::default()).is_some());
    text.push_str("k50: 2\n");
    assert!(quick::read(&text, SourceId::default()).is_none());
    assert!(full(&text).is_err_and(|error| error.starts_with("101:1 E-duplicate-key")));
}

/// Texts made of what YAML is made of.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "a", "b", "key", "1", "-", "- ", ": ", ":", ":80", "\n", "\n", "\n  ", "\n    ", "\r\n",
        "  ", " ", "[", "]", "{", "}", ", ", ",", "'x'", "\"y\"", "''", "\"", "'", "# c", " # c\n",
        "|\n", "|-\n", ">\n", "~", "&a ", "*a", "<<: ", "---\n", "...\n", "\\", "\"\\n\"", "é",
        "?", "? ", "!t ", "@", "%", "`", "\t", "\u{feff}", "null", "/x", "$1", "(", ".", "_", "+",
        "=",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
}

/// Texts that are mostly valid.
fn documents() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "a",
        "x y",
        "'q'",
        "\"d\"",
        "1",
        "~",
        "",
        ":80",
        "http://h:1/p",
        "a#b",
        "'it''s'",
        "\"\\n\"",
        "a, b",
        "[a, b]",
        "{ a: 1 }",
        "[{ a: b }, [c]]",
        "{ a: , b: [ ] }",
        "x # c",
        "-1",
        "|\n      t\n      u",
        "é ö",
        "a:b",
        "[a,b]",
        "{a: b}",
        "[:80]",
        "[-1, 'x', \"y\" , z ]",
        "{ 'a': 1, \"b\": 2 }",
        "(x|y)",
        "[ a\n      , b ]",
    ]);
    let line = (
        0..4_usize,
        prop::sample::select(vec!["", "- ", "- - "]),
        "[a-d]?",
        scalar,
    );
    prop::collection::vec(line, 0..10).prop_map(|lines| {
        let mut text = String::new();
        for (indent, dash, key, value) in lines {
            let colon = if key.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "{}{dash}{key}{colon}{value}", "  ".repeat(indent));
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_readers_agree_on_scraps(text in scraps()) {
        agree(&text)?;
    }

    #[test]
    fn the_readers_agree_on_documents(text in documents()) {
        agree(&text)?;
    }

    #[test]
    fn no_text_makes_them_panic(text in any::<String>()) {
        agree(&text)?;
    }
}
