//! Normalising a path, once: the result is matched, authorised and forwarded. Percent-encoded
//! unreserved characters are decoded, hexadecimal digits become upper case, dot segments are
//! resolved and repeated slashes merged (RFC 3986 §6.2.2). What origins read in different ways is
//! refused: encoded slashes and backslashes unless kept, encoded NUL and controls, dot segments
//! with parameters (`..;`), and anything that climbs above the root.
//!
//! Must not: change a path whose bytes already are what they mean.

/// How paths are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// Whether `%2F` and `%5C` stay as they are instead of being refused.
    pub keep_encoded_slashes: bool,
    /// Whether `//` becomes `/`.
    pub merge_slashes: bool,
}

impl Default for PathRules {
    fn default() -> Self {
        Self {
            keep_encoded_slashes: false,
            merge_slashes: true,
        }
    }
}

/// Why a path cannot be normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("a percent sign without two hexadecimal digits")]
    BadEscape,
    /// An encoded control character.
    #[error("an encoded control character in the path")]
    Control,
    /// A character that recipients read in different ways.
    #[error("a backslash in the path, which some origins take for a slash")]
    Backslash,
    /// An encoded slash or backslash.
    #[error("an encoded slash in the path, which some origins decode and some do not")]
    EncodedSlash,
    /// A dot segment with parameters.
    #[error("a dot segment with parameters, which some origins resolve and some do not")]
    DotParameters,
    /// A dot segment that climbs above the root.
    #[error("the path climbs above its root")]
    AboveRoot,
}

impl PathError {
    /// Whether the path means different things to different recipients, rather than nothing.
    pub fn is_ambiguity(self) -> bool {
        matches!(
            self,
            Self::Backslash | Self::EncodedSlash | Self::DotParameters | Self::AboveRoot
        )
    }
}

/// Writes the normalised path to `out`, in place of what it held.
pub fn normalise(path: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path) {
        out.extend_from_slice(path);
        return Ok(());
    }
    decode(path, rules, out)?;
    resolve(out, rules)
}

/// Whether nothing in the path could need a change or a refusal.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let special = matches!(byte, b'%' | b'\\' | 0..=0x20 | 0x7f)
            || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        !special
    })
}

/// Decodes what is unreserved, and puts the rest of the escapes in upper case.
fn decode(path: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err(PathError::Backslash),
            0..=0x20 | 0x7f => return Err(PathError::Control),
            b'%' => {
                let digit = |byte: Option<u8>| {
                    byte.and_then(|byte| char::from(byte).to_digit(16))
                        .ok_or(PathError::BadEscape)
                };
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                let decoded = (high * 16 + low) as u8;
                match decoded {
                    0..=0x1f | 0x7f => return Err(PathError::Control),
                    b'/' | b'\\' if !rules.keep_encoded_slashes => {
                        return Err(PathError::EncodedSlash);
                    }
                    _ if is_unreserved(decoded) => out.push(decoded),
                    _ => {
                        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                        out.push(b'%');
                        out.push(DIGITS[high as usize]);
                        out.push(DIGITS[low as usize]);
                    }
                }
            }
            other => out.push(other),
        }
    }
    Ok(())
}

/// Resolves dot segments and merges slashes, in place: the result is never longer.
fn resolve(out: &mut Vec<u8>, rules: &PathRules) -> Result<(), PathError> {
    let (mut read, mut write) = (0, 0);
    // Where the segments written so far begin, so that `..` can take the last one back.
    let mut starts: Vec<usize> = Vec::new();
    while read < out.len() {
        // `read` stands at a slash.
        let start = read + 1;
        let end = out
            .iter()
            .skip(start)
            .position(|&byte| byte == b'/')
            .map_or(out.len(), |at| start + at);
        let is_last = end == out.len();
        let segment = out.get(start..end).unwrap_or_default();
        let name = segment
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default();
        let is_dots = matches!(name, b"." | b"..");
        if is_dots && name.len() != segment.len() {
            return Err(PathError::DotParameters);
        }
        match name {
            b"." if is_dots => {
                if is_last {
                    write = push_slash(out, write, rules);
                }
            }
            b".." if is_dots => {
                write = starts.pop().ok_or(PathError::AboveRoot)?;
                if is_last {
                    write = push_slash(out, write, rules);
                }
            }
            b"" if !is_last && rules.merge_slashes => {}
            _ => {
                starts.push(write);
                out.copy_within(read..end, write);
                write += end - read;
            }
        }
        read = end;
    }
    out.truncate(write);
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(())
}

