//! The exchange of one stream: from the text of its head to the end of its response, in a task of its
//! own.
//!
//! Must not: differ from an exchange of HTTP/1 in anything but how it is carried.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use cardea_http1::{Framing, Limits, Method, RequestHead};
use cardea_http2::{ErrorCode, Fault, MessageFault, Verdict};
use data_encoding::BASE64;

use super::{Caller, runner};
use crate::traffic::body::{Body, Pace};
use crate::traffic::connection::client::{ClientEnd, ClientSide};
use crate::traffic::connection::conduct::{answer, conduct};
use crate::traffic::connection::head::{HeadFacts, Refused, facts, fill_request};
use crate::traffic::connection::upgrade::First;
use crate::traffic::connection::{LINGER_BYTES_MAX, LINGER_TIME_MAX};
use crate::traffic::exchange::{Exchange, Protocol, Request};
use crate::traffic::forward::End;
use crate::traffic::headers::HeaderName;
use crate::traffic::http2::{Hub, Stream, StreamBody};
use crate::traffic::respond::{Reason, Reply};
use crate::traffic::worker::Worker;
use crate::traffic::{admit, finish};

/// An exchange that was begun: its stream, and what its head says.
#[derive(Debug)]
pub(super) struct Begun {
    stream: Rc<Stream>,
    caller: Rc<Caller>,
    request: Box<Request>,
    read: Result<HeadFacts, Refused>,
    /// When its head was complete, if it could not start at once.
    pub(super) arrived: Option<Instant>,
}

/// Begins the exchange of a stream whose head is there.
pub(super) fn begin(
    hub: &Rc<Hub>,
    caller: &Rc<Caller>,
    id: u32,
    is_end: bool,
    verdict: Verdict,
    text: Vec<u8>,
) {
    let worker = hub.worker();
    let snapshot = worker.snapshot.of(caller.ticket.listener());
    let Some(plan) = snapshot.listener(caller.ticket.listener()) else {
        worker.buffers.give_output(text);
        hub.act(|codec| codec.reset(id, ErrorCode::REFUSED_STREAM));
        return;
    };
    let mut head = worker.take_request_head();
    let mut request = worker.take_request();
    let before = std::mem::replace(&mut request.headers.bytes, text);
    worker.buffers.give_input(before);
    let read = Reading {
        head: &mut head,
        request: &mut request,
        limits: &plan.limits,
        is_end,
    }
    .read(worker, verdict);
    worker.give_request_head(head);
    if let (Ok(_), Framing::Length(length)) = (&read, request.framing) {
        hub.codec().expect_body(id, length);
    }
    if read.is_err() {
        // What could not be read has no parts to tell of.
        let text = std::mem::take(&mut request.headers.bytes);
        worker.buffers.give_input(text);
        request.headers.fields.clear();
        request.framing = Framing::None;
        request.protocol = Protocol::Http2;
    }
    let stream = Stream::new(hub, id, is_end);
    hub.add(Rc::clone(&stream));
    let begun = Begun {
        stream,
        caller: Rc::clone(caller),
        request,
        read,
        arrived: None,
    };
    runner::run(worker, begun);
}

/// Begins the exchange of a request that asked for HTTP/2 (RFC 7540 section 3.2).
///
/// # Errors
/// The settings that came with it break a rule.
pub(super) fn begin_upgraded(
    hub: &Rc<Hub>,
    caller: &Rc<Caller>,
    first: First,
) -> Result<(), Fault> {
    let First {
        mut request,
        facts,
        settings,
    } = first;
    hub.act(|codec| codec.begin_upgraded(&settings))?;
    request.protocol = Protocol::Http2;
    let stream = Stream::new(hub, 1, true);
    hub.add(Rc::clone(&stream));
    let begun = Begun {
        stream,
        caller: Rc::clone(caller),
        request,
        read: Ok(facts),
        arrived: None,
    };
    runner::run(hub.worker(), begun);
    Ok(())
}

/// A head being read.
struct Reading<'r> {
    head: &'r mut RequestHead,
    request: &'r mut Request,
    limits: &'r Limits,
    is_end: bool,
}

impl Reading<'_> {
    fn read(self, worker: &Worker, verdict: Verdict) -> Result<HeadFacts, Refused> {
        if let Some(fault) = verdict.fault {
            return Err(refused(fault));
        }
        let Self { head, request, .. } = self;
        head.parse(&request.headers.bytes, self.limits)
            .map_err(|error| Refused::from(&error))?;
        fill_request(request, head);
        request.protocol = Protocol::Http2;
        let facts = facts(head)?;
        if verdict.is_tunnel && !facts.is_upgrade {
            return Err(Reason::UpgradeInvalid.into());
        }
        if facts.is_upgrade {
            let key = [worker.random.next(), worker.random.next()].map(u64::to_be_bytes);
            let key = BASE64.encode(key.as_flattened());
            let name = HeaderName::new("sec-websocket-key");
            request.headers.set(&name, key.as_bytes());
            return Ok(facts);
        }
        match (request.framing, self.is_end) {
            (Framing::Length(1..), true) => {
                return Err(Refused {
                    reason: Reason::LengthInvalid,
                    detail: Some("The body that Content-Length speaks of is missing.".into()),
                });
            }
            // How long it is, its end will tell.
            (Framing::None, false) => request.framing = Framing::Chunked,
            _ => {}
        }
        Ok(facts)
    }
}

