//! Normal forms and refusals, the advisories behind them, and properties: a normal path stays as
//! it is, nothing grows, and a second implementation agrees.

use proptest::prelude::*;

use super::*;

const STRICT: PathRules = PathRules {
    keep_encoded_slashes: false,
    merge_slashes: true,
};
const LENIENT: PathRules = PathRules {
    keep_encoded_slashes: true,
    merge_slashes: false,
};

fn normal(path: &[u8], rules: &PathRules) -> Result<String, PathError> {
    let mut out = b"left over".to_vec();
    normalise(path, rules, &mut out)?;
    Ok(String::from_utf8(out).expect("a normal path is ASCII"))
}

fn check(path: &str, expected: Result<&str, PathError>) {
    let expected = expected.map(str::to_owned);
    assert_eq!(normal(path.as_bytes(), &STRICT), expected, "{path}");
}

fn check_lenient(path: &str, expected: Result<&str, PathError>) {
    let expected = expected.map(str::to_owned);
    assert_eq!(
        normal(path.as_bytes(), &LENIENT),
        expected,
        "{path} (lenient)"
    );
}

#[test]
fn normal_paths_are_borrowed() {
    for path in [
        "/",
        "*",
        "/a/b/c",
        "/a/b/",
        "/a.b/c..d/e.",
        "/a-b_c~d",
        "/!$&'()*+,;=:@|[x]",
        "/a;b=c/d",
    ] {
        let mut room = Vec::new();
        assert_eq!(
            normalised(path.as_bytes(), &STRICT, &mut room),
            Ok(path.as_bytes())
        );
        assert!(room.is_empty(), "{path}");
        check(path, Ok(path));
    }
}

#[test]
fn normal_paths_that_look_otherwise_stay() {
    for path in [
        "/.well-known/x",
        "/...",
        "/..a/.b",
        "/caf%C3%A9",
        "/a%20b",
        "/%E9t%E9",
        "/100%25",
    ] {
        check(path, Ok(path));
    }
}

#[test]
fn unreserved_characters_are_decoded_once() {
    check("/%61%62%7Ac", Ok("/abzc"));
    check("/%7euser/%41%2D%5f%30", Ok("/~user/A-_0"));
    check("/caf%c3%a9", Ok("/caf%C3%A9"));
    check("/%3a%40%21", Ok("/%3A%40%21"));
    check("/%2561", Ok("/%2561"));
    check("/%252e%252e/a", Ok("/%252e%252e/a"));
    check("/a%23b%3fc", Ok("/a%23b%3Fc"));
}

#[test]
fn dot_segments_are_resolved() {
    check("/./a", Ok("/a"));
    check("/a/.", Ok("/a/"));
    check("/a/./", Ok("/a/"));
    check("/a/..", Ok("/"));
    check("/a/../", Ok("/"));
    check("/a/b/../c", Ok("/a/c"));
    check("/a/b/..", Ok("/a/"));
    check("/a/b/../..", Ok("/"));
    check("/.", Ok("/"));
    check("/./.", Ok("/"));
    check("/a/%2e%2E/b", Ok("/b"));
    check("/a/.%2e/b", Ok("/b"));
    check("/a/%2e/b", Ok("/a/b"));
}

#[test]
fn slashes_are_merged_unless_told() {
    check("//", Ok("/"));
    check("//a", Ok("/a"));
    check("/a//b///c", Ok("/a/b/c"));
    check("/a//", Ok("/a/"));
    check("/a//../b", Ok("/b"));
    check("/a/.//b", Ok("/a/b"));
    check_lenient("//", Ok("//"));
    check_lenient("//a", Ok("//a"));
    check_lenient("/a//b///c", Ok("/a//b///c"));
    // RFC 3986 section 5.2.4: an empty segment is a segment.
    check_lenient("/a//../b", Ok("/a/b"));
    check_lenient("/a//..", Ok("/a/"));
    check_lenient("/a//.", Ok("/a//"));
    check_lenient("/a/..//b", Ok("//b"));
}

#[test]
fn what_climbs_above_the_root_is_refused() {
    for path in [
        "/..",
        "/../",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/./..",
        "/%2e%2e",
        "//..",
    ] {
        check(path, Err(PathError::AboveRoot));
    }
    check_lenient("//..", Ok("/"));
    check_lenient("//../..", Err(PathError::AboveRoot));
}

#[test]
fn what_is_no_path_is_refused() {
    check("", Err(PathError::NotAbsolute));
    check("a", Err(PathError::NotAbsolute));
    check("**", Err(PathError::NotAbsolute));
    check("%2Fa", Err(PathError::NotAbsolute));
    for path in [
        "/%", "/%4", "/%zz", "/%4z", "/a%", "/%%41", "/%u002f", "/%+1", "/% 1", "/%4/1",
    ] {
        check(path, Err(PathError::BadEscape));
    }
    for path in [
        "/a b", "/a\"", "/<a>", "/a?b", "/a#b", "/a^b", "/{a}", "/a`", "/é",
    ] {
        check(path, Err(PathError::Character));
    }
}

