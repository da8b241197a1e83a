//! The named limits of a connection. A listener or an upstream fills them in from its
//! configuration; the codec only compares against them.

use crate::frame::PAYLOAD_BYTES_MAX;

/// What one connection may cost us before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams that the peer may have open at once; at a client, those that we open, if the peer allows
    /// as many.
    pub streams_max: u32,
    /// Bytes of a body that the peer may send before they are asked for, per stream.
    pub stream_window_bytes: u32,
    /// The same over all streams: the most that a connection makes us hold.
    pub connection_window_bytes: u32,
    /// Bytes of a field list once decompressed, each field with its name and value on a line of its
    /// own; cookies count as they come, crumb by crumb.
    pub head_bytes_max: u32,
    /// Fields in a list, cookie crumbs included.
    pub field_count_max: u32,
    /// Bytes of a field block as sent, all its frames together.
    pub block_bytes_max: u32,
    /// Frames that ask for nothing (PING, SETTINGS, PRIORITY, empty DATA, needless WINDOW_UPDATE
    /// and the like) within [`Limits::BUDGET_PERIOD_MS`].
    pub control_frames_max: u32,
    /// Streams that the peer resets, or makes us reset, within the same time; every request that
    /// is served allows one more.
    pub resets_max: u32,
    /// Bytes of the table that the peer may fill with fields.
    pub table_bytes_max: u32,
}

impl Limits {
    /// How long it takes until a used-up budget is whole again, milliseconds.
    pub const BUDGET_PERIOD_MS: u64 = 10_000;

    /// The largest payload of a frame to us.
    pub const FRAME_BYTES_MAX: u32 = PAYLOAD_BYTES_MAX;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 1024 * 1024,
            head_bytes_max: 32 * 1024,
            field_count_max: 100,
            block_bytes_max: 32 * 1024,
            control_frames_max: 500,
            resets_max: 200,
            table_bytes_max: 4096,
        }
    }
}
