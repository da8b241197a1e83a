//! As much of HPACK (RFC 7541) as a test needs: what is sent are literals that no table remembers,
//! what is read uses the static table at most.
//!
//! Must not: understand more than the gateway is known to send. A table that grows, or a Huffman
//! code, fails the test that meets it.

/// The static table (RFC 7541 appendix A), name and value separated by a bar.
const STATIC: [&str; 61] = [
    ":authority|",
    ":method|GET",
    ":method|POST",
    ":path|/",
    ":path|/index.html",
    ":scheme|http",
    ":scheme|https",
    ":status|200",
    ":status|204",
    ":status|206",
    ":status|304",
    ":status|400",
    ":status|404",
    ":status|500",
    "accept-charset|",
    "accept-encoding|gzip, deflate",
    "accept-language|",
    "accept-ranges|",
    "accept|",
    "access-control-allow-origin|",
    "age|",
    "allow|",
    "authorization|",
    "cache-control|",
    "content-disposition|",
    "content-encoding|",
    "content-language|",
    "content-length|",
    "content-location|",
    "content-range|",
    "content-type|",
    "cookie|",
    "date|",
    "etag|",
    "expect|",
    "expires|",
    "from|",
    "host|",
    "if-match|",
    "if-modified-since|",
    "if-none-match|",
    "if-range|",
    "if-unmodified-since|",
    "last-modified|",
    "link|",
    "location|",
    "max-forwards|",
    "proxy-authenticate|",
    "proxy-authorization|",
    "range|",
    "referer|",
    "refresh|",
    "retry-after|",
    "server|",
    "set-cookie|",
    "strict-transport-security|",
    "transfer-encoding|",
    "user-agent|",
    "vary|",
    "via|",
    "www-authenticate|",
];

/// A field block of literals without indexing.
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_ref());
        string(&mut block, value.as_ref());
    }
    block
}

/// A literal that the peer's table remembers as its latest entry, index 62.
pub fn encode_indexed(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x40];
    string(&mut block, name.as_bytes());
    string(&mut block, value.as_bytes());
    block
}

fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    integer(block, 7, bytes.len());
    block.extend_from_slice(bytes);
}

fn integer(block: &mut Vec<u8>, prefix_bits: u32, value: usize) {
    let prefix_max = (1_usize << prefix_bits) - 1;
    if value < prefix_max {
        block.push(value as u8);
        return;
    }
    block.push(prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// The fields of a block.
///
/// # Panics
/// If it is malformed, or uses what the gateway does not.
#[track_caller]
pub fn decode(block: &[u8]) -> Vec<(String, String)> {
    let mut reader = Reader { block, at: 0 };
    let mut fields = Vec::new();
    while let Some(&first) = block.get(reader.at) {
        match first {
            0x80.. => fields.push(entry(reader.integer(7))),
            0x40..0x80 => panic!("a field for the dynamic table, of which there is none"),
            // A new size of the table, which is empty anyway.
            0x20..0x40 => _ = reader.integer(5),
            0..0x20 => {
                let name = match reader.integer(4) {
                    0 => reader.string(),
                    index => entry(index).0,
                };
                fields.push((name, reader.string()));
            }
        }
    }
    fields
}

#[track_caller]
fn entry(index: usize) -> (String, String) {
    let field = index.checked_sub(1).and_then(|at| STATIC.get(at));
    let field = field.unwrap_or_else(|| panic!("index {index} is not in the static table"));
    let (name, value) = field.split_once('|').expect("a bar in every entry");
    (name.to_owned(), value.to_owned())
}

struct Reader<'b> {
    block: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    #[track_caller]
    fn byte(&mut self) -> u8 {
        self.at += 1;
        *self.block.get(self.at - 1).expect("a block that goes on")
    }

    #[track_caller]
    fn integer(&mut self, prefix_bits: u32) -> usize {
        let prefix_max = (1_usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()) & prefix_max;
        if value < prefix_max {
            return value;
        }
        let mut shift = 0;
        loop {
            let byte = self.byte();
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            assert!(shift < 32, "an integer that is far too long");
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    #[track_caller]
    fn string(&mut self) -> String {
        let first = self.block.get(self.at).copied().unwrap_or_default();
        assert!(first & 0x80 == 0, "a string in the Huffman code");
        let length = self.integer(7);
        let bytes = self.block.get(self.at..self.at + length);
        self.at += length;
        crate::message::latin1(bytes.expect("a string that is all there"))
    }
}
