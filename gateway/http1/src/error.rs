//! Why bytes are not a message: what is wrong and at which byte. The codec classifies; which
//! status and reason a client sees is decided where responses are made, not here.

/// What an error means for the exchange, coarse enough to map onto a reason by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The bytes do not follow the grammar.
    Syntax,
    /// The length of the message cannot be told for certain.
    Framing,
    /// The host is missing, repeated, contradictory or malformed.
    Host,
    /// The request target is malformed.
    Target,
    /// The request target is longer than the limit.
    TargetTooLong,
    /// The head, or the number of something in it, exceeds the limit.
    HeadTooLarge,
    /// A method or transfer coding that nothing here can know.
    NotImplemented,
    /// A major version other than 1.
    Version,
    /// An expectation other than `100-continue`.
    Expectation,
}

/// A head that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (byte {offset} of the head)")]
pub struct HeadError {
    fault: HeadFault,
    offset: u32,
}

impl HeadError {
    #[cold]
    pub(crate) fn new(fault: HeadFault, offset: usize) -> Self {
        Self {
            fault,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        }
    }

    /// What exactly is wrong.
    pub fn fault(self) -> HeadFault {
        self.fault
    }

    /// The offending byte, counted from the first byte of the head.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// What it means for the exchange.
    pub fn kind(self) -> ErrorKind {
        self.fault.kind()
    }

    /// The same error within bytes that begin `base` bytes earlier.
    #[cold]
    pub(crate) fn shifted(self, base: u32) -> Self {
        Self {
            offset: self.offset.saturating_add(base),
            ..self
        }
    }
}

/// What can be wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadFault {
    /// Fewer bytes than a whole head were given to a parser that needs one.
    #[error("the head ends before its empty line")]
    Incomplete,
    /// More bytes than one head were given to a parser that takes one.
    #[error("bytes follow the head's empty line")]
    Surplus,
    /// A line feed without a carriage return.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// A carriage return without a line feed.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// NUL, DEL or another control character.
    #[error("a control character")]
    Control,
    /// An empty line where a first line is due.
    #[error("an empty line where the first line should be")]
    EmptyFirstLine,
    /// The head is longer than [`Limits::head_bytes_max`](crate::Limits::head_bytes_max).
    #[error("the head is longer than the limit")]
    HeadTooLong,
    /// More fields than [`Limits::field_count_max`](crate::Limits::field_count_max).
    #[error("more fields than the limit")]
    TooManyFields,
    /// More names than [`Limits::nominated_count_max`](crate::Limits::nominated_count_max).
    #[error("Connection nominates more names than the limit")]
    TooManyNominated,

    /// The method is not a token followed by one space.
    #[error("the method is not a token followed by one space")]
    BadMethod,
    /// The method is longer than [`Limits::method_bytes_max`](crate::Limits::method_bytes_max).
    #[error("the method is longer than the limit")]
    MethodTooLong,
    /// The target is longer than [`Limits::target_bytes_max`](crate::Limits::target_bytes_max).
    #[error("the request target is longer than the limit")]
    TargetTooLong,
    /// A character that may not stand in a request target.
    #[error("a character that may not stand in a request target")]
    TargetCharacter,
    /// The target has none of the forms that its method admits.
    #[error("the request target has none of the forms its method admits")]
    TargetForm,
    /// The version is missing or malformed.
    #[error("the version is missing or malformed")]
    BadVersion,
    /// A major version other than 1.
    #[error("a major version other than 1")]
    UnsupportedVersion,
    /// Not a three-digit status code.
    #[error("the status code is not three digits of 100 or above")]
    BadStatus,

    /// A field name is empty or holds a character that is not a token's.
    #[error("the field name is not a token followed by a colon")]
    BadFieldName,
    /// Whitespace between a field name and its colon.
    #[error("whitespace between a field name and its colon")]
    SpaceBeforeColon,
    /// A field value continued on the next line.
    #[error("a field value is continued on the next line")]
    ObsFold,
    /// An underscore in a field name, where they are refused.
    #[error("an underscore in a field name")]
    Underscore,

    /// HTTP/1.1 without a Host field.
    #[error("HTTP/1.1 without a Host field")]
    MissingHost,
    /// More than one Host field.
    #[error("more than one Host field")]
    RepeatedHost,
    /// Not `host` or `host:port`.
    #[error("the host is not a name, an address or either with a port")]
    BadHost,
    /// The target's authority and the Host field name different hosts.
    #[error("the request target and the Host field disagree")]
    HostMismatch,

    /// Not a plain decimal number.
    #[error("Content-Length is not a plain decimal number")]
    BadContentLength,
    /// Content-Length more than once.
    #[error("Content-Length more than once")]
    RepeatedContentLength,
    /// Content-Length together with Transfer-Encoding.
    #[error("Content-Length together with Transfer-Encoding")]
    LengthAndEncoding,
    /// Transfer-Encoding is malformed, repeated or does not end in one `chunked`.
    #[error("Transfer-Encoding is malformed, repeated, or `chunked` is not its last coding")]
    BadTransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("a transfer coding other than chunked")]
    UnknownTransferCoding,
    /// Transfer-Encoding in HTTP/1.0, which does not have it.
    #[error("Transfer-Encoding in HTTP/1.0")]
    EncodingInHttp10,
    /// Connection is not a list of tokens.
    #[error("Connection is not a list of tokens")]
    BadConnection,
    /// An expectation other than `100-continue`.
    #[error("an expectation other than 100-continue")]
    UnknownExpectation,
}

