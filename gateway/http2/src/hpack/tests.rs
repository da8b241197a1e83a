//! What RFC 7541 says, by example: its appendix C and each refusal.

use super::dynamic_table::DynamicTable;
use super::*;

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let digit = |d: u8| char::from(d).to_digit(16).expect("a digit") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn text(name: &[u8], value: &[u8]) -> String {
    format!("{}: {}", name.escape_ascii(), value.escape_ascii())
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push(text(name, value));
        Ok::<_, HpackError>(())
    })?;
    Ok(fields)
}

fn table(table: &DynamicTable) -> Vec<String> {
    (0..)
        .map_while(|index| table.field(index))
        .map(|(name, value)| text(name, value))
        .collect()
}

/// One block of an example: what it decodes to, and the table after that.
fn check(decoder: &mut Decoder, block: &str, expected: &[&str], after: &[&str], size: u32) {
    let decoded = fields(decoder, &hex(block)).expect("the example is valid");
    assert_eq!(decoded, expected);
    assert_eq!(table(decoder.table()), after);
    assert_eq!(decoder.table().size(), size);
}

/// A block that a decoder of 4096 bytes refuses.
fn refused(block: &[u8], expected: HpackError) {
    let mut decoder = Decoder::new(4096);
    assert_eq!(fields(&mut decoder, block), Err(expected), "{block:02x?}");
}

#[test]
fn c_2_field_representations() {
    let decoder = || Decoder::new(4096);
    check(
        &mut decoder(),
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &["custom-key: custom-header"],
        &["custom-key: custom-header"],
        55,
    );
    check(
        &mut decoder(),
        "040c 2f73 616d 706c 652f 7061 7468",
        &[":path: /sample/path"],
        &[],
        0,
    );
    check(
        &mut decoder(),
        "1008 7061 7373 776f 7264 0673 6563 7265 74",
        &["password: secret"],
        &[],
        0,
    );
    check(&mut decoder(), "82", &[":method: GET"], &[], 0);
}

/// The three requests of C.3 and C.4, which differ in their encoding only.
fn requests(blocks: [&str; 3]) {
    let mut decoder = Decoder::new(4096);
    let [first, second, third] = blocks;
    let authority = ":authority: www.example.com";
    check(
        &mut decoder,
        first,
        &[":method: GET", ":scheme: http", ":path: /", authority],
        &[authority],
        57,
    );
    check(
        &mut decoder,
        second,
        &[
            ":method: GET",
            ":scheme: http",
            ":path: /",
            authority,
            "cache-control: no-cache",
        ],
        &["cache-control: no-cache", authority],
        110,
    );
    check(
        &mut decoder,
        third,
        &[
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            authority,
            "custom-key: custom-value",
        ],
        &[
            "custom-key: custom-value",
            "cache-control: no-cache",
            authority,
        ],
        164,
    );
}

#[test]
fn c_3_requests() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c_4_requests_in_huffman_code() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

/// The three responses of C.5 and C.6, with a table so small that entries are evicted.
fn responses(blocks: [&str; 3]) {
    let mut decoder = Decoder::new(256);
    let [first, second, third] = blocks;
    let private = "cache-control: private";
    let date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
    let date_later = "date: Mon, 21 Oct 2013 20:13:22 GMT";
    let location = "location: https://www.example.com";
    let gzip = "content-encoding: gzip";
    let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    check(
        &mut decoder,
        first,
        &[":status: 302", private, date, location],
        &[location, date, private, ":status: 302"],
        222,
    );
    check(
        &mut decoder,
        second,
        &[":status: 307", private, date, location],
        &[":status: 307", location, date, private],
        222,
    );
    check(
        &mut decoder,
        third,
        &[":status: 200", private, date_later, location, gzip, cookie],
        &[cookie, gzip, date_later],
        215,
    );
}

#[test]
fn c_5_responses() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ]);
}

#[test]
fn c_6_responses_in_huffman_code() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn an_empty_block_has_no_fields() {
    check(&mut Decoder::new(4096), "", &[], &[], 0);
}

#[test]
fn what_is_cut_short_is_refused() {
    refused(&[0xff], HpackError::Truncated);
    refused(&[0x3f, 0x80], HpackError::Truncated);
    refused(&[0x40], HpackError::Truncated);
    refused(&[0x00, 1, b'a'], HpackError::Truncated);
    refused(&[0x04], HpackError::Truncated);
    refused(&[0x04, 0x7f], HpackError::Truncated);
    refused(&[0x00, 2, b'a'], HpackError::StringTooLong);
    refused(&[0x04, 0x82, 0xff], HpackError::StringTooLong);
    refused(
        &[0x04, 0x7f, 0xff, 0xff, 0xff, 0x7f, b'a'],
        HpackError::StringTooLong,
    );
}

