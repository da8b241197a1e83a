//! The document model: what a configuration can say, whatever its source. Every section is a type
//! with its defaults in one place; every value parses into something valid.
//!
//! Must not: know how it is compiled, or hold two ways to say the same thing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::origin::Located;
use crate::policy::Policies;

/// Declares a section: its fields with their docs, types and defaults, all optional to write.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $Name:ident {
        $($(#[$doc:meta])* pub $field:ident: $Type:ty = $default:expr,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name { $($(#[$doc])* pub $field: $Type,)* }

        impl $Name {
            /// The names of its fields.
            pub const FIELDS: &[&str] = &[$(stringify!($field)),*];
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}
pub(crate) use section;

mod acme;
mod listener;
mod log_level;
mod proxy_protocol;
mod rare;
mod reference;
mod route;
mod stream;
mod switch;
pub(crate) mod text;
mod tls;
mod upstream;
mod value;

pub use acme::{
    Acme, AcmeChallenge, AcmeDirectory, AcmeKey, CertificateOrder, DnsExec, DnsHttp, DnsSolver,
    DnsUpdate, ExternalAccount, Issuer, OnDemand, UpdateAlgorithm,
};
pub use listener::{
    Certificate, EncodedSlashes, Http2Limits, HttpLimits, Listener, ListenerTimeouts, Protocol,
    UdpLimits,
};
pub use log_level::{LogDirectives, LogLevel};
pub use proxy_protocol::{HeaderMode, ListenerProxyProtocol, ProxyValue, UpstreamProxyProtocol};
pub(crate) use rare::shared;
pub use rare::{Rare, Shared};
pub use reference::{FilePath, SecretText};
pub use route::{Backend, Backends, Domain, GrpcMatch, Match, PathMatch, Route, ValueMatch};
pub use stream::{Stream, StreamTimeouts, StreamTls};
pub use switch::Switch;
use text::Sound;
pub use tls::{
    Alpn, CertificateRule, ClientCertificates, ClientMode, CrlCheck, DomainTls, Fingerprint,
    ListenerTls, Ocsp, TlsGroup, TlsPolicy, TlsProfile, TlsSessions, TlsSuite, TlsVersion,
    UnknownNames,
};
pub use upstream::{
    AdaptiveConcurrency, Balance, Endpoint, GrpcCheck, HashBy, HashKey, Health, HttpCheck, Outlier,
    Pool, Retry, RetryOn, StatusRange, Upstream, UpstreamLimits, UpstreamProtocol, UpstreamTls,
    Verify,
};
pub use value::{Bind, ByteSize, HostPattern, Method, Name, Network, Period};

section! {
    /// A configuration of the gateway.
    pub struct Document {
        /// Further files, as paths or globs relative to this one. They may hold `certificates`,
        /// `domains`, `streams` and `upstreams`.
        pub include: Vec<Located<String>> = Vec::new(),
        /// Worker threads; as many as there are processors if not set.
        #[serde(deserialize_with = "workers")]
        pub workers: Option<u16> = None,
        /// The admin listener, or `off`.
        pub admin: Switch<Admin> = Switch::On(Admin::default()),
        /// The gateway's own log.
        pub diagnostics: DiagnosticsLog = DiagnosticsLog::default(),
        /// The access log, or `off`.
        pub access_log: Switch<AccessLog> = Switch::On(AccessLog::default()),
        /// How the gateway shuts down.
        pub shutdown: Shutdown = Shutdown::default(),
        /// How names of endpoints are resolved.
        #[serde(deserialize_with = "text::sound")]
        pub resolver: Resolver = Resolver::default(),
        /// How origins are told who the client is.
        pub forwarding: Forwarding = Forwarding::default(),
        /// How the gateway's own responses look.
        pub responses: Responses = Responses::default(),
        /// Policies for every request. The most specific level wins, or all levels apply, as the
        /// policy says.
        pub policies: Policies = Policies::default(),
        /// Where the gateway listens.
        pub listeners: Vec<Located<Listener>> = Vec::new(),
        /// A Redis that several gateways share.
        pub redis: Option<Located<Redis>> = None,
        /// How sessions of TLS are kept.
        pub tls_sessions: TlsSessions = TlsSessions::default(),
        /// Whether what authorities say about certificates is stapled to handshakes (OCSP), or
        /// `off`. They are asked where a certificate names whom to ask.
        pub ocsp: Switch<Ocsp> = Switch::On(Ocsp::default()),
        /// How certificates are had from authorities; needed for those with `acme`.
        pub acme: Option<Acme> = None,
        /// Certificates, chosen by the names in them.
        pub certificates: Vec<Located<Certificate>> = Vec::new(),
        /// The domains and their routes.
        pub domains: Vec<Located<Domain>> = Vec::new(),
        /// The streams: connections and datagrams that are passed on as they are.
        pub streams: Vec<Located<Stream>> = Vec::new(),
        /// Where requests go, by name.
        pub upstreams: BTreeMap<Name, Located<Upstream>> = BTreeMap::new(),
    }
}

/// The most worker threads that can be asked for.
const WORKERS_MAX: u16 = 1024;

fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    struct Workers(u16);
    impl<'de> Deserialize<'de> for Workers {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text::within(deserializer, 1..=WORKERS_MAX, "number of workers").map(Self)
        }
    }
    let workers = Option::<Workers>::deserialize(deserializer)?;
    Ok(workers.map(|workers| workers.0))
}

