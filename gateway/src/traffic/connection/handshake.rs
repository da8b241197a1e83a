//! The TLS handshake with a client: its first words, the policy that the name in them chooses, and
//! who is at the other end.
//!
//! Handshakes are a worker's most expensive work, so they take turns (see `lane`), and only so many
//! wait for one at once: the excess is closed before it costs anything. A client that says nothing
//! takes no place among them.
//!
//! Must not: write to the log above debug level. Whoever can connect can fail a handshake, as often
//! as they like; failures are counted by what they were.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use cardea_acme::{Challenges, OnDemand};
use cardea_certs::greeting::{Greeting, Refused};
use rustls::ServerConfig;
use rustls::server::Accepted;
use rustls::{CertificateError, Error as TlsError, PeerIncompatible};

use super::tcp::Taken;
use super::{LINGER_BYTES_MAX, LINGER_TIME_MAX};
use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::HandshakeEnd;
use crate::traffic::exchange::Client;
use crate::traffic::lane::Lane;
use crate::traffic::socket::{GreetingError, Socket};
use crate::traffic::timer::Direction;
use crate::traffic::tls::{ListenerTls, Session};
use crate::traffic::worker::Worker;

/// Makes the handshake, unless a stream takes it as it is; an error when the connection is of no
/// use after it.
pub(super) async fn make(
    worker: &Rc<Worker>,
    plan: &ListenerPlan,
    socket: &mut Socket,
    client: &mut Client,
) -> Result<Option<Taken>, HandshakeEnd> {
    let Some(tls) = &plan.tls else {
        return Ok(None);
    };
    socket.set_deadline(Direction::Read, plan.handshake_timeout);
    socket.set_deadline(Direction::Write, plan.handshake_timeout);
    let snapshot = worker.snapshot.load();
    let orders = Orders {
        challenges: Arc::clone(&snapshot.challenges),
        on_demand: Arc::clone(&snapshot.on_demand),
    };
    drop(snapshot);
    let turns = Turns {
        lane: worker.lanes.of(plan.id),
        plan,
        worker,
    };
    let met = meet(&turns, &orders, tls, socket, client).await;
    let taken = match met {
        Ok(taken) => taken,
        Err(failure) => {
            let end = failure.end();
            tracing::debug!(
                peer = %client.peer,
                listener = &*plan.name,
                end = end.as_str(),
                ?failure,
                "handshake_failed"
            );
            return Err(end);
        }
    };
    let is_passed = taken.as_ref().is_some_and(|it| it.stream.passes_tls);
    let resumed = client.tls.as_ref().is_some_and(|tls| tls.resumed);
    let end = match (resumed, socket.is_handshaking()) {
        _ if is_passed => HandshakeEnd::Passed,
        (true, true) => HandshakeEnd::Early,
        (true, false) => HandshakeEnd::Resumed,
        (false, _) => HandshakeEnd::Full,
    };
    worker.metrics.handshake_finished(plan.slot.id(), end);
    Ok(taken)
}

/// Ends a connection whose handshake came to nothing, so that the client hears why: it may still
/// be speaking, and closing on words that nobody read would reset the connection.
pub(super) async fn part(socket: &Socket, end: HandshakeEnd) {
    let is_told_nothing = matches!(
        end,
        HandshakeEnd::Full
            | HandshakeEnd::Resumed
            | HandshakeEnd::Early
            | HandshakeEnd::Refused
            | HandshakeEnd::Silent
            | HandshakeEnd::TimedOut
            | HandshakeEnd::Closed
            | HandshakeEnd::PlainHttp
            | HandshakeEnd::Passed
            | HandshakeEnd::Proved
            | HandshakeEnd::Alert
    );
    if !is_told_nothing {
        socket.part(LINGER_TIME_MAX, LINGER_BYTES_MAX).await;
    }
}

/// The turns that a handshake takes among those of its worker, and the client's.
struct Turns<'t> {
    lane: Rc<Lane>,
    plan: &'t ListenerPlan,
    worker: &'t Worker,
}

