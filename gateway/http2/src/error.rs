//! Why a connection or a stream ends: the codes of RFC 9113 section 7 that peers are told, and the
//! faults behind them that are counted here.
//!
//! Must not: be vague. A fault names one rule, so that a count of it says what somebody did.

/// An error code (RFC 9113 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0x0);
    /// A rule of the protocol was broken.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// The fault is the sender's own.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// More was sent than the window allowed, or a window grew beyond its limit.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// A frame came for a stream that is over.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame has a length that its kind cannot have.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// Nothing was done about the stream; it may be tried again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is not wanted any more.
    pub const CANCEL: Self = Self(0x8);
    /// The field compression is out of step.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The connection behind a CONNECT was reset.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer makes too much work.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The request has to be made over HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);
}

/// Declares the faults once, each with the word that metrics carry and the code that peers get.
macro_rules! faults {
    ($($variant:ident $word:literal $code:ident $text:literal)*) => {
        /// A broken rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Fault {
            $(#[doc = $text] #[error($text)] $variant,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What the peer is told.
            pub const fn code(self) -> ErrorCode {
                match self { $(Self::$variant => ErrorCode::$code),* }
            }
        }
    };
}

faults! {
    Preface "preface" PROTOCOL_ERROR "the connection did not begin with the client's preface and settings"
    FrameSize "frame_size" FRAME_SIZE_ERROR "a frame has a length that its kind cannot have"
    StreamId "stream_id" PROTOCOL_ERROR "a frame is for a stream that it cannot be for"
    StreamIdle "stream_idle" PROTOCOL_ERROR "a frame is for a stream that was never opened"
    StreamClosed "stream_closed" STREAM_CLOSED "a frame is for a stream that is over"
    Padding "padding" PROTOCOL_ERROR "a frame has more padding than it has room for"
    Interleaved "interleaved" PROTOCOL_ERROR "another frame came in the middle of a field block"
    Continuation "continuation" PROTOCOL_ERROR "a CONTINUATION continues nothing"
    Push "push" PROTOCOL_ERROR "a PUSH_PROMISE came that nobody allowed"
    Settings "settings" PROTOCOL_ERROR "a setting has a value that it cannot have"
    Window "window" FLOW_CONTROL_ERROR "a window grew beyond its limit"
    WindowIncrement "window_increment" PROTOCOL_ERROR "a WINDOW_UPDATE adds nothing"
    WindowExceeded "window_exceeded" FLOW_CONTROL_ERROR "more was sent than the window allowed"
    Dependency "dependency" PROTOCOL_ERROR "a stream depends on itself"
    Compression "compression" COMPRESSION_ERROR "the field compression is broken"
    Message "message" PROTOCOL_ERROR "a message is malformed"
    BodyLength "body_length" PROTOCOL_ERROR "a body is not as long as its Content-Length says"
    StreamsExceeded "streams_exceeded" REFUSED_STREAM "more streams were opened than allowed"
    BlockTooLong "block_too_long" ENHANCE_YOUR_CALM "a field block is longer than allowed"
    FieldBomb "field_bomb" ENHANCE_YOUR_CALM "a field block expands to far more than allowed"
    ControlFlood "control_flood" ENHANCE_YOUR_CALM "too many frames that ask for nothing"
    ResetFlood "reset_flood" ENHANCE_YOUR_CALM "too many streams were reset"
    Stalled "stalled" ENHANCE_YOUR_CALM "a field block was begun and not ended in time"
    OutputFlood "output_flood" ENHANCE_YOUR_CALM "the peer asks for answers that it does not read"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_told_apart() {
        let words: HashSet<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
        assert_eq!(words.len(), Fault::ALL.len());
    }
}
