//! Certificates: loaded and checked when a configuration compiles, served once it takes effect.
//! What serves them outlives configurations, and so do sessions: a reload resumes them.
//!
//! Must not: serve anything of a configuration that was refused.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cardea_acme::Storage;
use cardea_certs::resumption::{Resumption, ResumptionSettings, TicketSecrets};
use cardea_certs::{
    Calendar, Certificate, CertificateSpec, CertificateStore, Failure, HostAssignment,
    LiveCertificates, Plan, Refreshed,
};
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document, HostPattern, Listener};
use cardea_config::origin::{Located, Origin};
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use super::{Found, acme};
use crate::telemetry::logs::chain;

/// Hosts without a certificate that are told by name; whoever mends those sees the next.
const UNCOVERED_TOLD_MAX: usize = 20;

/// The certificates of a configuration, and what serves them.
#[derive(Debug)]
pub struct Certificates {
    live: Arc<LiveCertificates>,
    resumption: Arc<Resumption>,
    /// What is served once the configuration takes effect.
    compiled: Mutex<Option<CertificateStore>>,
    files: BTreeSet<PathBuf>,
    /// What keys of session tickets are made of, if gateways share it.
    /// None when gateways agree on them elsewhere.
    secrets: Option<Arc<TicketSecrets>>,
}

impl Certificates {
    /// Loads the certificates of a document.
    pub fn compile(previous: Option<&Self>, document: &Document) -> Found<Self> {
        let plan = plan(document);
        let paths = |spec: &CertificateSpec| [spec.chain.clone(), spec.key.clone()];
        let files = plan.certificates.iter().flat_map(paths).collect();
        let (store, mut found) = load(plan, previous, document);
        let secrets = secrets(document, &mut found);
        let (Some(store), Some(secrets)) = (store, secrets) else {
            return (None, found);
        };
        let Some(before) = previous else {
            let resumption = match Resumption::new(ResumptionSettings::default()) {
                Ok(resumption) => Arc::new(resumption),
                Err(error) => {
                    found.push(Diagnostic::error("E-tls", None, chain(&error)));
                    return (None, found);
                }
            };
            // Nothing is served yet, so the first certificates may as well be in place.
            let live = LiveCertificates::new(store);
            return (
                Some(Self {
                    live,
                    resumption,
                    compiled: Mutex::new(None),
                    files,
                    secrets,
                }),
                found,
            );
        };
        let certificates = Self {
            live: Arc::clone(&before.live),
            resumption: Arc::clone(&before.resumption),
            compiled: Mutex::new(Some(store)),
            files,
            secrets,
        };
        (Some(certificates), found)
    }

    /// The certificates in use, for whatever asks in handshakes.
    pub fn live(&self) -> &Arc<LiveCertificates> {
        &self.live
    }

    /// What keeps sessions, over all configurations.
    pub fn resumption(&self) -> &Arc<Resumption> {
        &self.resumption
    }

    /// Serves what was compiled: the configuration takes effect.
    pub fn take_effect(&self) {
        let compiled = self
            .compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(store) = compiled {
            self.live.swap(store);
        }
        let used = match &self.secrets {
            Some(secrets) => self.resumption.use_secrets(Arc::clone(secrets)),
            None => Ok(()),
        };
        if let Err(error) = used {
            tracing::error!(error = %chain(&error), "ticket_key_not_made");
        }
    }

    /// Serves what is new in all files of certificates.
    pub fn renew_all(&self, document: &Document) -> Renewed {
        let now = UnixTime::now();
        if OnDemandFiles::of(document).rules.is_empty() {
            return Renewed::of(&self.live.refresh(now), document);
        }
        let plan = plan(document);
        let files = plan.certificates.iter().map(|spec| spec.chain.clone());
        let refreshed = self.live.follow(&plan, &files.collect(), now);
        Renewed::of(&refreshed, document)
    }

