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
/// The same without the underscore, which field names are not to have.
pub(crate) const PLAIN_TOKEN: u8 = 1 << 6;
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
        if byte != b'_' {
            class |= PLAIN_TOKEN;
        }
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
#[inline(always)]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    of(byte) & class != 0
}

/// The classes of `byte`.
#[inline(always)]
fn of(byte: u8) -> u8 {
    // A u8 is always within 256 entries; the compiler drops the check.
    CLASSES[byte as usize]
}

/// Whether `bytes` is a token.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(byte, TOKEN))
}

/// The first offset from `at` on whose byte is not of `class`, or the length.
#[inline(always)]
pub(crate) fn end_of(bytes: &[u8], at: usize, class: u8) -> usize {
    let Some(rest) = bytes.get(at..) else {
        return at;
    };
    let (eights, _) = rest.as_chunks::<8>();
    let mut end = at;
    for eight in eights {
        if eight.iter().fold(class, |all, &byte| all & of(byte)) == 0 {
            break;
        }
        end += 8;
    }
    while let Some(&byte) = bytes.get(end)
        && is(byte, class)
    {
        end += 1;
    }
    end
}

/// The first offset from `at` on that holds a control character (HTAB included), or the length.
///
/// It finds the end of a line and whatever may not stand in one. Bytes from 0x80 on are obs-text
/// and pass.
#[inline]
pub(crate) fn text_end(bytes: &[u8], at: usize) -> usize {
    let Some(rest) = bytes.get(at..) else {
        return at;
    };
    at + search(rest, |word| below(word, 0x20) | deletes(word), is_control)
}

/// The offset of the first control character except DEL, or the length: for a caller who looks
/// for DEL once and for all.
#[inline(always)]
pub(crate) fn control_but_del(bytes: &[u8]) -> usize {
    search(bytes, |word| below(word, 0x20), |byte| byte < 0x20)
}

/// The offset of the first colon, or the length.
#[inline(always)]
pub(crate) fn colon(bytes: &[u8]) -> usize {
    search(bytes, |word| equal(word, b':'), |byte| byte == b':')
}

/// Whether two dots stand next to each other in bytes that are all of [`NAME`].
#[inline]
pub(crate) fn has_adjacent_dots(bytes: &[u8]) -> bool {
    let (mut rest, mut found) = (bytes, 0);
    while let Some(eight) = rest.first_chunk::<8>() {
        // The slash, which could be marked falsely after a dot, is not of the class.
        let dots = equal(u64::from_le_bytes(*eight), b'.') & HIGH;
        found |= dots & (dots >> 8);
        rest = rest.get(7..).unwrap_or_default();
    }
    found != 0 || rest.windows(2).any(|pair| pair == b"..")
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// The first offset whose byte `byte` holds for, or the length; `word` says the same of eight
/// bytes, by the high bit of the first such byte and no high bit before it.
#[inline(always)]
fn search(bytes: &[u8], word: impl Fn(u64) -> u64, byte: impl Fn(u8) -> bool) -> usize {
    let (eights, tail) = bytes.as_chunks::<8>();
    let mut at = 0;
    for eight in eights {
        let hits = word(u64::from_le_bytes(*eight)) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + tail.iter().position(|&one| byte(one)).unwrap_or(tail.len())
}

/// High bits where a byte is below `limit`, which is at most 0x80. The subtraction sets the high
/// bit of such a byte and borrows only from bytes after it, so that the first mark is exact;
/// `!word` takes back the bytes that had theirs set before. The other bits are noise.
#[inline(always)]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word
}

/// High bits where a byte equals `byte`, no less exact than [`below`].
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// High bits where a byte is DEL: adding one reaches 0x80 from 0x7f and, the high bit masked, from
/// 0xff, which `!word` takes back.
#[inline(always)]
fn deletes(word: u64) -> u64 {
    ((word & LOW) + ONES) & !word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word-wise searches agree with the byte-wise definition for every byte at every offset,
    /// whatever stands around it.
    #[test]
    fn searches_agree_with_their_definition() {
        for around in [b'a', b'~', 0x80, 0xff, b'!', b'9', b';', b' '] {
            for byte in 0..=255u8 {
                for offset in 0..20 {
                    let mut bytes = [around; 20];
                    bytes[offset] = byte;
                    let check = |found, stops: fn(u8) -> bool| {
                        let expected = bytes.iter().position(|&b| stops(b)).unwrap_or(20);
                        assert_eq!(found, expected, "{byte:#x} at {offset} in {around:#x}");
                    };
                    check(text_end(&bytes, 0), is_control);
                    check(control_but_del(&bytes), |b| b < 0x20);
                    check(colon(&bytes), |b| b == b':');
                    check(end_of(&bytes, 0, TOKEN), |b| !is(b, TOKEN));
                }
            }
        }
    }

    #[test]
    fn searches_start_where_told_and_stay_inside() {
        assert_eq!(text_end(b"\r\nabc", 2), 5);
        assert_eq!(text_end(b"abc", 3), 3);
        assert_eq!(text_end(b"abc", 9), 9);
        assert_eq!(end_of(b"abc", 9, TOKEN), 9);
        assert_eq!(colon(b"a:b:c"), 1);
        assert_eq!(end_of(b"GET /", 0, TOKEN), 3);
        assert_eq!(end_of(b"GET", 7, TOKEN), 7);
    }

    #[test]
    fn adjacent_dots_are_found_wherever_they_are() {
        for length in 0..30 {
            let mut name = vec![b'a'; length];
            assert!(!has_adjacent_dots(&name));
            for at in 1..length {
                (name[at - 1], name[at]) = (b'.', b'.');
                assert!(has_adjacent_dots(&name), "at {at} of {length}");
                name[at - 1] = b'-';
                assert!(!has_adjacent_dots(&name), "at {at} of {length}");
                name[at] = b'a';
            }
        }
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