#[test]
fn long_integers_are_refused() {
    let continued = [0xff; 4];
    for first in [0xff, 0x7f, 0x3f, 0x1f, 0x0f] {
        let mut block = vec![first];
        block.extend(continued);
        block.push(0);
        refused(&block, HpackError::IntegerTooLong);
    }
    refused(
        &[0x04, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x00],
        HpackError::IntegerTooLong,
    );
}

#[test]
fn indices_of_nothing_are_refused() {
    refused(&[0x80], HpackError::IndexZero);
    refused(&[0xbe], HpackError::IndexUnknown(62));
    refused(&[0x7e, 0], HpackError::IndexUnknown(62));
    refused(&[0x0f, 62 - 15, 0], HpackError::IndexUnknown(62));
    refused(&[0x1f, 62 - 15, 0], HpackError::IndexUnknown(62));
    refused(
        &[0x40, 1, b'a', 0, 0xbe, 0xbf],
        HpackError::IndexUnknown(63),
    );
    refused(
        &[0xff, 0xff, 0xff, 0xff, 0x7f],
        HpackError::IndexUnknown(127 + 0x0fff_ffff),
    );
}

#[test]
fn strings_in_wrong_huffman_code_are_refused() {
    refused(&[0x04, 0x81, 0xff], HpackError::HuffmanPaddingTooLong);
    refused(&[0x04, 0x81, 0x00], HpackError::HuffmanPaddingNotOnes);
    refused(
        &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff],
        HpackError::HuffmanEos,
    );
}

#[test]
fn the_table_is_resized_at_the_start_of_a_block_only() {
    // To 0 and to 4096 again.
    let mut decoder = Decoder::new(4096);
    check(
        &mut decoder,
        "20 3fe11f 40 0161 0162",
        &["a: b"],
        &["a: b"],
        34,
    );
    check(&mut decoder, "20", &[], &[], 0);
    check(&mut decoder, "40 0161 0162", &["a: b"], &[], 0);
    refused(&hex("82 20"), HpackError::TableUpdateLate);
    refused(&hex("20 20 20"), HpackError::TableUpdateRepeated);
    refused(
        &hex("3fe21f"),
        HpackError::TableUpdateTooLarge {
            bytes: 4097,
            bytes_max: 4096,
        },
    );
}

#[test]
fn the_table_grows_when_the_peer_says_so() {
    let value = "62".repeat(4000);
    let block = format!("40 0161 7fa11e {value}");
    let mut decoder = Decoder::new(65536);
    let once = fields(&mut decoder, &hex(&block)).expect("valid");
    fields(&mut decoder, &hex(&block)).expect("valid");
    assert_eq!(table(decoder.table()), once);
    // 65536.
    fields(&mut decoder, &hex("3fe1ff03")).expect("valid");
    fields(&mut decoder, &hex(&block)).expect("valid");
    assert_eq!(decoder.table().len(), 2);
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(35);
    check(&mut decoder, "40 0161 0162", &["a: b"], &["a: b"], 34);
    check(&mut decoder, "40 0161 0462626262", &["a: bbbb"], &[], 0);
}

#[test]
fn a_name_survives_its_own_eviction() {
    let mut decoder = Decoder::new(40);
    check(&mut decoder, "40 0161 0162", &["a: b"], &["a: b"], 34);
    check(&mut decoder, "7e 0163", &["a: c"], &["a: c"], 34);
}

#[test]
fn the_sink_may_stop() {
    let result = Decoder::new(4096).decode(&hex("82 84 80"), |name, _| {
        if name == b":path" {
            return Err(HpackError::StringTooLong);
        }
        Ok(())
    });
    assert_eq!(result, Err(HpackError::StringTooLong));
}

#[test]
fn memory_is_taken_when_it_is_needed() {
    let mut decoder = Decoder::new(4096);
    // Literals as they are, names of the static table: no table, no scratch.
    fields(&mut decoder, &hex("8286 8404 0461 6263 64")).expect("valid");
    assert_eq!(decoder.table().capacity(), (0, 0));
    assert_eq!(decoder.scratch_capacity(), 0);
    // A long string does not leave its scratch behind.
    let coded = "00".repeat(10_000);
    fields(&mut decoder, &hex(&format!("0f 00 ff914d {coded}"))).expect("valid");
    assert!((1..=8192).contains(&decoder.scratch_capacity()));
}
