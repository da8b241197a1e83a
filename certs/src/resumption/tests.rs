//! Who can come back with which session, when, and to whom.

use rustls::client::Resumption as ClientResumption;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::*;
use crate::live::LiveCertificates;
use crate::provider;
use crate::server::{MinVersion, PolicySettings, ServerPolicy};
use crate::store::{CertificateSpec, CertificateStore, Plan};
use crate::testing::{Authority, Clock, Wish, directory, handshake, place, replace};

const PERIOD_SECS: u64 = 6 * 60 * 60;

const WISH: fn() -> Wish<'static> = || Wish {
    names: &["a.test"],
    ..Wish::default()
};

struct Fixture {
    clock: Arc<Clock>,
    authority: Authority,
    roots: RootCertStore,
    spec: CertificateSpec,
    live: Arc<LiveCertificates>,
    resumption: Resumption,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let (_directory, path) = directory();
        let authority = Authority::new("authority");
        let spec = place(&path, "a", &authority, &WISH());
        let clock = Clock::now();
        Self {
            roots: authority.roots(),
            live: LiveCertificates::new(load(&spec)),
            resumption: resumption(&clock),
            spec,
            clock,
            authority,
            _directory,
        }
    }

    /// A configuration as a reload makes it: anew, of the same parts.
    fn server(&self) -> Arc<ServerConfig> {
        self.server_of(&PolicySettings::default())
    }

    fn server_of(&self, settings: &PolicySettings) -> Arc<ServerConfig> {
        let resolver = self.live.resolver(None, None);
        let policy = ServerPolicy::compile(settings, resolver, &self.resumption).unwrap();
        Arc::clone(&policy.config)
    }

    fn client(&self, client: Client) -> Arc<ClientConfig> {
        // On the test's clock, or the client would not offer what it takes for old.
        let time: Arc<dyn TimeProvider> = self.clock.clone();
        let mut config = ClientConfig::builder_with_details(provider::provider(), time)
            .with_protocol_versions(&[client.version()])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        if matches!(client, Client::Tls12SessionId) {
            config.resumption = ClientResumption::in_memory_sessions(16)
                .tls12_resumption(rustls::client::Tls12Resumption::SessionIdOnly);
        }
        Arc::new(config)
    }
}

fn resumption(clock: &Arc<Clock>) -> Resumption {
    let settings = ResumptionSettings {
        ticket_key_period: Duration::from_secs(PERIOD_SECS),
        sessions_max: 64,
        clock: clock.clone(),
    };
    Resumption::new(settings).unwrap()
}

fn load(spec: &CertificateSpec) -> CertificateStore {
    let plan = Plan {
        certificates: vec![spec.clone()],
        assignments: Vec::new(),
    };
    CertificateStore::build(plan, &CertificateStore::empty(), UnixTime::now()).unwrap()
}

/// The three ways in which clients come back.
#[derive(Debug, Clone, Copy)]
enum Client {
    Tls13,
    Tls12Ticket,
    Tls12SessionId,
}

const CLIENTS: [Client; 3] = [Client::Tls13, Client::Tls12Ticket, Client::Tls12SessionId];

impl Client {
    fn version(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls13 => &TLS13,
            Self::Tls12Ticket | Self::Tls12SessionId => &TLS12,
        }
    }
}

