//! The named limits of the codec. A listener or an upstream fills them in from its configuration;
//! the codec only compares against them.

/// What one message may cost us before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the first byte of its first line to the empty line, both included.
    pub head_bytes_max: u32,
    /// Fields in a head. Fields dropped by [`Underscores::Drop`] count too.
    pub field_count_max: u32,
    /// Names that `Connection` may nominate for removal, apart from the well-known ones.
    pub nominated_count_max: u32,
    /// Bytes of a request target.
    pub target_bytes_max: u32,
    /// Bytes of a request method.
    pub method_bytes_max: u32,
    /// What to do with a field name that contains an underscore.
    pub underscores: Underscores,
    /// Bytes of all chunk extensions of one body together. They carry nothing that is forwarded.
    pub chunk_extension_bytes_max: u32,
    /// Bytes of a trailer section, its empty line included.
    pub trailer_bytes_max: u32,
    /// Fields in a trailer section. Forbidden ones, which are dropped, count too.
    pub trailer_count_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            field_count_max: 100,
            // Every field that is forwarded is compared with each of them.
            nominated_count_max: 16,
            target_bytes_max: 8 * 1024,
            // The longest registered method, UPDATEREDIRECTREF, has 17 bytes.
            method_bytes_max: 32,
            underscores: Underscores::Reject,
            // No known sender needs any; a limit per body keeps one byte of data from costing a
            // kilobyte of extensions over and over (CVE-2023-39326).
            chunk_extension_bytes_max: 4 * 1024,
            trailer_bytes_max: 8 * 1024,
            trailer_count_max: 32,
        }
    }
}

impl Limits {
    /// The longest request line these limits can admit, its CRLF included: a scan need not wait
    /// for the end of a line that is longer.
    pub(crate) fn request_line_bytes_max(&self) -> usize {
        const AROUND: usize = "  HTTP/1.1\r\n".len();
        self.method_bytes_max as usize + self.target_bytes_max as usize + AROUND
    }
}

/// What to do with a field name that contains an underscore.
///
/// CGI and WSGI map both `-` and `_` to `_`, so that behind them `X_Forwarded_For` passes for
/// `X-Forwarded-For`: such names are refused unless the operator knows better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// The message is malformed.
    #[default]
    Reject,
    /// The field is left out of the parsed head.
    Drop,
    /// The field is kept like any other.
    Keep,
}