#[test]
fn control_characters_are_refused_however_they_are_written() {
    for path in ["/%00", "/a%0d%0aHost:x", "/%1f", "/%7F", "/a.html%00.png"] {
        check(path, Err(PathError::Control));
        check_lenient(path, Err(PathError::Control));
    }
    for path in ["/\0", "/a\tb", "/a\r\nb", "/\x7f"] {
        check(path, Err(PathError::Control));
    }
}

#[test]
fn encoded_slashes_are_kept_only_when_told() {
    for path in ["/a%2fb", "/a%2Fb", "/%2f", "/a%5cb", "/a%5Cb"] {
        check(path, Err(PathError::EncodedSlash));
    }
    check_lenient("/a%2fb", Ok("/a%2Fb"));
    check_lenient("/a%5cb/%2f", Ok("/a%5Cb/%2F"));
    // The double escape is an escaped percent sign, nothing else.
    check("/a%252fb", Ok("/a%252fb"));
    check("/a\\b", Err(PathError::Backslash));
    check_lenient("/a\\..\\b", Err(PathError::Backslash));
}

#[test]
fn written_paths_are_encoded() {
    let check = |path: &str, expected: Result<&str, PathError>| {
        let found = normalise_written(path, &LENIENT);
        let found = found.map(|path| String::from_utf8(path).expect("ASCII"));
        assert_eq!(found, expected.map(str::to_owned), "{path}");
    };
    check("/café", Ok("/caf%C3%A9"));
    check("/caf%c3%a9", Ok("/caf%C3%A9"));
    check("/a b/{c}", Ok("/a%20b/%7Bc%7D"));
    check("/%7ea/./b", Ok("/~a/b"));
    check("/a\\b", Err(PathError::Backslash));
    check("/a\tb", Err(PathError::Control));
    check("/100%", Err(PathError::BadEscape));
    check("a", Err(PathError::NotAbsolute));
    check("*", Err(PathError::NotAbsolute));
    check("", Err(PathError::NotAbsolute));
}

// Each of the following is named after the advisory whose mistake it shows. Those about routes,
// CVE-2026-73511 and CVE-2026-73553, are with the route table; CVE-2026-27588 is with the hosts.

/// Envoy matched routes and rules against paths with dot segments in them.
#[test]
fn cve_2019_9901_dot_segments_do_not_reach_routes() {
    check("/info/../private", Ok("/private"));
    check("/public/%2e%2e/admin", Ok("/admin"));
    check("/public/..%2Fadmin", Err(PathError::EncodedSlash));
}

/// Envoy did not treat encoded slashes as anything, and origins decoded them.
#[test]
fn cve_2021_29492_encoded_slashes_hide_no_dot_segments() {
    for path in [
        "/something%2F..%2Fadmin",
        "/something%2f%2e%2e%2fadmin",
        "/something%5c..%5cadmin",
        "/..%2fadmin",
        "/a/..%5c..%5cadmin",
    ] {
        check(path, Err(PathError::EncodedSlash));
        check_lenient(path, Err(PathError::EncodedSlash));
    }
    check_lenient("/a%2F.%2Fb", Err(PathError::EncodedSlash));
    check_lenient("/a%2F..;x/b", Err(PathError::EncodedSlash));
    check_lenient("/a%2F...%2Fb", Ok("/a%2F...%2Fb"));
}

/// Envoy did not recognise dot segments with parameters, which servlet containers resolve.
#[test]
fn cve_2026_73551_dot_segments_with_parameters_are_refused() {
    for path in [
        "/user/..;foo=bar/admin",
        "/user/..;/admin",
        "/user/.;/admin",
        "/user/.;x",
        "/user/%2e%2e;x/admin",
        "/user/..%3b/admin",
        "/user/..%3Bx;y/admin",
        "/..;/admin",
    ] {
        check(path, Err(PathError::DotParameters));
        check_lenient(path, Err(PathError::DotParameters));
    }
    check("/user/...;x/a", Ok("/user/...;x/a"));
    check("/user/a..;x/b", Ok("/user/a..;x/b"));
    check("/user/;../b", Ok("/user/;../b"));
}

/// Caddy compared paths with escapes in another way than paths without: here the digits of an
/// escape have one case, and nothing else about a path ignores case.
#[test]
fn cve_2026_27587_escapes_change_nothing_about_case() {
    check_lenient("/admin%2fpanel", Ok("/admin%2Fpanel"));
    check_lenient("/ADMIN%2fpanel", Ok("/ADMIN%2Fpanel"));
    check("/%41dmin", Ok("/Admin"));
}

