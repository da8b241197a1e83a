//! The settings of the gateway as a whole: forwarding, the look of our own responses, deadlines,
//! the access log.
//!
//! Must not: look at domains or listeners.

use std::sync::Arc;
use std::time::Duration;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{
    self, AccessLogFormat, AccessLogTarget, Document, ForwardedFields, Responses, Switch,
};
use cardea_config::policy;

use super::Found;
use crate::policy::rate_limit::Limiters;
use crate::policy::{Chain, Levels};
use crate::snapshot::{ClientCertificateFields, Forwarding, RequestIdFrom};
use crate::traffic::access_log::{Format, Target};
use crate::traffic::exchange::Timeouts;
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::{BodyFormat, Page, ResponseStyle};

/// What a snapshot has of the gateway as a whole.
#[derive(Debug)]
pub struct Parts {
    /// How origins are told who the client is.
    pub forwarding: Forwarding,
    /// How our own responses look where no domain is known.
    pub style: Arc<ResponseStyle>,
    /// The policies where no domain is known.
    pub chain: Chain,
    /// The deadlines where no route is known.
    pub timeouts: Arc<Timeouts>,
    /// How access-log lines are written.
    pub access_log: Option<Arc<Format>>,
}

/// Compiles the settings of the gateway as a whole.
pub fn compile(document: &Document, limiters: &mut Limiters) -> Found<Parts> {
    let mut found = Vec::new();
    let access_log = match document.access_log.on() {
        None => None,
        Some(log) => match format(&log.format) {
            Ok(format) => Some(Arc::new(format)),
            Err(problem) => {
                found.push(*problem);
                return (None, found);
            }
        },
    };
    let mut levels = Levels::gateway(&document.policies, limiters);
    let chain = Chain::compile(&mut levels);
    found.extend(levels.into_found());
    let parts = Parts {
        forwarding: forwarding(&document.forwarding),
        style: Arc::new(style(&[&document.responses])),
        chain,
        timeouts: Arc::new(timeouts(&[document.policies.timeouts.as_deref()])),
        access_log,
    };
    (Some(parts), found)
}

fn format(format: &AccessLogFormat) -> Result<Format, Box<Diagnostic>> {
    match format {
        AccessLogFormat::Json => Ok(Format::Json),
        AccessLogFormat::Common => Ok(Format::Common),
        AccessLogFormat::Combined => Ok(Format::Combined),
        AccessLogFormat::Template(template) => Format::template(template).map_err(|error| {
            let origin = Some(template.origin);
            Box::new(Diagnostic::error("E-access-log", origin, error.to_string()))
        }),
    }
}

/// Where access-log lines go, and how many may wait.
pub fn access_log_target(document: &Document) -> (Target, usize) {
    let Switch::On(log) = &document.access_log else {
        return (Target::Stdout, 0);
    };
    let target = match &log.to {
        AccessLogTarget::Stdout => Target::Stdout,
        AccessLogTarget::Stderr => Target::Stderr,
        AccessLogTarget::File(path) => Target::File(path.into()),
    };
    (target, log.queue_lines_max as usize)
}

fn client_certificate(settings: model::ClientCertificateFields) -> ClientCertificateFields {
    use model::ClientCertificateFields as Told;

    ClientCertificateFields {
        xfcc: matches!(settings, Told::Xfcc | Told::Both),
        rfc9440: matches!(settings, Told::Rfc9440 | Told::Both),
    }
}

fn forwarding(settings: &model::Forwarding) -> Forwarding {
    let request_id = settings.request_id.on();
    Forwarding {
        trusted_proxies: settings
            .trusted_proxies
            .iter()
            .map(|network| network.0)
            .collect(),
        x_forwarded: matches!(
            settings.forwarded,
            ForwardedFields::XForwarded | ForwardedFields::Both
        ),
        client_certificate: client_certificate(settings.client_certificate),
        forwarded: matches!(
            settings.forwarded,
            ForwardedFields::Forwarded | ForwardedFields::Both
        ),
        request_id: request_id.map(|id| HeaderName::new(&id.header)),
        request_id_from: match request_id.map(|id| id.accept) {
            Some(model::RequestIdFrom::Always) => RequestIdFrom::Always,
            Some(model::RequestIdFrom::FromTrusted) => RequestIdFrom::Trusted,
            Some(model::RequestIdFrom::Never) | None => RequestIdFrom::Never,
        },
    }
}

/// The look of our own responses, from the gateway's settings to a domain's.
pub fn style(levels: &[&Responses]) -> ResponseStyle {
    let mut style = ResponseStyle {
        server: Some("cardea".into()),
        ..ResponseStyle::default()
    };
    for level in levels {
        if let Some(format) = level.format {
            style.format = match format {
                model::ResponseFormat::Auto => BodyFormat::Auto,
                model::ResponseFormat::Plain => BodyFormat::Plain,
                model::ResponseFormat::Json => BodyFormat::Json,
            };
        }
        if let Some(header) = &level.reason_header {
            style.reason_header = header.on().map(|name| HeaderName::new(name));
        }
        if let Some(server) = &level.server {
            style.server = server.on().map(|name| name.as_str().into());
        }
        for (key, page) in &level.pages {
            let page = Page {
                body: page.body.as_bytes().into(),
                content_type: page.content_type.as_str().into(),
            };
            style.pages.insert(key.as_str().into(), page);
        }
    }
    style
}

/// The deadlines of a level: the most specific setting of each wins.
pub fn timeouts(levels: &[Option<&policy::Timeouts>]) -> Timeouts {
    let mut timeouts = DEFAULT_TIMEOUTS;
    for level in levels.iter().flatten() {
        let set = |field: &mut Duration, value: Option<model::Period>| {
            if let Some(value) = value {
                *field = value.0;
            }
        };
        set(&mut timeouts.request, level.request);
        set(&mut timeouts.body_progress, level.body_progress);
        set(&mut timeouts.write_progress, level.write_progress);
        set(&mut timeouts.connect, level.connect);
        set(&mut timeouts.upstream_head, level.upstream_head);
        set(&mut timeouts.upstream_body, level.upstream_body);
        set(&mut timeouts.tunnel_idle, level.tunnel_idle);
        timeouts.body_rate_min = level.body_rate_min.unwrap_or(timeouts.body_rate_min);
        timeouts.write_rate_min = level.write_rate_min.unwrap_or(timeouts.write_rate_min);
    }
    timeouts
}

/// The deadlines that no level sets. The rates are those of a slow modem, an order of magnitude
/// below any network a person would wait on.
const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    request: Duration::ZERO,
    body_progress: Duration::from_secs(30),
    body_rate_min: 240,
    write_progress: Duration::from_secs(30),
    write_rate_min: 240,
    connect: Duration::from_secs(5),
    upstream_head: Duration::from_secs(60),
    upstream_body: Duration::from_secs(60),
    tunnel_idle: Duration::from_secs(3600),
};