impl Turns<'_> {
    /// Signs for a client, unless it is gone by the time that its turn comes.
    async fn sign(
        &self,
        socket: &Socket,
        accepted: Accepted,
        config: &Arc<ServerConfig>,
    ) -> Result<Session, Failure> {
        let place = self.lane.enter(self.plan.handshakes_max);
        let place = place.ok_or(Failure::TooMany)?;
        let served = || self.worker.metrics.requests();
        let is_late = || socket.timer().is_past(Direction::Read);
        let is_wanted = || !is_late() && !socket.is_gone();
        let sign = || Session::accept(accepted, config);
        match place.take_turn(served, is_wanted, sign).await {
            Some(session) => session.map_err(|refused| turn_away(socket, refused)),
            None if is_late() => Err(Failure::Io(ErrorKind::TimedOut.into())),
            None => Err(Failure::Io(ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Hears what a client has to say, as long as not too many others are silent.
    async fn hear<T, E: Into<Failure>>(
        &self,
        socket: &Socket,
        words: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let silence = self
            .lane
            .listen(self.plan.silent_max, socket.timer().handle());
        let heard = words.await;
        if silence.is_ended() {
            return Err(Failure::Silent);
        }
        heard.map_err(Into::into)
    }
}

/// What handshakes have to do with orders of certificates.
struct Orders {
    challenges: Arc<Challenges>,
    on_demand: Arc<OnDemand>,
}

async fn meet(
    turns: &Turns<'_>,
    orders: &Orders,
    tls: &ListenerTls,
    socket: &mut Socket,
    client: &mut Client,
) -> Result<Option<Taken>, Failure> {
    let plan = turns.plan;
    let mut greeting = match plan.streams.as_ref().is_some_and(|it| it.pass_tls) {
        true => Greeting::keeping(),
        false => Greeting::default(),
    };
    let accepted = match turns.hear(socket, socket.greeted(&mut greeting)).await {
        Err(Failure::Refused(refused)) => {
            // An endpoint that is passed everything on may speak what is not served here.
            let name = greeting.name_of_refused();
            let taken = name.and_then(|name| passed_on(plan, Some(&name), greeting));
            return match taken {
                Some(taken) => Ok(Some(taken)),
                None => Err(turn_away(socket, refused)),
            };
        }
        heard => heard?,
    };
    let hello = accepted.client_hello();
    let server_name = hello.server_name();
    if let Some(taken) = passed_on(plan, server_name, greeting) {
        return Ok(Some(taken));
    }
    let stream = plan.stream_of(server_name);
    if Challenges::is_asked_in(&hello) {
        let proof = server_name.and_then(|name| orders.challenges.handshake(name));
        return Err(show_proof(turns, socket, accepted, proof).await);
    }
    if let Some(name) = server_name
        && !tls.certificates.has_name(name)
        && let Some(wish) = orders.on_demand.wish(name)
        && let Some(_awaiting) = turns.lane.await_order()
    {
        // What does not come in time is there for the next attempt.
        socket.wait_for(wish.settled()).await;
    }
    let is_nobodys = stream.is_none() && !plan.serves_http();
    if is_nobodys || tls.refuses(server_name) {
        turn_away(socket, Refused::unknown_name());
        return Err(Failure::UnknownName);
    }
    let taken = stream.map(Taken::unread);
    let domain = server_name.and_then(|name| plan.hosts.find(name.as_bytes()));
    let policy = tls.policy_of(domain);
    let session = turns.sign(socket, accepted, &policy.config).await?;
    let is_early = session.is_early();
    socket.start_session(session);
    if is_early {
        // A request came along: the rest of the handshake is made beside it, or before it.
        socket.start_early().await?;
    } else {
        turns.hear(socket, socket.handshake()).await?;
    }
    if let Some(session) = socket.session() {
        let identity = session.borrow().identity(policy)?;
        client.tls = Some(Box::new(identity));
    }
    Ok(taken)
}

/// What a stream takes as it is, first words and all.
fn passed_on(plan: &ListenerPlan, server_name: Option<&str>, words: Greeting) -> Option<Taken> {
    let stream = plan.stream_of(server_name)?;
    stream.passes_tls.then(|| Taken {
        stream: Arc::clone(stream),
        words: words.into_words(),
        server_name: server_name.map(Into::into),
    })
}

/// Shakes hands with an authority that looks for proof in the certificate (RFC 8737); nothing is
/// said on such a connection.
async fn show_proof(
    turns: &Turns<'_>,
    socket: &mut Socket,
    accepted: Accepted,
    proof: Option<Arc<ServerConfig>>,
) -> Failure {
    let Some(proof) = proof else {
        turn_away(socket, Refused::unknown_name());
        return Failure::UnknownName;
    };
    match turns.sign(socket, accepted, &proof).await {
        Ok(session) => socket.start_session(session),
        Err(failure) => return failure,
    }
    match turns.hear(socket, socket.handshake()).await {
        // Told goodbye, or gone already.
        Ok(()) => {
            let _ = socket.say_goodbye().await;
            Failure::Proved
        }
        Err(failure) => failure,
    }
}

/// Tells a client why it is refused.
fn turn_away(socket: &Socket, refused: Refused) -> Failure {
    socket.send_plain(&refused.alert);
    Failure::Tls(refused.error)
}

/// Why a handshake came to nothing.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Tls(TlsError),
    PlainHttp,
    UnknownName,
    /// What the client said cannot be answered, and it has yet to be told.
    Refused(Refused),
    /// There are too many that wait for their turn.
    TooMany,
    /// It was silent longest when too many were.
    Silent,
    /// It was made for its certificate alone.
    Proved,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.downcast::<TlsError>() {
            Ok(error) => Self::Tls(error),
            Err(error) => Self::Io(error),
        }
    }
}

impl From<GreetingError> for Failure {
    fn from(error: GreetingError) -> Self {
        match error {
            GreetingError::Io(error) => Self::Io(error),
            GreetingError::PlainHttp => Self::PlainHttp,
            GreetingError::Refused(refused) => Self::Refused(refused),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl Failure {
    fn end(&self) -> HandshakeEnd {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::TimedOut => HandshakeEnd::TimedOut,
            Self::Io(_) => HandshakeEnd::Closed,
            Self::PlainHttp => HandshakeEnd::PlainHttp,
            Self::UnknownName => HandshakeEnd::UnknownName,
            Self::Proved => HandshakeEnd::Proved,
            Self::TooMany => HandshakeEnd::Refused,
            Self::Silent => HandshakeEnd::Silent,
            Self::Refused(refused) => end_of(&refused.error),
            Self::Tls(error) => end_of(error),
        }
    }
}

fn end_of(error: &TlsError) -> HandshakeEnd {
    match error {
        TlsError::InvalidMessage(_)
        | TlsError::InappropriateMessage { .. }
        | TlsError::InappropriateHandshakeMessage { .. }
        | TlsError::PeerMisbehaved(_)
        | TlsError::PeerSentOversizedRecord
        | TlsError::UnsupportedNameType
        | TlsError::DecryptError => HandshakeEnd::Malformed,
        TlsError::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => HandshakeEnd::Version,
        TlsError::PeerIncompatible(_) => HandshakeEnd::Algorithms,
        TlsError::NoApplicationProtocol => HandshakeEnd::Protocol,
        TlsError::NoCertificatesPresented => HandshakeEnd::ClientCertificateMissing,
        TlsError::InvalidCertificate(fault) => end_of_certificate(fault),
        TlsError::AlertReceived(_) => HandshakeEnd::Alert,
        _ => HandshakeEnd::Failed,
    }
}

fn end_of_certificate(fault: &CertificateError) -> HandshakeEnd {
    match fault {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeEnd::ClientCertificateExpired,
        CertificateError::Revoked
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            HandshakeEnd::ClientCertificateRevoked
        }
        CertificateError::ApplicationVerificationFailure => HandshakeEnd::ClientCertificateDenied,
        _ => HandshakeEnd::ClientCertificateInvalid,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, InvalidMessage};

    use super::*;

    #[test]
    fn failures_are_counted_by_what_they_were() {
        let check = |failure: Failure, expected: &str| {
            assert_eq!(failure.end().as_str(), expected);
        };
        let io = |kind: ErrorKind| Failure::from(io::Error::from(kind));
        let tls = |error: TlsError| Failure::from(io::Error::new(ErrorKind::InvalidData, error));
        check(io(ErrorKind::TimedOut), "timed_out");
        check(io(ErrorKind::ConnectionReset), "closed");
        check(tls(InvalidMessage::InvalidContentType.into()), "malformed");
        check(tls(PeerIncompatible::Tls12NotOffered.into()), "version");
        check(
            tls(PeerIncompatible::NoKxGroupsInCommon.into()),
            "algorithms",
        );
        check(tls(TlsError::NoApplicationProtocol), "protocol");
        let alert = AlertDescription::UnknownCA;
        check(tls(TlsError::AlertReceived(alert)), "alert");
        let missing = TlsError::NoCertificatesPresented;
        check(tls(missing), "client_certificate_missing");
        let certificate = |fault: CertificateError| tls(fault.into());
        check(
            certificate(CertificateError::Expired),
            "client_certificate_expired",
        );
        check(
            certificate(CertificateError::Revoked),
            "client_certificate_revoked",
        );
        check(
            certificate(CertificateError::UnknownIssuer),
            "client_certificate_invalid",
        );
        let denied = CertificateError::ApplicationVerificationFailure;
        check(certificate(denied), "client_certificate_denied");
    }
}
