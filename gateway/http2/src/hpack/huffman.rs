//! The Huffman code for strings (RFC 7541 section 5.2 and appendix B).
//!
//! It is a canonical code: the lengths alone determine the codes, and everything else in this file
//! follows from the list of lengths at compile time. Only decoding is shipped: the encoder of this
//! crate sends strings as they are, because copying them costs less than the few bytes are worth.

use super::HpackError;

/// A symbol and the length of its code in bits; nothing where no code is that short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code(u16);

/// The codes of one length. They are consecutive numbers, in the order of their symbols.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: u32,
    count: u32,
    /// Where their symbols begin in [`ORDERED`].
    offset: u32,
}

/// Appends what `input` stands for to `out`.
///
/// The next bits of the input are kept at the top of a word, followed by zeros. One look-up finds
/// the symbol of a code that is not longer than [`SHORT_BITS`], which is what text consists of.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    out.reserve(input.len() * 8 / LENGTH_MIN);
    let mut window = 0_u64;
    let mut filled = 0;
    let mut rest = input;
    while let Some((chunk, tail)) = rest.split_first_chunk::<4>() {
        rest = tail;
        window |= u64::from(u32::from_be_bytes(*chunk)) << (32 - filled);
        filled += 32;
        // No code is longer than what the window holds: there is no need to look for the end.
        while filled >= LENGTH_MAX {
            let code = first_code(window);
            out.push(code.byte()?);
            window <<= code.length();
            filled -= code.length();
        }
    }
    for &byte in rest {
        window |= u64::from(byte) << (56 - filled);
        filled += 8;
    }
    loop {
        let code = first_code(window);
        if code.length() > filled {
            break;
        }
        out.push(code.byte()?);
        window <<= code.length();
        filled -= code.length();
    }
    if window.leading_ones() < filled {
        return Err(HpackError::HuffmanPaddingNotOnes);
    }
    if filled > 7 {
        return Err(HpackError::HuffmanPaddingTooLong);
    }
    Ok(())
}

/// The code that `window` begins with. If it ends before that, the code is longer than what it
/// holds.
#[inline(always)]
fn first_code(window: u64) -> Code {
    match SHORT.get((window >> (64 - SHORT_BITS)) as usize) {
        Some(&code) if code != Code::NONE => code,
        _ => first_long_code(window),
    }
}

fn first_long_code(window: u64) -> Code {
    for length in SHORT_BITS + 1..=LENGTH_MAX {
        let Some(group) = GROUPS.get(length as usize) else {
            break;
        };
        // Above the codes of the shorter lengths, so never below the first of these.
        let place = ((window >> (64 - length)) as u32).wrapping_sub(group.first);
        if place < group.count
            && let Some(&symbol) = ORDERED.get((group.offset + place) as usize)
        {
            return Code::new(symbol, length);
        }
    }
    // Not reached, because the code is complete; EOS is refused wherever it comes.
    debug_assert!(false, "{window:064b} begins with no code");
    Code::new(EOS, LENGTH_MAX)
}

impl Code {
    const NONE: Self = Self(0);

    const fn new(symbol: u16, length: u32) -> Self {
        Self((length as u16) << 9 | symbol)
    }

    #[inline(always)]
    fn length(self) -> u32 {
        u32::from(self.0 >> 9)
    }

    #[inline(always)]
    fn byte(self) -> Result<u8, HpackError> {
        u8::try_from(self.0 & 0x1ff).map_err(|_| HpackError::HuffmanEos)
    }
}

/// Each byte, and EOS.
const SYMBOLS: usize = 257;
const EOS: u16 = 256;

/// The length of each symbol's code in bits (RFC 7541 appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LENGTH_MIN: usize = 5;
const LENGTH_MAX: u32 = 30;

/// As many as the question mark and the parentheses take: the longest codes that paths and
/// user agents are full of. The table has two kilobytes.
const SHORT_BITS: u32 = 10;