/// The classic of decoders that do not check for the shortest form.
#[test]
fn overlong_utf8_is_refused() {
    for path in [
        "/%c0%ae%c0%ae/admin",
        "/a%c0%afb",
        "/a%C1%9Cb",
        "/a%e0%80%afb",
        "/a%f0%80%80%afb",
        "/%e0%80%ae",
    ] {
        check(path, Err(PathError::Overlong));
    }
    // What is not UTF-8 at all is Latin-1 to many an old site.
    check("/%c0/x", Ok("/%C0/x"));
    check("/%c0a", Ok("/%C0a"));
    check("/%e0%a0%80", Ok("/%E0%A0%80"));
    check("/%f0%90%80%80", Ok("/%F0%90%80%80"));
    check("/%c0a%af", Ok("/%C0a%AF"));
}

/// Whatever comes, one spelling of a slash or dot is all that a route ever sees.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/", "/", "/", ".", "..", "a", "B", "~", "%2e", "%2E", "%2f", "%5C", "%61", "%7e", "%3b",
        ";", ";x=1", "%", "%2", "%00", "%c0", "%af", "%c3%a9", "%25", "\\", " ", "é", ":", "//",
    ])
}

fn path() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(piece(), 0..12);
    pieces.prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn rules() -> impl Strategy<Value = PathRules> {
    (any::<bool>(), any::<bool>()).prop_map(|(keep_encoded_slashes, merge_slashes)| PathRules {
        keep_encoded_slashes,
        merge_slashes,
    })
}

/// The same rules, told step by step over whole strings.
fn told_slowly(path: &str, rules: &PathRules) -> Option<String> {
    let bytes = path.as_bytes();
    let mut decoded = String::new();
    let mut at = 0;
    let mut before = None;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte != b'%' {
            let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/[]|".contains(&byte);
            decoded.push(char::from(byte));
            before = None;
            at += 1;
            if !allowed {
                return None;
            }
            continue;
        }
        let value = u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?;
        at += 3;
        let starts_overlong = match before {
            Some(0xc0 | 0xc1) => value & 0xc0 == 0x80,
            Some(0xe0) => value & 0xe0 == 0x80,
            Some(0xf0) => value & 0xf0 == 0x80,
            _ => false,
        };
        let is_slash = matches!(value, b'/' | b'\\');
        if starts_overlong || value.is_ascii_control() || (is_slash && !rules.keep_encoded_slashes)
        {
            return None;
        }
        before = Some(value);
        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
            decoded.push(char::from(value));
        } else {
            decoded.push_str(&format!("%{value:02X}"));
        }
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    for (place, segment) in segments.iter().enumerate() {
        let is_last = place + 1 == segments.len();
        match *segment {
            "" if !is_last && rules.merge_slashes => {}
            "." => kept.extend(is_last.then_some("")),
            ".." => {
                kept.pop()?;
                kept.extend(is_last.then_some(""));
            }
            other => {
                let parts = other.replace("%5C", "%2F");
                let hides_dots = parts
                    .split("%2F")
                    .map(|part| part.replace("%3B", ";"))
                    .any(|part| matches!(part.split(';').next(), Some("." | "..")));
                if hides_dots {
                    return None;
                }
                kept.push(other);
            }
        }
    }
    Some(format!("/{}", kept.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn agrees_with_the_slow_telling(path in path(), rules in rules()) {
        prop_assert_eq!(normal(path.as_bytes(), &rules).ok(), told_slowly(&path, &rules));
    }

    #[test]
    fn what_is_normal_stays(path in path(), rules in rules()) {
        if let Ok(once) = normal(path.as_bytes(), &rules) {
            prop_assert!(once.len() <= path.len());
            prop_assert_eq!(normal(once.as_bytes(), &rules), Ok(once));
        }
    }

    #[test]
    fn nothing_dangerous_is_left(path in path(), rules in rules()) {
        if let Ok(path) = normal(path.as_bytes(), &rules) {
            prop_assert!(path.starts_with('/'));
            prop_assert!(path.bytes().all(|byte| is_path_byte(byte) || byte == b'%'));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!rules.merge_slashes || !path.contains("//"));
            prop_assert!(rules.keep_encoded_slashes || !path.contains("%2F"));
        }
    }

    #[test]
    fn any_bytes_are_survived(path in prop::collection::vec(any::<u8>(), 0..40), rules in rules()) {
        let mut room = Vec::new();
        let borrowed = normalised(&path, &rules, &mut room).map(<[u8]>::to_vec);
        let mut out = Vec::new();
        let written = normalise(&path, &rules, &mut out).map(|()| out);
        prop_assert_eq!(borrowed, written);
    }
}
