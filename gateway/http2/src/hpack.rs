//! Header compression for HTTP/2 (HPACK, RFC 7541): header blocks to fields and back.
//!
//! Each direction of a connection has its own state, so a connection owns one [`Decoder`] and one
//! [`Encoder`]. A block comes in and goes out whole; frames are cut and joined elsewhere. Nothing
//! here looks at what a field means: which names and values HTTP/2 allows, in what order and how
//! many of them, is for the sink to judge.

mod decoder;
mod dynamic_table;
mod encoder;
mod huffman;
mod reader;
mod static_table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

/// Why a header block could not be decoded.
///
/// Whatever it is, decoder and peer no longer agree on the dynamic table: the connection ends with
/// COMPRESSION_ERROR (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends where an integer or a string has to follow.
    #[error("header block ends within a field")]
    Truncated,
    /// An integer is longer than any that could be meant (RFC 7541 section 5.1).
    #[error("integer in header block is too long")]
    IntegerTooLong,
    /// An indexed field has the index 0 (RFC 7541 section 6.1).
    #[error("header field has index 0")]
    IndexZero,
    /// An index lies beyond both tables (RFC 7541 section 2.3.3).
    #[error("header field index {0} is beyond the tables")]
    IndexUnknown(u32),
    /// A string is longer than what is left of the block (RFC 7541 section 5.2).
    #[error("string goes beyond the end of the header block")]
    StringTooLong,
    /// A Huffman-coded string holds the end-of-string symbol (RFC 7541 section 5.2).
    #[error("Huffman-coded string holds EOS")]
    HuffmanEos,
    /// A Huffman-coded string ends in a byte or more of padding (RFC 7541 section 5.2).
    #[error("padding of Huffman-coded string is longer than 7 bits")]
    HuffmanPaddingTooLong,
    /// A Huffman-coded string ends within a code other than that of EOS (RFC 7541 section 5.2).
    #[error("padding of Huffman-coded string is not all ones")]
    HuffmanPaddingNotOnes,
    /// The dynamic table is resized after the first field of a block (RFC 7541 section 4.2).
    #[error("dynamic table size update after the start of the header block")]
    TableUpdateLate,
    /// The dynamic table is resized more than twice in one block (RFC 7541 section 4.2).
    #[error("more than two dynamic table size updates in a header block")]
    TableUpdateRepeated,
    /// The dynamic table is resized to more than was advertised (RFC 7541 section 6.3).
    #[error("dynamic table size update to {bytes} bytes, more than {bytes_max}")]
    TableUpdateTooLarge {
        /// What the peer asked for.
        bytes: u32,
        /// What it was allowed.
        bytes_max: u32,
    },
}

/// The size of a dynamic table until somebody says otherwise: the initial value of
/// SETTINGS_HEADER_TABLE_SIZE (RFC 9113 section 6.5.2).
const TABLE_BYTES_INITIAL: u32 = 4096;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