impl HeadFault {
    /// What it means for the exchange.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Incomplete
            | Self::Surplus
            | Self::BareLf
            | Self::BareCr
            | Self::Control
            | Self::EmptyFirstLine
            | Self::BadMethod
            | Self::BadVersion
            | Self::BadStatus
            | Self::BadFieldName
            | Self::SpaceBeforeColon
            | Self::ObsFold
            | Self::Underscore
            | Self::BadConnection => ErrorKind::Syntax,
            Self::TargetCharacter | Self::TargetForm => ErrorKind::Target,
            Self::TargetTooLong => ErrorKind::TargetTooLong,
            Self::HeadTooLong | Self::TooManyFields | Self::TooManyNominated => {
                ErrorKind::HeadTooLarge
            }
            Self::MissingHost | Self::RepeatedHost | Self::BadHost | Self::HostMismatch => {
                ErrorKind::Host
            }
            Self::BadContentLength
            | Self::RepeatedContentLength
            | Self::LengthAndEncoding
            | Self::BadTransferEncoding
            | Self::EncodingInHttp10 => ErrorKind::Framing,
            // RFC 9112 sections 3 and 6.1 ask for 501 in both cases.
            Self::MethodTooLong | Self::UnknownTransferCoding => ErrorKind::NotImplemented,
            Self::UnsupportedVersion => ErrorKind::Version,
            Self::UnknownExpectation => ErrorKind::Expectation,
        }
    }
}

/// A chunked body that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (byte {offset} of the body)")]
pub struct ChunkError {
    fault: ChunkFault,
    offset: u64,
}

impl ChunkError {
    #[cold]
    pub(crate) fn new(fault: ChunkFault, offset: u64) -> Self {
        Self { fault, offset }
    }

    /// What exactly is wrong.
    pub fn fault(self) -> ChunkFault {
        self.fault
    }

    /// The offending byte, counted from the first byte of the encoded body.
    pub fn offset(self) -> u64 {
        self.offset
    }
}

/// What can be wrong with a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChunkFault {
    /// A chunk does not begin with a hexadecimal digit.
    #[error("a chunk size is not a hexadecimal number")]
    BadSize,
    /// A chunk size of more digits than any length needs, or beyond 2^63 − 1.
    #[error("a chunk size is too large")]
    SizeTooLarge,
    /// A chunk extension breaks the grammar.
    #[error("a chunk extension is malformed")]
    BadExtension,
    /// More than [`Limits::chunk_extension_bytes_max`](crate::Limits::chunk_extension_bytes_max).
    #[error("the chunk extensions are longer than the limit")]
    ExtensionsTooLong,
    /// A chunk header ends in something other than CRLF.
    #[error("a chunk header does not end in CRLF")]
    BadLineEnd,
    /// The data of a chunk is not followed by CRLF: its size was wrong.
    #[error("chunk data is not followed by CRLF")]
    BadDataEnd,
    /// More than [`Limits::trailer_bytes_max`](crate::Limits::trailer_bytes_max).
    #[error("the trailer section is longer than the limit")]
    TrailersTooLong,
    /// More than [`Limits::trailer_count_max`](crate::Limits::trailer_count_max).
    #[error("more trailer fields than the limit")]
    TooManyTrailers,
    /// A trailer field is malformed.
    #[error("a trailer field is malformed: {0}")]
    Trailer(HeadFault),
}