static SHORT: [Code; 1 << SHORT_BITS] = short();
static GROUPS: [Group; LENGTH_MAX as usize + 1] = groups();
/// The symbols in the order of their codes.
static ORDERED: [u16; SYMBOLS] = ordered();

/// Canonical: a code is the one before plus one, with zeros appended where the length grows.
const fn groups() -> [Group; LENGTH_MAX as usize + 1] {
    let mut groups = [Group {
        first: 0,
        count: 0,
        offset: 0,
    }; LENGTH_MAX as usize + 1];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        groups[LENGTHS[symbol] as usize].count += 1;
        symbol += 1;
    }
    let mut length = 1;
    while length <= LENGTH_MAX as usize {
        let shorter = groups[length - 1];
        groups[length].first = (shorter.first + shorter.count) << 1;
        groups[length].offset = shorter.offset + shorter.count;
        length += 1;
    }
    // Every sequence of bits begins with exactly one code, or a length is mistyped.
    let longest = groups[LENGTH_MAX as usize];
    assert!(longest.first + longest.count == 1 << LENGTH_MAX);
    groups
}

const fn ordered() -> [u16; SYMBOLS] {
    let groups = groups();
    let mut seen = [0; LENGTH_MAX as usize + 1];
    let mut ordered = [0; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let length = LENGTHS[symbol] as usize;
        ordered[groups[length].offset as usize + seen[length]] = symbol as u16;
        seen[length] += 1;
        symbol += 1;
    }
    ordered
}

const fn short() -> [Code; 1 << SHORT_BITS] {
    let ordered = ordered();
    let mut short = [Code::NONE; 1 << SHORT_BITS];
    let mut at = 0;
    let mut place = 0;
    // In the order of the codes each takes as many slots as there are ways to go on after it.
    while LENGTHS[ordered[place] as usize] as u32 <= SHORT_BITS {
        let symbol = ordered[place];
        let length = LENGTHS[symbol as usize] as u32;
        let end = at + (1 << (SHORT_BITS - length));
        while at < end {
            short[at] = Code::new(symbol, length);
            at += 1;
        }
        place += 1;
    }
    short
}