/// A Redis that several gateways share. Nothing gets there that is not sealed with `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where it is: `redis://HOST:6379/0`, or `rediss://` for TLS.
    pub url: SecretText,
    /// A file of 32 random bytes or more, the same at all gateways.
    pub secret: FilePath,
    /// A PEM file with the authorities to trust for `rediss`; those of the system if not set.
    #[serde(default)]
    pub trust: Option<FilePath>,
    /// What the names of all keys begin with.
    #[serde(default = "cardea")]
    pub prefix: String,
    /// How long it may take to answer.
    #[serde(default = "two_seconds", deserialize_with = "text::positive")]
    pub timeout: Period,
}

fn cardea() -> String {
    "cardea".to_owned()
}

const fn two_seconds() -> Period {
    Period::from_secs(2)
}

section! {
    /// What an included file may hold.
    pub struct Fragment {
        /// See the document.
        pub certificates: Vec<Located<Certificate>> = Vec::new(),
        /// See the document.
        pub domains: Vec<Located<Domain>> = Vec::new(),
        /// See the document.
        pub streams: Vec<Located<Stream>> = Vec::new(),
        /// See the document.
        pub upstreams: BTreeMap<Name, Located<Upstream>> = BTreeMap::new(),
    }
}

section! {
    /// The admin listener: health, metrics, the configuration in force. It has no authentication;
    /// keep it on the loopback interface.
    pub struct Admin {
        /// Where it listens.
        #[serde(deserialize_with = "text::address")]
        pub bind: SocketAddr = Admin::DEFAULT_ADDRESS,
    }
}

impl Admin {
    /// Where the admin listener is when nothing says otherwise.
    pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
}

section! {
    /// The gateway's own log, on standard error.
    pub struct DiagnosticsLog {
        /// The least severe level that is written: `off`, `error`, `warn`, `info`, `debug`,
        /// `trace`; levels of modules may follow: `info,cardea_gateway::control=debug`. Libraries
        /// are written from `warn` on unless they are named. It can be changed at run time.
        pub level: LogDirectives = LogDirectives::level(LogLevel::Info),
        /// How lines look.
        pub format: LogFormat = LogFormat::Text,
        /// Lines waiting for whoever reads standard error; beyond, lines are dropped and counted.
        pub queue_lines_max: u16 = 8192,
    }
}

/// How lines of the gateway's own log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// The access log: one line per exchange.
    pub struct AccessLog {
        /// How lines look.
        pub format: AccessLogFormat = AccessLogFormat::Json,
        /// Where they go.
        pub to: AccessLogTarget = AccessLogTarget::Stdout,
        /// Lines waiting to be written; beyond, lines are dropped and counted.
        pub queue_lines_max: u32 = 65_536,
    }
}

/// How lines of the access log look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// The Common Log Format.
    Common,
    /// The Combined Log Format.
    Combined,
    /// Text with fields in braces: `{client} {method} {path} {status}`.
    Template(Located<String>),
}

impl Eq for Located<String> {}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, opened again when it was moved away.
    File(FilePath),
}

section! {
    /// How the gateway shuts down.
    pub struct Shutdown {
        /// How long exchanges and tunnels under way have.
        pub grace: Period = Period::from_secs(30),
        /// How long `/readyz` says no before listeners close, for balancers to notice.
        pub readiness_delay: Period = Period::from_secs(0),
    }
}