    /// Serves what is new in those of some files that are of certificates in force. Whatever is
    /// wrong with the rest of the configuration is no reason to let a certificate expire.
    pub fn renew(&self, changed: &BTreeSet<PathBuf>, document: &Document) -> Renewed {
        let on_demand = OnDemandFiles::of(document);
        let is_on_demand = |file: &PathBuf| on_demand.contains(file);
        let is_certificate = |file: &PathBuf| self.files.contains(file) || is_on_demand(file);
        let files: BTreeSet<PathBuf> = changed
            .iter()
            .filter(|it| is_certificate(it))
            .cloned()
            .collect();
        let now = UnixTime::now();
        // Certificates that are ordered on demand come and go by their files alone.
        let refreshed = if files.iter().any(is_on_demand) {
            self.live.follow(&plan(document), &files, now)
        } else {
            self.live.refresh_files(&files, now)
        };
        Renewed {
            is_all: !changed.is_empty() && files.len() == changed.len(),
            ..Renewed::of(&refreshed, document)
        }
    }

    /// Says in the log which certificates clients refuse for their dates, or soon will.
    pub fn warn_of_expiry(&self) {
        let notices = self.with_store(|store| store.expiring(UnixTime::now()));
        for notice in notices {
            tracing::warn!(
                certificate = &*notice.certificate,
                remedy = notice.warning.remedy(),
                "certificate_expires: {}",
                notice.warning
            );
        }
    }

    /// Replaces the ticket key if its time is over.
    pub fn rotate_tickets(&self) {
        if let Err(error) = self.resumption.rotate() {
            tracing::error!(error = %chain(&error), "ticket_key_not_rotated");
        }
    }

    /// Has names that several certificates have go to the one that is valid now.
    pub fn keep_in_order(&self) {
        self.live.keep_in_order(UnixTime::now());
    }

    /// The secrets that session tickets are made with.
    pub fn secrets(&self) -> Option<&TicketSecrets> {
        self.secrets.as_deref()
    }

    /// The files that certificates come from.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().cloned()
    }

    /// The certificate that clients asking for a host get, if one names it.
    pub fn name_for(&self, host: &str) -> Option<String> {
        self.with_store(|store| Some(store.spec_for(host, &[])?.name.to_string()))
    }

    /// When the certificates expire, by name, seconds since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.with_store(|store| {
            let all = store.certificates();
            let issued = all.filter(|(_, one)| !one.is_stand_in);
            issued
                .map(|(spec, one)| {
                    let seconds = one.details.not_after.as_secs();
                    (
                        spec.name.to_string(),
                        i64::try_from(seconds).unwrap_or(i64::MAX),
                    )
                })
                .collect()
        })
    }

    /// The certificates as the admin listener shows them, with what `order` knows of those that an
    /// authority is asked for, and `staple` of what authorities say about them.
    pub fn report(
        &self,
        order: impl Fn(&str) -> Value,
        staple: impl Fn(&Certificate) -> Value,
    ) -> Value {
        self.with_store(|store| {
            let now = UnixTime::now().as_secs();
            let notices = store.notices(UnixTime::now());
            let all = store.certificates().map(|(spec, one)| {
                let details = &one.details;
                let own = notices.iter().filter(|it| it.certificate == spec.name);
                let warnings = own.map(|notice| notice.warning.to_string());
                json!({
                    "name": &*spec.name,
                    "names": details.names,
                    "addresses": details.addresses,
                    "subject": details.subject,
                    "issuer": details.issuer,
                    "serial": details.serial,
                    "key": format!("{:?}", details.key),
                    "not_before": Calendar(details.not_before).to_string(),
                    "not_after": Calendar(details.not_after).to_string(),
                    "seconds_left": details.not_after.as_secs().saturating_sub(now),
                    "is_default": spec.default,
                    "is_stand_in": one.is_stand_in,
                    "source": {
                        "chain": spec.chain,
                        "key": spec.key,
                        "order": if spec.stands_in_for.is_some() { order(&spec.name) } else { Value::Null },
                    },
                    "ocsp": staple(one),
                    "warnings": warnings.collect::<Vec<_>>(),
                })
            });
            all.collect()
        })
    }

    /// Looks at what is served, or will be.
    fn with_store<T>(&self, look: impl FnOnce(&CertificateStore) -> T) -> T {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        match &*compiled {
            Some(store) => look(store),
            None => look(&self.live.load()),
        }
    }
}

/// The files of certificates that are ordered on demand.
struct OnDemandFiles<'d> {
    storage: Option<Storage>,
    rules: Vec<&'d str>,
}

