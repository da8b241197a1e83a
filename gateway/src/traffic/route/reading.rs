//! What else an origin could take a normal path for. Some origins cut parameters (`;…`) off every
//! segment, some decode escapes before they split a path, some merge slashes; none of that can be
//! seen from here, and refusing every path that could be read twice would refuse honest ones. So
//! the table looks such a path up in every reading, and refuses it only if they disagree about
//! the route: then one of them would get past the policies of the other.
//!
//! Must not: make a path into what is matched or forwarded. A reading is only ever compared.

use super::normalise::{PathRules, escape_value, is_path_byte, normalise};

/// What origins do to a path before they look at it.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Cuts the parameters off every segment, as servlet containers do.
    Strip,
    /// Cuts everything off from the first semicolon.
    Cut,
    /// Decodes the escapes of whatever may stand in a path as it is, slashes included.
    Decode,
}

/// The readings, as the steps that lead to them. An order matters where a parameter hides behind
/// an escape, or an escape behind a parameter.
const READINGS: [&[Step]; 7] = [
    &[],
    &[Step::Strip],
    &[Step::Cut],
    &[Step::Decode],
    &[Step::Strip, Step::Decode],
    &[Step::Decode, Step::Strip],
    &[Step::Decode, Step::Cut],
];

/// Whether a part of a normal path has other readings at all. Nearly none has, so this is the
/// only part that has to be quick.
#[inline]
pub(super) fn has_others(part: &[u8]) -> bool {
    let after = part.get(1..).unwrap_or_default();
    let has_double_slash = part.iter().zip(after).fold(false, |found, (&byte, &next)| {
        found | ((byte == b'/') & (next == b'/'))
    });
    has_double_slash
        || match memchr::memchr2(b';', b'%', part) {
            None => false,
            Some(at) => has_meaning(part.get(at..).unwrap_or_default()),
        }
}

/// Whether a semicolon or the escape of a character that could stand there as it is follows.
#[cold]
fn has_meaning(part: &[u8]) -> bool {
    part.contains(&b';') || part.windows(3).any(|three| decoded(three).is_some())
}

/// Every reading of a normal path, each in normal form; `None` for one that is none, because it
/// climbs above the root or the like.
pub(super) fn all(path: &[u8]) -> impl Iterator<Item = Option<Vec<u8>>> {
    READINGS.iter().flat_map(move |steps| {
        let read = steps
            .iter()
            .fold(path.to_vec(), |path, step| step.take(&path));
        [true, false].map(|merge_slashes| {
            let rules = PathRules {
                keep_encoded_slashes: true,
                merge_slashes,
            };
            let mut out = Vec::new();
            normalise(&read, &rules, &mut out).ok().map(|()| out)
        })
    })
}

impl Step {
    fn take(self, path: &[u8]) -> Vec<u8> {
        match self {
            Self::Strip => strip(path),
            Self::Cut => path
                .split(|&byte| byte == b';')
                .next()
                .unwrap_or_default()
                .to_vec(),
            Self::Decode => decode(path),
        }
    }
}

fn strip(path: &[u8]) -> Vec<u8> {
    let mut is_parameter = false;
    let mut out = path.to_vec();
    out.retain(|&byte| {
        is_parameter = byte == b';' || (is_parameter && byte != b'/');
        !is_parameter
    });
    out
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.get(..3).and_then(decoded) {
            Some(value) => {
                out.push(value);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// What an escape stands for, if that could stand in a path as it is. A backslash is a slash to
/// those who decode it.
fn decoded(escape: &[u8]) -> Option<u8> {
    let [b'%', high, low] = *escape else {
        return None;
    };
    match escape_value(Some(high), Some(low))? {
        b'\\' => Some(b'/'),
        value => is_path_byte(value).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_with_another_reading_are_looked_at_twice() {
        let check = |path: &str, expected: bool| {
            assert_eq!(has_others(path.as_bytes()), expected, "{path}");
        };
        for plain in [
            "",
            "/",
            "/a/b.c",
            "/a:b@c",
            "/caf%C3%A9",
            "/a%20b%25",
            "/a%",
            "/a%2",
        ] {
            check(plain, false);
        }
        for other in [
            "/a;b",
            "//",
            "/a//b",
            "/a%2Fb",
            "/a%5Cb",
            "/a%3Bb",
            "/%C3%A9%3Ab",
            "/a%20;",
        ] {
            check(other, true);
        }
    }

    #[test]
    fn readings() {
        let check = |path: &str, expected: &[&str]| {
            let mut found: Vec<String> = all(path.as_bytes())
                .map(|reading| match reading {
                    Some(path) => String::from_utf8(path).expect("a path is ASCII"),
                    None => "none".to_owned(),
                })
                .filter(|reading| reading != path)
                .collect();
            found.sort();
            found.dedup();
            assert_eq!(found, expected, "{path}");
        };
        check("/a/b", &[]);
        check("/a;x=1/b", &["/a", "/a/b"]);
        check("/a;/b;/c", &["/a", "/a/b/c"]);
        check("/a%3Bx/b", &["/a", "/a/b", "/a;x/b"]);
        check("/a%2Fb", &["/a/b"]);
        check("/a%2F%2Fb", &["/a//b", "/a/b"]);
        check("/a//b", &["/a/b"]);
        check("/a%5Cb", &["/a/b"]);
        check("/a%3Ab", &["/a:b"]);
        check(
            "/x;y%2Fz/admin",
            &["/x", "/x/admin", "/x/z/admin", "/x;y/z/admin"],
        );
        // Normalising refuses these; should it ever not, they are still no path to anywhere.
        check("/x%2F..%2F..%2Fadmin", &["none"]);
        check("/..;/x", &["none"]);
        check("/caf%C3%A9", &[]);
    }
}
