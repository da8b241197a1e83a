//! Fields to header blocks: one encoder for what we send on one connection.
//!
//! Nothing here is remembered from block to block. The static table covers the names of most
//! fields and a few values; what repeats beyond that is `server`, `content-type` and the like,
//! some dozen bytes of a response, against a search and a table of up to four kilobytes on every
//! connection. So nothing is inserted into the peer's table, and strings are sent as they are.

use super::static_table::Found;
use super::{TABLE_BYTES_INITIAL, static_table};

/// Encodes the header blocks of a connection, in the order in which they are sent.
///
/// It uses no dynamic table and no Huffman code. The order of calls for a block is
/// [`begin`](Self::begin), then one for each field.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The size of the peer's table that is in force, though we put nothing into it.
    table_bytes: u32,
    /// Whether the peer has yet to hear of it.
    table_update_due: bool,
}

/// Credentials, which nobody on the way may put into a table where guesses could be compared with
/// them (RFC 7541 section 7.1.3): the indices of `authorization`, `cookie`, `proxy-authorization`
/// and `set-cookie`.
const SENSITIVE: [u8; 4] = [23, 32, 49, 55];

/// The index of the first entry for `:status`.
const STATUS_INDEX: u8 = 8;

impl Default for Encoder {
    fn default() -> Self {
        Self {
            table_bytes: TABLE_BYTES_INITIAL,
            table_update_due: false,
        }
    }
}

impl Encoder {
    /// Takes note of the peer's SETTINGS_HEADER_TABLE_SIZE, to be called in the order of its
    /// settings.
    ///
    /// If it goes below the size in force, the next block has to say so (RFC 7541 section 4.2).
    /// The smallest size is kept whatever comes after it: we have no use for more, and so one
    /// update always says everything.
    pub(crate) fn set_table_bytes_max(&mut self, table_bytes_max: u32) {
        if table_bytes_max < self.table_bytes {
            self.table_bytes = table_bytes_max;
            self.table_update_due = true;
        }
    }

    /// Begins a block: appends what has to come before its first field.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if self.table_update_due {
            self.table_update_due = false;
            integer(out, 0b0010_0000, 5, self.table_bytes as usize);
        }
    }

    /// Appends the `:status` field of a response. A status has three digits.
    pub(crate) fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        debug_assert!((100..1000).contains(&status), "status {status}");
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |unit: u16| b'0' + (status / unit % 10) as u8;
                out.extend([STATUS_INDEX, 3, digit(100), digit(10), digit(1)]);
                return;
            }
        };
        out.push(0b1000_0000 | index);
    }

    /// Appends a field. Its name may be in any case and is sent in lower case (RFC 9113
    /// section 8.2); its value is sent as it is.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        const NOT_INDEXED: u8 = 0b0000_0000;
        const NEVER_INDEXED: u8 = 0b0001_0000;
        match static_table::find(name, value) {
            Some(Found::Field(index) | Found::Name(index)) if SENSITIVE.contains(&index) => {
                integer(out, NEVER_INDEXED, 4, usize::from(index));
            }
            Some(Found::Field(index)) => {
                out.push(0b1000_0000 | index);
                return;
            }
            Some(Found::Name(index)) => integer(out, NOT_INDEXED, 4, usize::from(index)),
            None => {
                out.push(NOT_INDEXED);
                integer(out, PLAIN, 7, name.len());
                out.extend(name.iter().map(u8::to_ascii_lowercase));
            }
        }
        integer(out, PLAIN, 7, value.len());
        out.extend_from_slice(value);
    }
}

/// A string that is not Huffman-coded (RFC 7541 section 5.2).
const PLAIN: u8 = 0b0000_0000;

/// Appends an integer of which the first byte, together with `pattern`, holds `prefix_bits`
/// (RFC 7541 section 5.1).
#[inline]
fn integer(out: &mut Vec<u8>, pattern: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1_u8 << prefix_bits) - 1;
    let Some(mut rest) = value.checked_sub(usize::from(prefix_max)) else {
        out.push(pattern | value as u8);
        return;
    };
    out.push(pattern | prefix_max);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_integer(pattern: u8, prefix_bits: u32, value: usize, expected: &[u8]) {
        let mut out = Vec::new();
        integer(&mut out, pattern, prefix_bits, value);
        assert_eq!(out, expected, "{value} with {prefix_bits} bits");
    }

    fn check_field(name: &str, value: &str, expected: &[u8]) {
        let mut out = Vec::new();
        Encoder::default().field(&mut out, name.as_bytes(), value.as_bytes());
        assert_eq!(out, expected, "{name}: {value}");
    }

    fn check_begin(encoder: &mut Encoder, expected: &[u8]) {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn integers_of_the_appendix() {
        // RFC 7541 appendix C.1.
        check_integer(0, 5, 10, &[0b0000_1010]);
        check_integer(0, 5, 1337, &[0b0001_1111, 0b1001_1010, 0b0000_1010]);
        check_integer(0b0010_0000, 5, 31, &[0b0011_1111, 0]);
        check_integer(0b0010_0000, 5, 30, &[0b0011_1110]);
        check_integer(0, 7, 127 + 127, &[0x7f, 0x7f]);
        check_integer(0, 7, 127 + 128, &[0x7f, 0x80, 0x01]);
    }

    #[test]
    fn fields_of_the_table_take_one_byte() {
        check_field(":method", "GET", &[0x82]);
        check_field(":status", "404", &[0x8d]);
        check_field("Accept-Encoding", "gzip, deflate", &[0x90]);
        check_field("Via", "", &[0x80 | 60]);
    }

    #[test]
    fn names_of_the_table_are_not_spelled_out() {
        check_field(":path", "/a", &[0x04, 2, b'/', b'a']);
        check_field("Age", "7", &[0x0f, 21 - 15, 1, b'7']);
    }

    #[test]
    fn other_names_are_sent_in_lower_case() {
        check_field("X-Id", "A", b"\x00\x04x-id\x01A");
        check_field("", "", &[0, 0, 0]);
    }

    #[test]
    fn credentials_are_never_indexed() {
        check_field("Authorization", "x", &[0x1f, 23 - 15, 1, b'x']);
        check_field("Cookie", "x", &[0x1f, 32 - 15, 1, b'x']);
        check_field("Proxy-Authorization", "x", &[0x1f, 49 - 15, 1, b'x']);
        check_field("Set-Cookie", "x", &[0x1f, 55 - 15, 1, b'x']);
        check_field("cookie", "", &[0x1f, 32 - 15, 0]);
    }

    #[test]
    fn every_status_is_encoded_as_the_field_it_is() {
        for status in 100..1000 {
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            let mut encoder = Encoder::default();
            encoder.status(&mut fast, status);
            encoder.field(&mut slow, b":status", status.to_string().as_bytes());
            assert_eq!(fast, slow, "{status}");
        }
    }

    #[test]
    fn a_smaller_table_is_acknowledged_once() {
        let mut encoder = Encoder::default();
        check_begin(&mut encoder, &[]);
        encoder.set_table_bytes_max(65536);
        encoder.set_table_bytes_max(4096);
        check_begin(&mut encoder, &[]);
        encoder.set_table_bytes_max(100);
        encoder.set_table_bytes_max(30);
        encoder.set_table_bytes_max(4096);
        check_begin(&mut encoder, &[0b0011_1110]);
        check_begin(&mut encoder, &[]);
        encoder.set_table_bytes_max(31);
        check_begin(&mut encoder, &[]);
        encoder.set_table_bytes_max(0);
        check_begin(&mut encoder, &[0b0010_0000]);
    }
}
