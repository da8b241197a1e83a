//! Normalising a path, once: the result is what routes match, policies authorise and the upstream
//! is sent. It comes between finding the domain and finding the route.
//!
//! What two spellings have in common becomes one (RFC 3986 section 6.2.2): percent-encoded
//! unreserved characters are decoded, the digits of other escapes become upper case, dot segments
//! are resolved, and repeated slashes become one unless they are to be kept. What origins read in
//! different ways is refused: encoded slashes and backslashes unless they are to be kept, encoded
//! control characters, dot segments with parameters, overlong UTF-8, and what climbs above the
//! root. Whatever else is escaped stays escaped, so that no byte gains a meaning on the way.
//!
//! Must not: change a path that is normal, or read an escape twice.

use std::borrow::Cow;

use cardea_config::model::{EncodedSlashes, HttpLimits};

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

impl From<&HttpLimits> for PathRules {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            keep_encoded_slashes: limits.encoded_slashes == EncodedSlashes::Keep,
            merge_slashes: limits.merge_slashes,
        }
    }
}

/// Why a path cannot be normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A byte that has to be encoded.
    #[error("a character in the path that has to be percent-encoded")]
    Character,
    /// A `%` without two hexadecimal digits.
    #[error("a percent sign without two hexadecimal digits")]
    BadEscape,
    /// An encoded control character.
    #[error("an encoded control character in the path")]
    Control,
    /// An overlong encoding in UTF-8, in which careless decoders find a slash or a dot.
    #[error("an overlong UTF-8 sequence in the path")]
    Overlong,
    /// A backslash.
    #[error("a backslash in the path, which some origins take for a slash")]
    Backslash,
    /// An encoded slash or backslash.
    #[error("an encoded slash or backslash in the path, which some origins decode and some do not")]
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
        match self {
            Self::Overlong
            | Self::Backslash
            | Self::EncodedSlash
            | Self::DotParameters
            | Self::AboveRoot => true,
            Self::NotAbsolute | Self::Character | Self::BadEscape | Self::Control => false,
        }
    }
}

/// The normal form of a path: itself if it is normal, otherwise written to `room`.
///
/// # Errors
/// The path cannot be normalised; `room` then holds nothing of use.
#[inline]
pub fn normalised<'p>(
    path: &'p [u8],
    rules: &PathRules,
    room: &'p mut Vec<u8>,
) -> Result<&'p [u8], PathError> {
    if is_plain(path) {
        return Ok(path);
    }
    rewrite(path, rules, room)?;
    Ok(room)
}

/// Writes the normal form of a path to `out`, in place of what it held.
///
/// # Errors
/// The path cannot be normalised; `out` then holds nothing of use.
#[inline]
pub fn normalise(path: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    if is_plain(path) {
        out.clear();
        out.extend_from_slice(path);
        return Ok(());
    }
    rewrite(path, rules, out)
}

/// The normal form of a path that somebody wrote by hand, where it is no mistake to leave a
/// character unencoded: `/café` is `/caf%C3%A9`.
///
/// # Errors
/// The path cannot be normalised.
pub fn normalise_written(path: &str, rules: &PathRules) -> Result<Vec<u8>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let mut out = Vec::new();
    normalise(&encoded(path.as_bytes()), rules, &mut out)?;
    Ok(out)
}

/// Encodes what may not stand in a path as it is. Escapes stay; control characters and
/// backslashes stay too, to be refused.
fn encoded(path: &[u8]) -> Cow<'_, [u8]> {
    let stays = |byte: u8| is(byte, PLAIN) || byte == b'%' || byte == b'\\' || is_control(byte);
    if path.iter().all(|&byte| stays(byte)) {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len() + 16);
    for &byte in path {
        if stays(byte) {
            out.push(byte);
        } else {
            push_escape(byte, &mut out);
        }
    }
    Cow::Owned(out)
}

/// May stand in a path and means only itself. RFC 3986 section 3.3, and `[`, `]` and `|`, which
/// browsers send unescaped.
const PLAIN: u8 = 1;
/// Unreserved (RFC 3986 section 2.3): its escape means the same as itself.
const UNRESERVED: u8 = 2;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class_of(byte as u8);
        byte += 1;
    }
    classes
}

const fn class_of(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        return PLAIN | UNRESERVED;
    }
    match byte {
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => PLAIN,
        b':' | b'@' | b'/' | b'[' | b']' | b'|' => PLAIN,
        _ => 0,
    }
}

/// Whether `byte` is of `class`.
#[inline(always)]
pub(super) fn is(byte: u8, class: u8) -> bool {
    // A u8 is always within 256 entries; the compiler drops the check.
    CLASSES[byte as usize] & class != 0
}