impl<'d> OnDemandFiles<'d> {
    fn of(document: &'d Document) -> Self {
        let storage = document.acme.as_ref().map(|acme| &acme.storage);
        let is_rule = |certificate: &&Located<model::Certificate>| {
            let order = certificate.acme.as_ref();
            order.is_some_and(|order| order.on_demand.is_some())
        };
        let rules = document.certificates.iter().filter(is_rule);
        Self {
            storage: storage.map(|path| Storage::new(PathBuf::from(path))),
            rules: rules.map(|rule| rule.name.as_str()).collect(),
        }
    }

    fn contains(&self, file: &Path) -> bool {
        let Some(storage) = &self.storage else {
            return false;
        };
        self.rules
            .iter()
            .any(|rule| storage.is_on_demand(file, rule))
    }
}

/// What came of a look at the files of certificates.
#[derive(Debug, Default)]
pub struct Renewed {
    /// A line for each certificate that is served from new files, or came, or went.
    pub changes: Vec<String>,
    /// A mistake for each whose new files are no good; the old ones go on being served.
    pub failed: Vec<Diagnostic>,
    /// Whether nothing but files of certificates changed.
    pub is_all: bool,
}

impl Renewed {
    fn of(refreshed: &Refreshed, document: &Document) -> Self {
        for certificate in &refreshed.held {
            tracing::info!(
                %certificate,
                "certificate_held: its new chain is shorter and may not be whole yet"
            );
        }
        let all = [
            ('~', &refreshed.replaced),
            ('+', &refreshed.came),
            ('-', &refreshed.went),
        ];
        let line = |sign, name| format!("{sign} certificate {name}");
        let lines = all
            .iter()
            .flat_map(|(sign, names)| names.iter().map(move |name| line(sign, name)));
        Self {
            changes: lines.collect(),
            failed: mistakes(&refreshed.failed, document),
            is_all: false,
        }
    }
}

/// The secrets that session tickets are made with.
fn secrets(document: &Document, found: &mut Vec<Diagnostic>) -> Option<Option<Arc<TicketSecrets>>> {
    if document.tls_sessions.redis {
        return Some(None);
    }
    let paths = document.tls_sessions.secrets.iter().map(PathBuf::from);
    match TicketSecrets::load(&paths.collect::<Vec<_>>()) {
        Ok(secrets) => Some(Some(Arc::new(secrets))),
        Err(error) => {
            let message = format!("`tls_sessions.secrets`: {}", chain(&error));
            let problem = Diagnostic::error("E-ticket-secret", None, message);
            found.push(problem.remedy(error.remedy()));
            None
        }
    }
}

/// Where a certificate is: in its files, or where the agent puts it once an authority issued it.
/// What is ordered on demand is as many as there are by now.
fn specs(document: &Document, certificate: &model::Certificate) -> Vec<CertificateSpec> {
    if let (Some(chain), Some(key)) = (&certificate.chain, &certificate.key) {
        return vec![CertificateSpec {
            name: certificate.name.shared(),
            chain: PathBuf::from(chain),
            key: PathBuf::from(key),
            default: certificate.default,
            stands_in_for: None,
        }];
    }
    let Some(acme) = &document.acme else {
        return Vec::new();
    };
    let storage = Storage::new(PathBuf::from(&acme.storage));
    let stored = |name: Arc<str>, hosts: Vec<String>| {
        let bundle = storage.bundle(&name);
        CertificateSpec {
            name,
            chain: bundle.clone(),
            key: bundle,
            default: certificate.default,
            stands_in_for: Some(hosts.into()),
        }
    };
    let on_demand = certificate
        .acme
        .as_ref()
        .and_then(|it| it.on_demand.as_ref());
    let Some(on_demand) = on_demand else {
        let hosts = acme::hosts(document, certificate);
        return vec![stored(certificate.name.shared(), hosts)];
    };
    let rule = acme::rule(certificate.name.shared(), on_demand, Vec::new());
    let hosts = storage.on_demand(&rule.name).into_iter();
    hosts
        .filter(|host| rule.allows(host))
        .map(|host| stored(cardea_acme::on_demand_name(&rule.name, &host), vec![host]))
        .collect()
}

fn plan(document: &Document) -> Plan {
    let certificates = document
        .certificates
        .iter()
        .flat_map(|certificate| specs(document, certificate));
    let hosts = document.domains.iter().flat_map(|domain| {
        let certificate = domain.certificate.as_ref();
        let assigned = move |host: &Located<HostPattern>| HostAssignment {
            host: host.as_str().into(),
            certificate: certificate.map(|name| name.shared()),
        };
        domain.hosts.iter().map(assigned)
    });
    let is_chosen = document.domains.iter().any(|one| one.certificate.is_some());
    Plan {
        certificates: certificates.collect(),
        // Without a choice there is nothing that the hosts could change.
        assignments: hosts.take_while(|_| is_chosen).collect(),
    }
}

