//! The streams of a connection: what is open, and how much each side may still send.
//!
//! Must not: outlive its use. A stream is forgotten when both sides ended, or one reset it.

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// What the peer's window lets us send; a changed setting may make it negative.
    pub(crate) send_window: i64,
    /// What the peer may still send.
    pub(crate) receive_window: i64,
    /// Bytes consumed that the peer has not been told of.
    pub(crate) consumed: u32,
    /// What a Content-Length says is still to come.
    pub(crate) body_left: Option<u64>,
    /// Whether the peer said its last.
    pub(crate) is_received: bool,
    /// Whether we did.
    pub(crate) is_sent: bool,
    /// Whether the head of the message we receive was there; the next list is trailers. An interim
    /// response leaves it unset.
    pub(crate) has_head: bool,
}

impl Stream {
    pub(crate) fn is_over(&self) -> bool {
        self.is_received && self.is_sent
    }
}

/// The streams that are open, in the order of their ids, which only ever grow.
#[derive(Debug, Default)]
pub(crate) struct Streams(Vec<Stream>);

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, stream: Stream) {
        debug_assert!(
            self.0.last().is_none_or(|last| last.id < stream.id),
            "ids grow"
        );
        self.0.push(stream);
    }

    pub(crate) fn of(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.place(id)?;
        self.0.get_mut(at)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Stream> {
        let at = self.place(id)?;
        let stream = self.0.remove(at);
        if self.0.is_empty() {
            // A connection that waits holds no memory for streams.
            self.0 = Vec::new();
        }
        Some(stream)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.iter_mut()
    }

    /// The last one is asked for most.
    fn place(&self, id: u32) -> Option<usize> {
        match self.0.last() {
            Some(last) if last.id == id => Some(self.0.len() - 1),
            _ => self.0.binary_search_by_key(&id, |stream| stream.id).ok(),
        }
    }
}

/// Streams that we reset lately: what the peer sent before it knew is no fault of its.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    ids: Vec<u32>,
    next: usize,
}

/// Streams remembered at once: more than are usually open, because all may be reset together.
const GRAVES_MAX: usize = 128;

impl Graves {
    pub(crate) fn add(&mut self, id: u32) {
        match self.ids.get_mut(self.next) {
            Some(place) => *place = id,
            None => self.ids.push(id),
        }
        self.next = (self.next + 1) % GRAVES_MAX;
    }

    pub(crate) fn has(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream {
            id,
            send_window: 0,
            receive_window: 0,
            consumed: 0,
            body_left: None,
            is_received: false,
            is_sent: false,
            has_head: false,
        }
    }

    #[test]
    fn streams_are_found_by_id() {
        let mut streams = Streams::default();
        for id in [1, 3, 7, 9] {
            streams.push(stream(id));
        }
        assert_eq!(streams.of(7).map(|it| it.id), Some(7));
        assert!(streams.of(5).is_none());
        assert_eq!(streams.remove(3).map(|it| it.id), Some(3));
        assert!(streams.remove(3).is_none());
        assert_eq!((streams.len(), streams.of(9).is_some()), (3, true));
    }

    #[test]
    fn the_graves_of_long_ago_are_forgotten() {
        let mut graves = Graves::default();
        for id in 0..=GRAVES_MAX as u32 {
            graves.add(id);
        }
        assert!(!graves.has(0) && graves.has(1) && graves.has(GRAVES_MAX as u32));
    }
}
