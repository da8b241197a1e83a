//! What a client sent, written so that it stays where it is put: inside its quotes, its field and
//! its line, and without power over a terminal that shows it.
//!
//! Must not: lose what it escapes. Whoever looks into an attack wants to see the bytes.

/// A longer value is cut: with it, a line is limited, and so is the queue.
pub(super) const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Stands at the end of a value that was cut.
const CUT: &[u8] = b"...";

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes the inside of a JSON string. Text beyond ASCII stays as it is; what is not UTF-8 is
/// written as the Latin-1 characters that its bytes would be, and so are controls.
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    cut(out, value, json_slowly);
}

/// Writes text for the formats that have no escapes of their own. Whatever is not printable ASCII,
/// quotes and backslashes become `\xHH`, as nginx and Apache do.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    cut(out, value, text_slowly);
}

fn cut(out: &mut Vec<u8>, value: &[u8], slowly: fn(&mut Vec<u8>, &[u8])) {
    let (kept, is_cut) = match value.get(..VALUE_BYTES_MAX) {
        Some(kept) if value.len() > VALUE_BYTES_MAX => (kept, true),
        _ => (value, false),
    };
    if is_plain(kept) {
        out.extend_from_slice(kept);
    } else {
        slowly(out, kept);
    }
    if is_cut {
        out.extend_from_slice(CUT);
    }
}

/// Whether a value can be written as it is: printable ASCII without quotes and backslashes. Almost
/// every value can, so eight bytes are looked at together.
fn is_plain(value: &[u8]) -> bool {
    let (words, rest) = value.as_chunks::<8>();
    let words_are_plain = words
        .iter()
        .fold(0, |found, word| found | specials(u64::from_ne_bytes(*word)))
        == 0;
    words_are_plain && rest.iter().all(|byte| is_plain_byte(*byte))
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

/// Not zero if any of eight bytes needs a closer look.
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let equal = |byte: u64| {
        let zero_there = word ^ (ONES * byte);
        zero_there.wrapping_sub(ONES) & !zero_there
    };
    (word | below(0x20) | equal(0x22) | equal(0x5c) | equal(0x7f)) & HIGH
}

fn text_slowly(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        if is_plain_byte(*byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\x");
            hexadecimal(out, *byte);
        }
    }
}

fn json_slowly(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            json_character(out, character);
        }
        for byte in chunk.invalid() {
            unicode(out, u16::from(*byte));
        }
    }
}

fn json_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Controls, some of which terminals obey, line breaks beyond ASCII, and what turns the
        // direction of text, with which a line can be made to read as another.
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => {
            // Each of them is in the first plane, so the conversion keeps it.
            unicode(out, u32::from(character) as u16);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn unicode(out: &mut Vec<u8>, unit: u16) {
    let [high, low] = unit.to_be_bytes();
    out.extend_from_slice(b"\\u");
    hexadecimal(out, high);
    hexadecimal(out, low);
}

fn hexadecimal(out: &mut Vec<u8>, byte: u8) {
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(escape: fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, value);
        String::from_utf8(out).expect("what is written is UTF-8")
    }

    #[test]
    fn json_is_escaped_and_says_the_same() {
        let check = |value: &[u8], expected: &str| {
            let found = written(json, value);
            assert_eq!(found, expected);
            let parsed: Result<String, _> = serde_json::from_str(&format!("\"{found}\""));
            assert!(parsed.is_ok(), "{found}");
        };
        check(b"", "");
        check(b"/plain?path=1", "/plain?path=1");
        check(b"curl \"8\"\\", "curl \\\"8\\\"\\\\");
        check(b"a\r\nb\tc", "a\\r\\nb\\tc");
        check(b"\0\x1b[2J\x7f", "\\u0000\\u001b[2J\\u007f");
        check("Motörhead ☃ 🦀".as_bytes(), "Motörhead ☃ 🦀");
        check(b"caf\xe9\xff", "caf\\u00e9\\u00ff");
        check(b"cut \xe2\x98", "cut \\u00e2\\u0098");
        check("\u{9b}31m".as_bytes(), "\\u009b31m");
        check("a\u{2028}b\u{202e}c".as_bytes(), "a\\u2028b\\u202ec");
    }

    #[test]
    fn text_is_escaped_to_printable_ascii() {
        let check = |value: &[u8], expected: &str| assert_eq!(written(text, value), expected);
        check(b"/plain path", "/plain path");
        check(b"a\"b\\c", "a\\x22b\\x5cc");
        check(b"x\n1.2.3.4 - - ", "x\\x0a1.2.3.4 - - ");
        check("ö".as_bytes(), "\\xc3\\xb6");
        check(b"\x1b]0;title\x07", "\\x1b]0;title\\x07");
    }

    #[test]
    fn every_byte_is_seen_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut value = [b'a'; 20];
                value[at] = byte;
                assert_eq!(is_plain(&value), is_plain_byte(byte), "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn no_two_values_are_written_alike() {
        let values: Vec<Vec<u8>> = (0..=u8::MAX)
            .map(|byte| vec![byte])
            .chain((0..=u8::MAX).map(|byte| format!("\\x{byte:02x}").into_bytes()))
            .collect();
        let mut texts: Vec<_> = values.iter().map(|value| written(text, value)).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), values.len());
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let long = vec![b'\n'; VALUE_BYTES_MAX + 1];
        assert_eq!(written(text, &long).len(), 4 * VALUE_BYTES_MAX + 3);
        let fits = vec![b'a'; VALUE_BYTES_MAX];
        assert_eq!(written(json, &fits).len(), VALUE_BYTES_MAX);
    }
}