/// Ends the path in a slash: a path that ends in a dot segment names a directory.
fn push_slash(out: &mut [u8], write: usize, rules: &PathRules) -> usize {
    let ends_in_slash = write > 0 && out.get(write - 1) == Some(&b'/');
    if ends_in_slash && rules.merge_slashes {
        return write;
    }
    if let Some(byte) = out.get_mut(write) {
        *byte = b'/';
    }
    write + 1
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Result<String, PathError> {
        let mut out = Vec::new();
        normalise(path.as_bytes(), &PathRules::default(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn paths_become_what_they_mean() {
        let check = |path: &str, expected: &str| {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        };
        check("/", "/");
        check("/a/b.c/d", "/a/b.c/d");
        check("/a//b///c", "/a/b/c");
        check("//a", "/a");
        check("/a//", "/a/");
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/a/b/..", "/a/");
        check("/a/b/.", "/a/b/");
        check("/a/..", "/");
        check("/.", "/");
        check("/%61%2D%2e%5f", "/a-._");
        check("/%e4%bd", "/%E4%BD");
        check("/a/%2e%2E/b", "/b");
        check("/a;x=1/b", "/a;x=1/b");
        check("/...", "/...");
        check("/.a", "/.a");
        check("/a%20b", "/a%20b");
    }

    #[test]
    fn path_confusion_is_refused() {
        let check = |path: &str, expected: PathError| {
            assert_eq!(normal(path), Err(expected), "{path}");
        };
        check("/..", PathError::AboveRoot);
        check("/../etc/passwd", PathError::AboveRoot);
        check("/a/../../b", PathError::AboveRoot);
        check("/a/%2e%2e/%2e%2e/b", PathError::AboveRoot);
        check("/a%2fb", PathError::EncodedSlash);
        check("/a%5cb", PathError::EncodedSlash);
        check("/public/..%2fadmin", PathError::EncodedSlash);
        check("/a\\b", PathError::Backslash);
        check("/a/..;/b", PathError::DotParameters);
        check("/a/.;x/b", PathError::DotParameters);
        check("/a/%2e%2e;/b", PathError::DotParameters);
        check("/a%00b", PathError::Control);
        check("/a%0d%0ab", PathError::Control);
        check("/a%7f", PathError::Control);
        check("/a%", PathError::BadEscape);
        check("/a%2", PathError::BadEscape);
        check("/a%zz", PathError::BadEscape);
        check("a", PathError::NotAbsolute);
        check("", PathError::NotAbsolute);
    }

    #[test]
    fn encoded_slashes_may_be_kept_and_are_no_slashes() {
        let rules = PathRules {
            keep_encoded_slashes: true,
            ..PathRules::default()
        };
        let mut out = Vec::new();
        normalise(b"/a%2f..%2fb", &rules, &mut out).unwrap();
        assert_eq!(out, b"/a%2F..%2Fb");
    }

    #[test]
    fn slashes_may_be_left_alone() {
        let rules = PathRules {
            merge_slashes: false,
            ..PathRules::default()
        };
        let mut out = Vec::new();
        normalise(b"/a//b/../c", &rules, &mut out).unwrap();
        assert_eq!(out, b"/a//c");
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent(path in "/[a-z./%2eEfF5c;\\\\]{0,24}", merge in any::<bool>(), keep in any::<bool>()) {
            let rules = PathRules { keep_encoded_slashes: keep, merge_slashes: merge };
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            if normalise(path.as_bytes(), &rules, &mut once).is_ok() {
                prop_assert_eq!(normalise(&once, &rules, &mut twice), Ok(()));
                prop_assert_eq!(&once, &twice);
                prop_assert!(once.starts_with(b"/"));
                let has_dots = once.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b".."));
                prop_assert!(!has_dots);
            }
        }
    }
}