/// Appends the code of `text` to `out`, padded to a whole byte.
#[cfg(test)]
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0_u64, 0);
    for &byte in text {
        let (code, length) = tests::code_of(u16::from(byte));
        bits = bits << length | u64::from(code);
        filled += length;
        while filled >= 8 {
            filled -= 8;
            out.push((bits >> filled) as u8);
        }
    }
    if filled > 0 {
        out.push((bits << (8 - filled)) as u8 | 0xff >> filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a symbol, found in another way than the decoder's.
    pub(super) fn code_of(symbol: u16) -> (u32, u32) {
        let length = u32::from(LENGTHS[usize::from(symbol)]);
        let group = GROUPS[length as usize];
        let before = &LENGTHS[..usize::from(symbol)];
        let place = before.iter().filter(|&&l| u32::from(l) == length).count();
        (group.first + place as u32, length)
    }

    fn check(input: &[u8], expected: Result<&[u8], HpackError>) {
        let mut out = b"before".to_vec();
        let result = decode(input, &mut out);
        match expected {
            Ok(text) => {
                assert_eq!(result, Ok(()), "{input:02x?}");
                assert_eq!(out.strip_prefix(b"before"), Some(text), "{input:02x?}");
            }
            Err(error) => assert_eq!(result, Err(error), "{input:02x?}"),
        }
    }

    /// Writes codes and then padding bits, which need not be right.
    fn bits(parts: &[(u32, u32)]) -> Vec<u8> {
        let digits: String = parts
            .iter()
            .map(|&(code, length)| format!("{code:0width$b}", width = length as usize))
            .collect();
        assert_eq!(digits.len() % 8, 0, "{digits}");
        let bytes = digits.as_bytes().chunks(8);
        bytes
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0')))
            .collect()
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        // Samples of RFC 7541 appendix B, of every length, the first and last of most.
        for (symbol, code, length) in [
            (u16::from(b'0'), 0x0, 5),
            (u16::from(b't'), 0x9, 5),
            (u16::from(b' '), 0x14, 6),
            (u16::from(b'u'), 0x2d, 6),
            (u16::from(b':'), 0x5c, 7),
            (u16::from(b'z'), 0x7b, 7),
            (u16::from(b'&'), 0xf8, 8),
            (u16::from(b'Z'), 0xfd, 8),
            (u16::from(b'!'), 0x3f8, 10),
            (u16::from(b'?'), 0x3fc, 10),
            (u16::from(b'\''), 0x7fa, 11),
            (u16::from(b'|'), 0x7fc, 11),
            (u16::from(b'#'), 0xffa, 12),
            (0, 0x1ff8, 13),
            (u16::from(b'~'), 0x1ffd, 13),
            (u16::from(b'^'), 0x3ffc, 14),
            (u16::from(b'{'), 0x7ffe, 15),
            (195, 0x7fff1, 19),
            (224, 0xfffec, 20),
            (179, 0x1fffe2, 21),
            (233, 0x3fffeb, 22),
            (239, 0x7ffff4, 23),
            (237, 0xfffff5, 24),
            (199, 0x1ffffec, 25),
            (255, 0x3ffffee, 26),
            (203, 0x7ffffde, 27),
            (254, 0x7fffff0, 27),
            (249, 0xffffffe, 28),
            (EOS, 0x3fffffff, 30),
        ] {
            assert_eq!(code_of(symbol), (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_byte_survives_wherever_its_code_begins() {
        for byte in 0..=255 {
            for lead in 0..16 {
                let mut text = b"0".repeat(lead);
                text.extend([byte, byte]);
                let mut coded = Vec::new();
                encode(&text, &mut coded);
                check(&coded, Ok(&text));
            }
        }
    }

    #[test]
    fn nothing_stands_for_nothing() {
        check(&[], Ok(b""));
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        let zero = code_of(u16::from(b'0'));
        let colon = code_of(u16::from(b':'));
        check(&bits(&[zero, (0b111, 3)]), Ok(b"0"));
        check(&bits(&[colon, (1, 1)]), Ok(b":"));
        let ampersand = code_of(u16::from(b'&'));
        check(&bits(&[ampersand]), Ok(b"&"));
        let question = code_of(u16::from(b'?'));
        let seven = [question, colon, (0x7f, 7)];
        check(&bits(&seven), Ok(b"?:"));
        for padding in 0..0b111 {
            let coded = bits(&[zero, (padding, 3)]);
            check(&coded, Err(HpackError::HuffmanPaddingNotOnes));
        }
        check(
            &bits(&[ampersand, (0xff, 8)]),
            Err(HpackError::HuffmanPaddingTooLong),
        );
        for bytes in 1..=3 {
            check(
                &[0xff].repeat(bytes),
                Err(HpackError::HuffmanPaddingTooLong),
            );
        }
    }

    #[test]
    fn a_code_cut_short_is_no_padding() {
        // The first byte of `?` and the second without its last bits.
        check(&[0xfe], Err(HpackError::HuffmanPaddingNotOnes));
        check(&[0xff, 0xff, 0xfe], Err(HpackError::HuffmanPaddingNotOnes));
    }

    #[test]
    fn the_end_is_not_to_be_said() {
        let eos = code_of(EOS);
        let ones = (0b11, 2);
        check(&bits(&[eos, ones]), Err(HpackError::HuffmanEos));
        check(&[0xff; 9], Err(HpackError::HuffmanEos));
        let zero = code_of(u16::from(b'0'));
        let within = [
            zero,
            zero,
            zero,
            zero,
            zero,
            eos,
            zero,
            zero,
            zero,
            zero,
            zero,
            (3, 2),
            (7, 3),
            (7, 3),
            (3, 2),
            (3, 2),
            (3, 2),
            (3, 2),
        ];
        check(&bits(&within), Err(HpackError::HuffmanEos));
        // In the last bytes, where the window is not refilled.
        check(&bits(&[zero, zero, eos]), Err(HpackError::HuffmanEos));
    }
}
