//! Byte classes and the searches built on them: the inner loops of the codec.
//!
//! A word of eight bytes is tested at once where the class is a range; the classes of the RFCs'
//! grammar are tables. Searches only ever find; what a byte means is for the callers.

/// 0x01 in every byte of a word.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;
const LOW: u64 = ONES * 0x7f;

/// May stand in a token (RFC 9110 section 5.6.2): methods, field names, connection options.
pub(crate) const TOKEN: u8 = 1 << 0;
/// May stand in the path of a request target; see [`crate::Target`].
pub(crate) const PATH: u8 = 1 << 1;
/// May stand in the query of a request target; see [`crate::Target`].
pub(crate) const QUERY: u8 = 1 << 2;
/// May stand in a registered name; see [`crate::Authority`].
pub(crate) const NAME: u8 = 1 << 3;
/// May stand unescaped in a quoted string (RFC 9110 section 5.6.4).
pub(crate) const QUOTED: u8 = 1 << 4;
/// May stand in a field value (RFC 9110 section 5.5): HTAB, SP, visible ASCII and obs-text.
pub(crate) const TEXT: u8 = 1 << 5;

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
    let alphanumeric = byte.is_ascii_alphanumeric();
    let mut class = 0;
    if alphanumeric
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
        )
        || matches!(byte, b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
    {
        class |= TOKEN;
    }
    let subdelimiter = matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    );
    let path = alphanumeric
        || subdelimiter
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'@' | b'/')
        || matches!(byte, b'[' | b']' | b'|');
    if path {
        class |= PATH;
    }
    if path || matches!(byte, b'?' | b'\\' | b'^' | b'`' | b'{' | b'}') {
        class |= QUERY;
    }
    if alphanumeric || matches!(byte, b'-' | b'.' | b'_') {
        class |= NAME;
    }
    if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
        class |= TEXT;
        if !matches!(byte, b'"' | b'\\') {
            class |= QUOTED;
        }
    }
    class
}

/// Whether `byte` is of `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    // A u8 is always within 256 entries; the compiler drops the check.
    CLASSES[byte as usize] & class != 0
}

/// Whether `bytes` is a token.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(byte, TOKEN))
}

/// The first offset from `at` on whose byte is not of `class`, or the length.
#[inline]
pub(crate) fn end_of(bytes: &[u8], at: usize, class: u8) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .position(|&byte| !is(byte, class))
        .unwrap_or(rest.len())
}

/// The first offset from `at` on that holds a control character (HTAB included), or the length.
///
/// It finds the end of a line and whatever may not stand in one. Bytes from 0x80 on are obs-text
/// and pass.
#[inline]
pub(crate) fn text_end(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, controls, |byte| byte < 0x20 || byte == 0x7f)
}

/// The first offset from `at` on that holds a colon or anything but visible ASCII, or the length.
#[inline]
pub(crate) fn name_end(bytes: &[u8], at: usize) -> usize {
    search(bytes, at, invisible_or_colon, |byte| {
        byte <= b' ' || byte >= 0x7f || byte == b':'
    })
}

/// The first offset from `at` on that `byte` holds for; `word` says the same of eight bytes, with
/// the high bit of the first such byte set, and no bit below it.
#[inline(always)]
fn search(
    bytes: &[u8],
    mut at: usize,
    word: impl Fn(u64) -> u64,
    byte: impl Fn(u8) -> bool,
) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = word(u64::from_le_bytes(*eight));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&one| byte(one)).unwrap_or(rest.len())
}

/// High bits where a byte is below 0x20 or equal to 0x7f.
///
/// `x - 0x20` sets the high bit of a byte below 0x20 and borrows only from bytes after it, so the
/// lowest mark is exact; `(x & 0x7f) + 1` reaches 0x80 for 0x7f and 0xff, and `!x` takes back
/// every byte that had its high bit set to begin with.
#[inline(always)]
fn controls(word: u64) -> u64 {
    (word.wrapping_sub(ONES * 0x20) | ((word & LOW) + ONES)) & !word & HIGH
}

/// High bits where a byte is at most 0x20, at least 0x7f, or a colon. The lowest mark is exact.
#[inline(always)]
fn invisible_or_colon(word: u64) -> u64 {
    let colon = word ^ (ONES * b':' as u64);
    let colons = colon.wrapping_sub(ONES) & !colon;
    let below = word.wrapping_sub(ONES * 0x21) & !word;
    (colons | below | ((word & LOW) + ONES) | word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word-wise searches agree with the byte-wise definition for every byte at every offset,
    /// whatever stands around it.
    #[test]
    fn searches_agree_with_their_definition() {
        for around in [b'a', b'~', 0x80, 0xff, b'!', b'9', b';'] {
            for byte in 0..=255u8 {
                for offset in 0..20 {
                    let mut bytes = [around; 20];
                    bytes[offset] = byte;
                    let control = byte < 0x20 || byte == 0x7f;
                    let expected = if control { offset } else { 20 };
                    assert_eq!(text_end(&bytes, 0), expected, "{byte:#x} at {offset}");
                    let stops = |b: u8| b <= b' ' || b >= 0x7f || b == b':';
                    let expected = bytes.iter().position(|&b| stops(b)).unwrap_or(20);
                    assert_eq!(name_end(&bytes, 0), expected, "{byte:#x} at {offset}");
                }
            }
        }
    }

    #[test]
    fn searches_start_where_told_and_stay_inside() {
        assert_eq!(text_end(b"\r\nabc", 2), 5);
        assert_eq!(text_end(b"abc", 3), 3);
        assert_eq!(text_end(b"abc", 9), 9);
        assert_eq!(name_end(b"a:b:c", 2), 3);
        assert_eq!(end_of(b"GET /", 0, TOKEN), 3);
        assert_eq!(end_of(b"GET", 7, TOKEN), 7);
    }

    #[test]
    fn classes_follow_the_grammar() {
        let members = |class| {
            (0..=255u8)
                .filter(|&byte| is(byte, class))
                .collect::<Vec<_>>()
        };
        assert_eq!(members(TOKEN).len(), 26 * 2 + 10 + 15);
        for byte in b"\"(),/:;<=>?@[\\]{} \t\r\n\x00\x7f\x80" {
            assert!(!is(*byte, TOKEN), "{byte:#x}");
        }
        for byte in b" \"<>#\x00\x1f\x7f\x80\xff" {
            assert!(!is(*byte, PATH) && !is(*byte, QUERY), "{byte:#x}");
        }
        for byte in b"\\^`{}?" {
            assert!(!is(*byte, PATH) && is(*byte, QUERY), "{byte:#x}");
        }
        assert_eq!(members(TEXT).len(), 256 - 32 - 1 + 1);
        assert_eq!(members(QUOTED).len(), members(TEXT).len() - 2);
    }
}