/// Reads the files that changed since the configuration before, and checks all of them.
fn load(
    plan: Plan,
    previous: Option<&Certificates>,
    document: &Document,
) -> Found<CertificateStore> {
    let before = previous
        .map(|before| before.live.load())
        .unwrap_or_default();
    let now = UnixTime::now();
    match CertificateStore::build(plan, &before, now) {
        Ok(store) => {
            let notices = store.notices(now);
            let origins = origins(notices.len(), document);
            let notices = notices.into_iter().map(|notice| {
                let origin = origins.get(&*notice.certificate).copied();
                Diagnostic::warning("W-certificate", origin, notice.to_string())
                    .remedy(notice.warning.remedy())
            });
            let mut found: Vec<_> = notices.collect();
            found.extend(unstapled(&store, document));
            found.extend(uncovered(&store, document));
            (Some(store), found)
        }
        Err(failures) => (None, mistakes(&failures, document)),
    }
}

/// What is wrong with the files of certificates.
fn mistakes(failures: &[Failure], document: &Document) -> Vec<Diagnostic> {
    let origins = origins(failures.len(), document);
    let mistake = |failure: &Failure| {
        let why = chain(&failure.error);
        let message = format!("certificate `{}`: {why}", failure.certificate);
        let origin = origins.get(&*failure.certificate).copied();
        Diagnostic::error("E-certificate", origin, message).remedy(failure.error.remedy())
    };
    failures.iter().map(mistake).collect()
}

/// Where the document names its certificates, if there is anything to tell of them.
fn origins(told: usize, document: &Document) -> HashMap<&str, Origin> {
    let named = document.certificates.iter().filter(|_| told > 0);
    named.map(|one| (one.name.as_str(), one.origin)).collect()
}

/// The certificates that clients refuse without a staple, where nobody is asked for any.
fn unstapled(store: &CertificateStore, document: &Document) -> Vec<Diagnostic> {
    let all = store.certificates();
    let unstapled = all.filter(|(_, one)| document.ocsp.on().is_none() && one.details.must_staple);
    let names: Vec<_> = unstapled.map(|(spec, _)| &spec.name).collect();
    let origins = origins(names.len(), document);
    let warn = |name: &&Arc<str>| {
        let message = format!("certificate `{name}`: clients refuse it without a staple");
        Diagnostic::warning("W-certificate", origins.get(&***name).copied(), message)
            .remedy("take `ocsp: off` out")
    };
    names.iter().map(warn).collect()
}

/// The hosts of domains and streams whose TLS ends here that no certificate names, or not the one
/// their domain chose: what their clients are shown they will not take for the host's.
fn uncovered(store: &CertificateStore, document: &Document) -> Vec<Diagnostic> {
    let is_secure = |is_on: &dyn Fn(&Listener) -> bool| {
        let mut listeners = document.listeners.iter().filter(|one| one.tls.is_some());
        listeners.any(|one| is_on(one))
    };
    let domains = document.domains.iter();
    let domains = domains.filter(|domain| is_secure(&|one| domain.is_on(one)));
    let streams = document.streams.iter().filter(|it| !it.passes_tls());
    let streams = streams.filter(|stream| is_secure(&|one| stream.is_on(&one.name)));
    let hosts = domains
        .flat_map(|domain| &domain.hosts)
        .chain(streams.flat_map(|stream| &stream.hosts));
    let uncovered = hosts.filter(|host| {
        // Any name below a wildcard stands for all of them.
        let example = host.suffix().map(|suffix| format!("any.{suffix}"));
        let name = example.as_deref().unwrap_or(host.as_str());
        let details = store.details_for(name);
        details.is_none_or(|details| !details.covers(name))
    });
    let warn = |host: &Located<HostPattern>| {
        let message = format!("no certificate covers `{}`", host.as_str());
        Diagnostic::warning("W-host-without-certificate", Some(host.origin), message)
            .label("clients are shown one for other names, and will refuse it")
            .remedy("add a certificate that names the host, or serve it on other listeners")
    };
    uncovered.take(UNCOVERED_TOLD_MAX).map(warn).collect()
}
