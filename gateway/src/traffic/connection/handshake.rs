//! The TLS handshake with a client: its first words, the policy that the name in them chooses, and
//! who is at the other end.
//!
//! Handshakes are a worker's most expensive work, so they take turns (see `lane`), and only so many
//! are under way at once: the excess is closed before it costs anything.
//!
//! Must not: write to the log above debug level. Whoever can connect can fail a handshake, as often
//! as they like; failures are counted by what they were.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use cardea_acme::{Challenges, OnDemand};
use cardea_certs::greeting::Refused;
use rustls::ServerConfig;
use rustls::server::Accepted;
use rustls::{CertificateError, Error as TlsError, PeerIncompatible};

use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::HandshakeEnd;
use crate::traffic::exchange::Client;
use crate::traffic::lane::Place;
use crate::traffic::socket::{GreetingError, Socket};
use crate::traffic::timer::Direction;
use crate::traffic::tls::{ListenerTls, Session};
use crate::traffic::worker::Worker;

/// Makes the handshake; an error when the connection is of no use after it.
pub(super) async fn make(
    worker: &Rc<Worker>,
    plan: &ListenerPlan,
    socket: &mut Socket,
    client: &mut Client,
) -> Result<(), HandshakeEnd> {
    let Some(tls) = &plan.tls else {
        return Ok(());
    };
    let place = worker.lane.enter(plan.handshakes_max);
    let place = place.ok_or(HandshakeEnd::Refused)?;
    socket.set_deadline(Direction::Read, plan.handshake_timeout);
    socket.set_deadline(Direction::Write, plan.handshake_timeout);
    let snapshot = worker.snapshot.load();
    let orders = Orders {
        challenges: Arc::clone(&snapshot.challenges),
        on_demand: Arc::clone(&snapshot.on_demand),
    };
    drop(snapshot);
    let turns = Turns {
        place: &place,
        worker,
    };
    let met = meet(&turns, &orders, plan, tls, socket, client).await;
    drop(place);
    if let Err(failure) = met {
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
    let resumed = client.tls.as_ref().is_some_and(|tls| tls.resumed);
    let end = match (resumed, socket.is_handshaking()) {
        (true, true) => HandshakeEnd::Early,
        (true, false) => HandshakeEnd::Resumed,
        (false, _) => HandshakeEnd::Full,
    };
    worker.metrics.handshake_finished(plan.slot.id(), end);
    Ok(())
}

/// The turns that a handshake takes among those of its worker.
struct Turns<'t> {
    place: &'t Place,
    worker: &'t Worker,
}

impl Turns<'_> {
    async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let served = || self.worker.metrics.requests();
        self.place.take_turn(served, work).await
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
    plan: &ListenerPlan,
    tls: &ListenerTls,
    socket: &mut Socket,
    client: &mut Client,
) -> Result<(), Failure> {
    let accepted = match socket.greeted().await {
        Ok(accepted) => accepted,
        Err(GreetingError::Refused(refused)) => return Err(turn_away(socket, refused)),
        Err(GreetingError::PlainHttp) => return Err(Failure::PlainHttp),
        Err(GreetingError::Io(error)) => return Err(Failure::Io(error)),
    };
    let hello = accepted.client_hello();
    let server_name = hello.server_name();
    if Challenges::is_asked_in(&hello) {
        let proof = server_name.and_then(|name| orders.challenges.handshake(name));
        return Err(show_proof(socket, accepted, proof).await);
    }
    if let Some(name) = server_name
        && !tls.certificates.has_name(name)
        && let Some(wish) = orders.on_demand.wish(name)
    {
        // What does not come in time is there for the next attempt.
        let wait = socket.wait_for(wish.settled());
        turns.place.step_aside(wait).await;
    }
    if tls.refuses(server_name) {
        turn_away(socket, Refused::unknown_name());
        return Err(Failure::UnknownName);
    }
    let domain = server_name.and_then(|name| plan.hosts.find(name.as_bytes()));
    let policy = tls.policy_of(domain);
    let session = turns
        .take(|| Session::accept(accepted, &policy.config))
        .await;
    let session = session.map_err(|refused| turn_away(socket, refused))?;
    let is_early = session.is_early();
    socket.start_session(session);
    if is_early {
        // A request came along: the rest of the handshake is made beside it, or before it.
        socket.start_early().await?;
    } else {
        socket.handshake().await?;
    }
    if let Some(session) = socket.session() {
        let identity = session.borrow().identity(policy)?;
        client.tls = Some(Box::new(identity));
    }
    Ok(())
}

/// Shakes hands with an authority that looks for proof in the certificate (RFC 8737); nothing is
/// said on such a connection.
async fn show_proof(
    socket: &mut Socket,
    accepted: Accepted,
    proof: Option<Arc<ServerConfig>>,
) -> Failure {
    let Some(proof) = proof else {
        turn_away(socket, Refused::unknown_name());
        return Failure::UnknownName;
    };
    let session = match Session::accept(accepted, &proof) {
        Ok(session) => session,
        Err(refused) => return turn_away(socket, refused),
    };
    socket.start_session(session);
    match socket.handshake().await {
        // Told goodbye, or gone already.
        Ok(()) => {
            let _ = socket.say_goodbye().await;
            Failure::Proved
        }
        Err(error) => error.into(),
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
