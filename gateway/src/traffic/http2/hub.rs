//! What the streams of a connection share: the codec, in whose output they all write, and the list
//! of them, by which the driver finds whom an event is for.
//!
//! Must not: be borrowed over a wait. Every method takes what it needs and gives it back.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cardea_http2::{Connection as Codec, Limits, Role};

use super::Stream;
use super::stream::{Head, Loss};
use crate::traffic::buffer::BODY_BYTES;
use crate::traffic::upstream::local::BuildIdHasher;
use crate::traffic::worker::Worker;

/// Bytes that may wait to be sent before streams wait with theirs.
pub(super) const OUTPUT_BYTES_MAX: usize = BODY_BYTES;

/// What the streams of a connection share.
#[derive(Debug)]
pub struct Hub {
    worker: Rc<Worker>,
    local_address: Cell<Option<SocketAddr>>,
    codec: RefCell<Codec>,
    /// Bytes of the codec's output that were sent.
    sent: Cell<usize>,
    streams: RefCell<HashMap<u32, Rc<Stream>, BuildIdHasher>>,
    driver: RefCell<Option<Waker>>,
    is_over: Cell<bool>,
}

impl Hub {
    /// What the streams of a new connection share.
    pub fn new(worker: &Rc<Worker>, role: Role, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            local_address: Cell::new(None),
            codec: RefCell::new(Codec::new(role, limits)),
            sent: Cell::new(0),
            streams: RefCell::default(),
            driver: RefCell::new(None),
            is_over: Cell::new(false),
        })
    }

    /// The worker.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The address that the client connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local_address.get()
    }

    /// Says which address the client connected to.
    pub fn set_local_address(&self, address: Option<SocketAddr>) {
        self.local_address.set(address);
    }

    /// The codec.
    pub fn codec(&self) -> RefMut<'_, Codec> {
        self.codec.borrow_mut()
    }

    /// Has the codec write something, and the driver send it.
    pub fn act<T>(&self, act: impl FnOnce(&mut Codec) -> T) -> T {
        let mut codec = self.codec.borrow_mut();
        if codec.out.capacity() == 0 {
            codec.out = self.worker.buffers.take_output();
        }
        let result = act(&mut codec);
        let has_output = !codec.out.is_empty();
        drop(codec);
        if has_output {
            self.wake_driver();
        }
        result
    }

    /// Whether no stream is open, nor any exchange under way.
    pub fn is_empty(&self) -> bool {
        self.streams.borrow().is_empty()
    }

    /// Whether nothing more comes and goes.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Bytes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.codec.borrow().out.len() - self.sent.get()
    }

    /// The bytes that wait to be sent.
    pub fn output<'o>(&self, codec: &'o Codec) -> &'o [u8] {
        codec.out.get(self.sent.get()..).unwrap_or_default()
    }

    /// Takes note of bytes that were sent; whether more are waiting. Streams that waited for room go
    /// on when half of it is there.
    pub fn note_sent(&self, bytes: usize) -> bool {
        let mut codec = self.codec.borrow_mut();
        let sent = self.sent.get() + bytes;
        let pending = codec.out.len().saturating_sub(sent);
        self.sent.set(sent);
        if pending == 0 {
            self.sent.set(0);
            // A connection that waits holds no buffer.
            let out = std::mem::take(&mut codec.out);
            self.worker.buffers.give_output(out);
        }
        if self.sent.get() >= OUTPUT_BYTES_MAX {
            // What is always filled up again is never empty.
            codec.out.drain(..self.sent.take());
        }
        drop(codec);
        if pending < OUTPUT_BYTES_MAX / 2 {
            self.wake_writers(0);
        }
        pending > 0
    }

    /// Waits for something to send.
    pub fn poll_output(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pending() > 0 {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }

    /// Waits until the client has read most of what it was sent.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pending() <= OUTPUT_BYTES_MAX {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }

    fn register(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        match &*driver {
            Some(held) if held.will_wake(cx.waker()) => {}
            _ => *driver = Some(cx.waker().clone()),
        }
    }

    /// Has the driver look again.
    pub fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Adds a stream.
    pub fn add(&self, stream: Rc<Stream>) {
        self.streams.borrow_mut().insert(stream.id(), stream);
    }

    /// Forgets a stream whose exchange is over.
    pub fn remove(&self, id: u32) {
        let mut streams = self.streams.borrow_mut();
        streams.remove(&id);
        if streams.is_empty() {
            *streams = HashMap::default();
            drop(streams);
            self.wake_driver();
        }
    }

    /// Passes bytes of a body on to their stream.
    pub fn receive(&self, id: u32, bytes: &[u8], is_end: bool) {
        match self.streams.borrow().get(&id) {
            Some(stream) => stream.receive(bytes, is_end),
            // Its exchange is over; nobody will read them.
            None => self.act(|codec| codec.consume(id, bytes.len())),
        }
    }

    /// Passes the fields after a body on to their stream.
    pub fn receive_trailers(&self, id: u32, text: Vec<u8>) {
        if let Some(stream) = self.streams.borrow().get(&id) {
            stream.receive_trailers(text);
        }
    }

    /// Passes the head of a response on to its stream.
    pub fn receive_head(&self, id: u32, head: Head) {
        if let Some(stream) = self.streams.borrow().get(&id) {
            stream.receive_head(head);
        }
    }

    /// Tells a stream that it is lost.
    pub fn lose(&self, id: u32, loss: Loss) {
        if let Some(stream) = self.streams.borrow().get(&id) {
            stream.lose(loss);
        }
    }

    /// Tells the streams above one that nothing was done about them.
    pub fn lose_above(&self, last: u32) {
        let streams = self.streams.borrow();
        let above = streams.values().filter(|stream| stream.id() > last);
        above.for_each(|stream| stream.lose(Loss::Refused));
    }

    /// Has streams look whether there is room to write: one of them, or all with zero.
    pub fn wake_writers(&self, id: u32) {
        let streams = self.streams.borrow();
        match id {
            0 => streams.values().for_each(|stream| stream.wake_writer()),
            _ => streams.get(&id).into_iter().for_each(|it| it.wake_writer()),
        }
    }

    /// Ends the streams: nothing more comes or goes.
    pub fn end(&self) {
        self.is_over.set(true);
        for stream in self.streams.borrow().values() {
            stream.lose(Loss::Gone);
        }
    }

    /// Waits until every exchange is over.
    pub async fn until_empty(&self) {
        poll_fn(|cx| {
            if self.is_empty() {
                return Poll::Ready(());
            }
            self.register(cx);
            Poll::Pending
        })
        .await;
    }
}