fn refused(fault: MessageFault) -> Refused {
    let reason = match fault {
        MessageFault::TooLarge | MessageFault::TooMany => Reason::HeadTooLarge,
        MessageFault::HostDiffers | MessageFault::Authority => Reason::HostInvalid,
        MessageFault::Path | MessageFault::Method | MessageFault::Scheme => {
            Reason::RequestLineMalformed
        }
        MessageFault::Protocol => Reason::UpgradeInvalid,
        MessageFault::ConnectionField | MessageFault::Te => Reason::ConnectionInvalid,
        _ => Reason::HeaderMalformed,
    };
    Refused {
        reason,
        detail: Some(format!("{fault}.").into_boxed_str()),
    }
}

/// Serves a stream to its end.
pub(super) async fn serve(begun: Begun) {
    let Begun {
        stream,
        caller,
        request,
        read,
        arrived,
    } = begun;
    let worker = Rc::clone(stream.hub().worker());
    let worker = &worker;
    let snapshot = worker.snapshot.of(caller.ticket.listener());
    let Some(plan) = snapshot.listener(caller.ticket.listener()) else {
        worker.give_request(request);
        stream.close(ErrorCode::REFUSED_STREAM);
        return;
    };
    let mut exchange = admit::open(worker, &snapshot, plan, &caller.client, request);
    if let Some(arrived) = arrived {
        // That it had to wait says nothing about its upstream.
        exchange.upstream.turn = Some(exchange.started);
        exchange.started = arrived;
    }
    let is_malformed = read.is_err();
    let is_upgrade = matches!(read, Ok(facts) if facts.is_upgrade);
    let client = ClientSide {
        end: ClientEnd::Http2(&stream),
        ticket: &caller.ticket,
        is_head: !is_malformed && exchange.request.method == Method::Head,
        persistent: Cell::new(true),
        head_sent: Cell::new(false),
        expects_continue: Cell::new(matches!(read, Ok(facts) if facts.expects_continue)),
    };
    let pace = Pace::new(
        exchange.timeouts.body_progress,
        exchange.timeouts.body_rate_min,
    );
    let mut body = Body::from(StreamBody::new(&stream, is_upgrade, pace));
    let end = match read {
        // What was given up in the same breath as it was asked is nobody's work.
        Ok(_) if stream.loss().is_some() => End::Cut(Reason::ClientClosed),
        Ok(_) => conduct(worker, &mut exchange, &client, &mut body, is_upgrade).await,
        Err(refused) => {
            let mut reply = Reply::new(refused.reason);
            reply.detail = refused.detail;
            answer(&mut exchange, &client, &mut body, *reply).await
        }
    };
    let code = match code(&mut exchange, end) {
        // RFC 9113 section 8.1.1.
        ErrorCode::NO_ERROR if is_malformed => ErrorCode::PROTOCOL_ERROR,
        code => code,
    };
    finish::finish(worker, exchange);
    if code == ErrorCode::NO_ERROR && !is_upgrade {
        discard(worker, &mut body).await;
    }
    stream.close(code);
}

/// The code that a stream is reset with, if it is not over after its exchange.
fn code(exchange: &mut Exchange<'_>, end: End) -> ErrorCode {
    match end {
        // RFC 9113 section 8.1: a response may come before the end of its request.
        End::Complete => ErrorCode::NO_ERROR,
        End::Cut(reason) => {
            exchange.fail(reason);
            match reason {
                Reason::ClientClosed | Reason::ClientTooSlow => ErrorCode::CANCEL,
                _ => ErrorCode::INTERNAL_ERROR,
            }
        }
    }
}

/// Reads and drops what is still to come of a request that was answered early, within limits: there
/// are clients that take the reset of a stream for the failure of its response.
async fn discard(worker: &Worker, body: &mut Body<'_>) {
    let started = Instant::now();
    let mut dropped = 0;
    body.set_pace(Pace::new(LINGER_TIME_MAX, 0));
    while dropped < LINGER_BYTES_MAX && started.elapsed() < LINGER_TIME_MAX && !body.is_done() {
        match body.next(&worker.buffers).await {
            Ok(Some(piece)) => dropped += piece.len(),
            Ok(None) | Err(_) => return,
        }
    }
}