/// Whether a handshake resumed a session; client and server have to agree.
fn resumes(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> bool {
    let pair = handshake(client, server, "a.test").unwrap();
    let kind = pair.server.handshake_kind();
    assert_eq!(kind, pair.client.handshake_kind());
    kind == Some(HandshakeKind::Resumed)
}

#[test]
fn sessions_resume() {
    let fixture = Fixture::new();
    let server = fixture.server();
    for kind in CLIENTS {
        let client = fixture.client(kind);
        assert!(!resumes(&client, &server), "{kind:?}");
        // Each resumption brings the ticket for the next.
        for _ in 0..3 {
            assert!(resumes(&client, &server), "{kind:?}");
        }
    }
}

#[test]
fn sessions_survive_new_configurations_and_new_certificates() {
    let fixture = Fixture::new();
    for kind in CLIENTS {
        let client = fixture.client(kind);
        assert!(!resumes(&client, &fixture.server()));
        assert!(resumes(&client, &fixture.server()), "{kind:?}");

        replace(&fixture.spec, &fixture.authority.issue(&WISH()));
        assert_eq!(fixture.live.refresh(UnixTime::now()).replaced.len(), 1);
        assert!(resumes(&client, &fixture.server()), "{kind:?}");

        fixture.live.swap(load(&fixture.spec));
        assert!(resumes(&client, &fixture.server()), "{kind:?}");
    }
}

#[test]
fn sessions_of_one_policy_are_nothing_to_another() {
    let fixture = Fixture::new();
    let with_groups = |groups: &[NamedGroup]| {
        fixture.server_of(&PolicySettings {
            groups: groups.to_vec(),
            ..PolicySettings::default()
        })
    };
    let shop = || with_groups(&[NamedGroup::X25519]);
    let bank = || with_groups(&[NamedGroup::X25519, NamedGroup::secp256r1]);
    for kind in CLIENTS {
        let client = fixture.client(kind);
        assert!(!resumes(&client, &shop()));
        assert!(!resumes(&client, &bank()), "{kind:?}");
        assert!(!resumes(&client, &shop()), "{kind:?}");
        assert!(resumes(&client, &shop()), "{kind:?}");
    }
    let client = fixture.client(Client::Tls13);
    assert!(!resumes(&client, &fixture.server()));
    let strict = PolicySettings {
        min_version: MinVersion::Tls13,
        ..PolicySettings::default()
    };
    assert!(!resumes(&client, &fixture.server_of(&strict)));
}

#[test]
fn protocols_do_not_part_sessions() {
    let fixture = Fixture::new();
    let client = fixture.client(Client::Tls13);
    assert!(!resumes(&client, &fixture.server()));
    let other = PolicySettings {
        alpn: vec![b"http/1.1".to_vec()],
        ..PolicySettings::default()
    };
    assert!(resumes(&client, &fixture.server_of(&other)));
}

#[test]
fn sessions_of_one_process_are_nothing_to_another() {
    let fixture = Fixture::new();
    for kind in CLIENTS {
        let client = fixture.client(kind);
        assert!(!resumes(&client, &fixture.server()));
        let other = Fixture {
            resumption: resumption(&fixture.clock),
            live: Arc::clone(&fixture.live),
            ..Fixture::new()
        };
        assert!(!resumes(&client, &other.server()), "{kind:?}");
    }
}

#[test]
fn sessions_end_after_two_periods() {
    for kind in CLIENTS {
        let check = |secs: u64, expected: bool| {
            let fixture = Fixture::new();
            let client = fixture.client(kind);
            let server = fixture.server();
            assert!(!resumes(&client, &server));
            fixture.clock.advance(secs);
            assert_eq!(resumes(&client, &server), expected, "{kind:?} after {secs}");
        };
        check(PERIOD_SECS, true);
        check(2 * PERIOD_SECS - 1, true);
        check(2 * PERIOD_SECS, false);
        check(20 * PERIOD_SECS, false);
    }
}

fn sealed(resumption: &Resumption, session: &[u8]) -> Vec<u8> {
    resumption
        .scope(b"policy")
        .tickets
        .encrypt(session)
        .unwrap()
}

fn opened(resumption: &Resumption, ticket: &[u8]) -> Option<Vec<u8>> {
    resumption.scope(b"policy").tickets.decrypt(ticket)
}

#[test]
fn keys_make_tickets_for_one_period_and_read_them_for_two() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let early = sealed(&resumption, b"early");
    clock.advance(PERIOD_SECS - 1);
    let late = sealed(&resumption, b"late");
    clock.advance(1);
    let next = sealed(&resumption, b"next");
    assert_eq!(early[..16], late[..16]);
    assert_ne!(late[..16], next[..16]);
    assert_eq!(opened(&resumption, &early).as_deref(), Some(&b"early"[..]));
    clock.advance(PERIOD_SECS - 1);
    assert_eq!(opened(&resumption, &late).as_deref(), Some(&b"late"[..]));
    clock.advance(1);
    assert_eq!(opened(&resumption, &early), None);
    assert_eq!(opened(&resumption, &late), None);
    assert_eq!(opened(&resumption, &next).as_deref(), Some(&b"next"[..]));
}

#[test]
fn keys_go_even_without_traffic_when_told_the_time() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let ticket = sealed(&resumption, b"session");
    clock.advance(PERIOD_SECS);
    resumption.rotate().unwrap();
    assert!(opened(&resumption, &ticket).is_some());
    clock.advance(PERIOD_SECS);
    resumption.rotate().unwrap();
    assert!(opened(&resumption, &ticket).is_none());
}

#[test]
fn a_clock_put_back_does_not_prolong_a_key() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let ticket = sealed(&resumption, b"session");
    clock.go_back(500_000);
    assert_eq!(opened(&resumption, &ticket), None);
    let fresh = sealed(&resumption, b"fresh");
    assert_eq!(opened(&resumption, &fresh).as_deref(), Some(&b"fresh"[..]));
}

#[test]
fn tickets_open_only_as_they_were_made() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let ticket = sealed(&resumption, b"session");
    for position in 0..ticket.len() {
        let mut altered = ticket.clone();
        altered[position] ^= 1;
        assert_eq!(opened(&resumption, &altered), None, "byte {position}");
        assert_eq!(opened(&resumption, &ticket[..position]), None);
    }
    let longer = [&ticket[..], b"x"].concat();
    assert_eq!(opened(&resumption, &longer), None);
    assert_ne!(sealed(&resumption, b"session"), ticket);
    let other = resumption.scope(b"another").tickets;
    assert_eq!(other.decrypt(&ticket), None);
}