section! {
    /// How names of endpoints are resolved.
    pub struct Resolver {
        /// DNS servers; the system's if empty.
        #[serde(deserialize_with = "text::addresses")]
        pub servers: Vec<SocketAddr> = Vec::new(),
        /// The shortest time an answer is kept.
        pub ttl_min: Period = Period::from_secs(1),
        /// The longest time an answer is kept.
        pub ttl_max: Period = Period::from_secs(300),
        /// How long one query may take.
        pub timeout: Period = Period::from_secs(5),
    }
}

impl Sound for Resolver {
    fn check(&self) -> Result<(), String> {
        if self.ttl_min > self.ttl_max {
            return Err(format!(
                "`ttl_min` ({}) is longer than `ttl_max` ({})\nmake it the shorter of the two",
                self.ttl_min, self.ttl_max
            ));
        }
        Ok(())
    }
}

section! {
    /// How origins are told who the client is.
    pub struct Forwarding {
        /// Peers whose word about the client is believed. What anybody else says is overwritten.
        pub trusted_proxies: Vec<Network> = Vec::new(),
        /// The fields sent.
        pub forwarded: ForwardedFields = ForwardedFields::XForwarded,
        /// How origins are told of the client's certificate, where clients show one.
        pub client_certificate: ClientCertificateFields = ClientCertificateFields::Off,
        /// The request id.
        pub request_id: Switch<RequestId> = Switch::On(RequestId::default()),
        /// Header field names with an underscore, which many origins cannot tell from a hyphen.
        pub underscores: Underscores = Underscores::Reject,
    }
}

/// The fields that tell an origin who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Both.
    Both,
    /// None.
    Off,
}

/// The fields that tell an origin of the client's certificate. Clients cannot forge them: what
/// anybody but a trusted proxy sends under these names is removed, whatever is set here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateFields {
    /// None.
    Off,
    /// `X-Forwarded-Client-Cert`, as Envoy writes it: fingerprint, subject and names.
    Xfcc,
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440): the certificate itself.
    Rfc9440,
    /// Both.
    Both,
}

section! {
    /// The request id: the same in the log, at the origin, and in error responses.
    pub struct RequestId {
        /// The field that carries it.
        #[serde(deserialize_with = "text::one::<text::EditableField, _>")]
        pub header: String = "x-request-id".to_owned(),
        /// Whose ids are kept.
        pub accept: RequestIdFrom = RequestIdFrom::FromTrusted,
    }
}

/// Whose request ids are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestIdFrom {
    /// Nobody's.
    Never,
    /// Those of trusted proxies.
    FromTrusted,
    /// Everybody's.
    Always,
}

/// What happens to header field names with an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Underscores {
    /// The request is refused.
    Reject,
    /// The field is left out.
    Drop,
    /// The field is forwarded.
    Keep,
}

section! {
    /// How the gateway's own responses look; a domain's settings win one by one over the gateway's.
    pub struct Responses {
        /// The form of the body.
        pub format: Option<ResponseFormat> = None,
        /// A header field that carries the reason code, or `off`.
        #[serde(deserialize_with = "text::switched::<text::EditableField, _>")]
        pub reason_header: Option<Switch<String>> = None,
        /// The value of `Server`, or `off`; `cardea` if not set.
        #[serde(deserialize_with = "text::switched::<text::FieldValue, _>")]
        pub server: Option<Switch<String>> = None,
        /// Bodies of your own, by reason code (`rate_limited`), status (`404`) or class (`4xx`).
        #[serde(deserialize_with = "text::keys::<text::PageKey, _, _>")]
        pub pages: BTreeMap<String, Page> = BTreeMap::new(),
    }
}

/// The form of the body of the gateway's own responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// JSON if the client asks for it, else plain text.
    Auto,
    /// Plain text.
    Plain,
    /// `application/problem+json` (RFC 9457).
    Json,
}

section! {
    /// A body of your own.
    pub struct Page {
        /// What is sent.
        pub body: String = String::new(),
        /// Its media type.
        #[serde(deserialize_with = "text::one::<text::FieldValue, _>")]
        pub content_type: String = "text/html; charset=utf-8".to_owned(),
    }
}

shared!(Responses);