/// Whether `byte` may stand in a path as it is.
pub(super) fn is_path_byte(byte: u8) -> bool {
    is(byte, PLAIN)
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Whether nothing in the path could need a change or a refusal. The asterisk of OPTIONS is plain.
#[inline]
fn is_plain(path: &[u8]) -> bool {
    let all_plain = path
        .iter()
        .fold(PLAIN, |class, &byte| class & CLASSES[byte as usize]);
    // A slash and what follows it, without a branch per byte: the two slices are compared in
    // vectors.
    let after = path.get(1..).unwrap_or_default();
    let is_edgy = path.iter().zip(after).fold(false, |edgy, (&byte, &next)| {
        edgy | ((byte == b'/') & ((next == b'/') | (next == b'.')))
    });
    all_plain != 0 && !is_edgy && (path.first() == Some(&b'/') || path == b"*")
}

/// Writes the normal form of a path segment by segment. Nothing that is written is longer than
/// what it was read from.
#[cold]
fn rewrite(path: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let [b'/', relative @ ..] = path else {
        return Err(PathError::NotAbsolute);
    };
    out.reserve(path.len());
    let mut segments = relative.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment.is_empty() && !is_last && rules.merge_slashes {
            continue;
        }
        let start = out.len();
        out.push(b'/');
        decode(segment, rules, out)?;
        let written = out.get(start + 1..).unwrap_or_default();
        let is_up = match dots(written)? {
            None => continue,
            Some(Dots::Here) => false,
            Some(Dots::Up) => true,
        };
        out.truncate(start);
        if is_up {
            // Without its leading slash, the last segment starts after the last slash there is.
            let parent = out.iter().rposition(|&byte| byte == b'/');
            out.truncate(parent.ok_or(PathError::AboveRoot)?);
        }
        // A path that ends in a dot segment names a directory.
        if is_last {
            out.push(b'/');
        }
    }
    Ok(())
}

/// A dot segment.
enum Dots {
    /// `.`
    Here,
    /// `..`
    Up,
}

/// Which dot segment a decoded segment is, if it is one.
fn dots(segment: &[u8]) -> Result<Option<Dots>, PathError> {
    match segment {
        [b'.'] => return Ok(Some(Dots::Here)),
        [b'.', b'.'] => return Ok(Some(Dots::Up)),
        _ => {}
    }
    // Where an origin decodes escapes first, parts become segments and parameters fall off.
    let mut parts = split_encoded_slashes(segment);
    let is_dots = |part: &[u8]| matches!(without_parameters(part), b"." | b"..");
    match (parts.next(), parts.next()) {
        (Some(only), None) if is_dots(only) => Err(PathError::DotParameters),
        (Some(_), Some(_)) if split_encoded_slashes(segment).any(is_dots) => {
            Err(PathError::EncodedSlash)
        }
        _ => Ok(None),
    }
}

/// The parts of a segment between encoded slashes and backslashes.
fn split_encoded_slashes(segment: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(segment);
    std::iter::from_fn(move || {
        let all = rest?;
        let cut = all
            .windows(3)
            .position(|escape| matches!(escape, b"%2F" | b"%5C"));
        rest = cut.and_then(|at| all.get(at + 3..));
        all.get(..cut.unwrap_or(all.len()))
    })
}

/// A part up to the semicolon, encoded or not, that begins its parameters.
fn without_parameters(part: &[u8]) -> &[u8] {
    let plain = part.iter().position(|&byte| byte == b';');
    let escaped = part.windows(3).position(|escape| escape == b"%3B");
    let end = plain.into_iter().chain(escaped).min();
    part.get(..end.unwrap_or(part.len())).unwrap_or(part)
}

/// Writes a segment with its escapes in their normal form.
fn decode(segment: &[u8], rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = segment.iter().copied();
    // The byte that the escape just before stood for.
    let mut escaped = None;
    while let Some(byte) = bytes.next() {
        let before = std::mem::take(&mut escaped);
        if byte == b'%' {
            let value = escape_value(bytes.next(), bytes.next()).ok_or(PathError::BadEscape)?;
            if is_overlong(before, value) {
                return Err(PathError::Overlong);
            }
            escaped = Some(value);
            push_decoded(value, rules, out)?;
        } else if is(byte, PLAIN) {
            out.push(byte);
        } else {
            return Err(match byte {
                b'\\' => PathError::Backslash,
                _ if is_control(byte) => PathError::Control,
                _ => PathError::Character,
            });
        }
    }
    Ok(())
}

fn push_decoded(value: u8, rules: &PathRules, out: &mut Vec<u8>) -> Result<(), PathError> {
    match value {
        b'/' | b'\\' if !rules.keep_encoded_slashes => Err(PathError::EncodedSlash),
        _ if is_control(value) => Err(PathError::Control),
        _ if is(value, UNRESERVED) => {
            out.push(value);
            Ok(())
        }
        _ => {
            push_escape(value, out);
            Ok(())
        }
    }
}

/// Whether two bytes begin a sequence that is longer than UTF-8 allows for its character (RFC 3629
/// section 3). Two such bytes side by side make no sense in older character sets either.
fn is_overlong(lead: Option<u8>, next: u8) -> bool {
    match lead {
        Some(0xc0 | 0xc1) => (0x80..=0xbf).contains(&next),
        Some(0xe0) => (0x80..=0x9f).contains(&next),
        Some(0xf0) => (0x80..=0x8f).contains(&next),
        _ => false,
    }
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn escape_value(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 0xf)];
    out.extend([b'%', digit(byte >> 4), digit(byte)]);
}

#[cfg(test)]
mod tests;