#[test]
fn tickets_have_a_largest_size() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let scope = resumption.scope(b"policy").tickets;
    assert!(scope.encrypt(&vec![0; 15 * 1024]).is_some());
    assert!(scope.encrypt(&vec![0; 16 * 1024]).is_none());
    assert!(scope.decrypt(&vec![0; 64 * 1024]).is_none());
}

#[test]
fn remembered_sessions_are_bounded() {
    let clock = Clock::at(1_000_000);
    let resumption = resumption(&clock);
    let scope = resumption.scope(b"policy").sessions;
    let ids: Vec<Vec<u8>> = (0..1000_u32).map(|id| id.to_be_bytes().to_vec()).collect();
    for id in &ids {
        assert!(scope.put(id.clone(), b"session".to_vec()));
    }
    let kept = ids.iter().filter(|id| scope.get(id).is_some()).count();
    assert!((1..=128).contains(&kept), "{kept}");
    let last = ids.last().unwrap();
    assert_eq!(scope.take(last).as_deref(), Some(&b"session"[..]));
    assert_eq!(scope.take(last), None);
    assert_eq!(scope.get(&[]), None);
}

/// Secrets in files, the first one first.
fn secrets(directory: &std::path::Path, names: &[&str]) -> Arc<TicketSecrets> {
    let paths: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
    for (path, name) in paths.iter().zip(names) {
        crate::testing::write(path, &name.repeat(32));
    }
    Arc::new(TicketSecrets::load(&paths).unwrap())
}

#[test]
fn gateways_with_one_secret_resume_each_others_sessions() {
    let (_directory, path) = directory();
    let clock = Clock::at(1_000_000_000);
    let gateway = |names: &[&str]| {
        let gateway = resumption(&clock);
        gateway.use_secrets(secrets(&path, names)).unwrap();
        gateway
    };
    let (one, other, stranger) = (gateway(&["a"]), gateway(&["a"]), gateway(&["b"]));
    let ticket = sealed(&one, b"session");
    assert_eq!(opened(&other, &ticket).as_deref(), Some(&b"session"[..]));
    assert_eq!(opened(&stranger, &ticket), None);
    // Secrets are exchanged one gateway after the other.
    let new = gateway(&["b", "a"]);
    assert!(opened(&new, &ticket).is_some());
    assert!(opened(&stranger, &sealed(&new, b"x")).is_some());
    // A period later tickets are made with another key, and these are still read; two, no more.
    clock.advance(PERIOD_SECS);
    let next = sealed(&one, b"next");
    assert_ne!(next[..16], ticket[..16]);
    assert!(opened(&other, &ticket).is_some() && opened(&other, &next).is_some());
    clock.advance(PERIOD_SECS);
    assert_eq!(opened(&other, &ticket), None);
    assert!(opened(&other, &next).is_some());
}

#[test]
fn clocks_of_gateways_may_differ() {
    let (_directory, path) = directory();
    let at = |secs: u64| {
        let gateway = resumption(&Clock::at(secs));
        gateway.use_secrets(secrets(&path, &["a"])).unwrap();
        gateway
    };
    let turn = 1000 * PERIOD_SECS;
    let (ahead, behind) = (at(turn + 1), at(turn - 1));
    assert!(opened(&behind, &sealed(&ahead, b"x")).is_some());
    assert!(opened(&ahead, &sealed(&behind, b"x")).is_some());
}

#[test]
fn tickets_outlive_a_change_of_secrets() {
    let (_directory, path) = directory();
    let clock = Clock::at(1_000_000);
    let gateway = resumption(&clock);
    let random = sealed(&gateway, b"random");
    gateway.use_secrets(secrets(&path, &["a"])).unwrap();
    assert!(opened(&gateway, &random).is_some());
    let shared = sealed(&gateway, b"shared");
    gateway.use_secrets(Arc::default()).unwrap();
    assert!(opened(&gateway, &shared).is_some() && opened(&gateway, &random).is_some());
    assert_ne!(sealed(&gateway, b"x")[..16], shared[..16]);
    clock.advance(2 * PERIOD_SECS);
    assert!(opened(&gateway, &shared).is_none() && opened(&gateway, &random).is_none());
}

#[test]
fn what_is_no_secret_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let (_directory, path) = directory();
    let file = path.join("secret");
    let load = || TicketSecrets::load(std::slice::from_ref(&file)).map(|_| ());
    assert!(matches!(load(), Err(Error::Read { .. })));
    crate::testing::write(&file, "short");
    let short = load().unwrap_err();
    assert!(short.to_string().contains("5 bytes"), "{short}");
    assert!(short.remedy().contains("openssl rand"));
    crate::testing::write(&file, &"x".repeat(48));
    load().unwrap();
    let secrets = TicketSecrets::load(std::slice::from_ref(&file)).unwrap();
    assert!(!secrets.is_outdated());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load(), Err(Error::OpenSecret { .. })));
    assert!(secrets.is_outdated());
    assert!(!format!("{secrets:?}").contains("xx"));
}
