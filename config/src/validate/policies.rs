//! What policies of one level say that cannot be.
//!
//! Must not: compare levels; every level stands by itself.

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::policy::{Edits, PathRewrite, Policies};

/// Fields that the gateway writes itself; an edit of them would break framing or routing.
const GUARDED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest time a whole burst may take to come back, seconds.
const BURST_SECONDS_MAX: f64 = 24.0 * 3600.0;

pub(super) fn check(policies: &Policies, origin: Origin, found: &mut Vec<Diagnostic>) {
    let mut error = |code: &'static str, message: String, remedy: &str| {
        found.push(Diagnostic::error(code, Some(origin), message).remedy(remedy));
    };
    if policies.redirect.is_some() && policies.respond.is_some() {
        error(
            "E-two-answers",
            "`redirect` and `respond` both answer".into(),
            "keep one",
        );
    }
    if let Some(cors) = &policies.cors {
        let any = cors.allow_origins.iter().any(|allowed| allowed == "*");
        if cors.allow_origins.is_empty() {
            error(
                "E-cors",
                "`cors` allows no origin".into(),
                "list them in `allow_origins`",
            );
        }
        if any && cors.allow_credentials {
            let message = "`cors` allows credentials to any origin".into();
            error(
                "E-cors",
                message,
                "list the origins; browsers refuse `*` with credentials",
            );
        }
    }
    check_rate_limits(policies, &mut error);
    if let Some(respond) = &policies.respond
        && !(200..600).contains(&respond.status)
    {
        error(
            "E-status",
            format!("{} is no final status", respond.status),
            "use 200 to 599",
        );
    }
    let rewrites = policies
        .redirect
        .as_ref()
        .and_then(|redirect| redirect.path.as_ref());
    let rewrites = rewrites
        .into_iter()
        .chain(policies.rewrite.as_ref().and_then(|r| r.path.as_ref()));
    for rewrite in rewrites {
        if let Err((message, remedy)) = check_rewrite(rewrite) {
            error("E-rewrite", message, &remedy);
        }
    }
    if let Some(edits) = &policies.header_edits {
        check_edits(&edits.request, origin, found);
        check_edits(&edits.response, origin, found);
    }
}

fn check_rewrite(rewrite: &PathRewrite) -> Result<(), (String, String)> {
    match rewrite {
        PathRewrite::ReplacePrefix(path) if !path.is_empty() && !path.starts_with('/') => Err((
            format!("the prefix `{path}` does not begin with `/`"),
            format!("write `/{path}`"),
        )),
        PathRewrite::ReplaceFull(path) if !path.starts_with('/') => Err((
            format!("the path `{path}` does not begin with `/`"),
            format!("write `/{path}`"),
        )),
        PathRewrite::Regex(pattern) => match regex::bytes::Regex::new(&pattern.pattern) {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned();
                Err((
                    format!("`{}` is no regular expression", pattern.pattern),
                    why,
                ))
            }
        },
        _ => Ok(()),
    }
}

fn check_edits(edits: &Edits, origin: Origin, found: &mut Vec<Diagnostic>) {
    let names = edits
        .remove
        .iter()
        .chain(edits.set.keys())
        .chain(edits.add.keys());
    for name in names {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(fits) {
            let message = format!("`{name}` is no header field name");
            found.push(Diagnostic::error("E-header-name", Some(origin), message));
        } else if GUARDED.contains(&&*lower) {
            let message = format!("`{name}` cannot be edited");
            let remedy = match &*lower {
                "host" => "use `rewrite: { host: … }`",
                _ => "the gateway writes this field itself",
            };
            found.push(Diagnostic::error("E-header-name", Some(origin), message).remedy(remedy));
        }
    }
}

fn check_rate_limits(policies: &Policies, error: &mut impl FnMut(&'static str, String, &str)) {
    for limit in policies.rate_limit.iter().flat_map(|limits| &limits.0) {
        if limit.rate == 0 || limit.per.0.is_zero() {
            error(
                "E-rate-limit",
                "`rate_limit` needs a rate".into(),
                "write `rate: 100` and `per: 1s`",
            );
        } else {
            let burst = f64::from(limit.burst.unwrap_or(limit.rate));
            if burst / f64::from(limit.rate) * limit.per.0.as_secs_f64() > BURST_SECONDS_MAX {
                let message = "the burst would take more than a day to come back".into();
                error(
                    "E-rate-limit",
                    message,
                    "make `burst` smaller or `rate` higher",
                );
            }
        }
        if !(400..600).contains(&limit.status) {
            error(
                "E-status",
                format!("{} is no status of a refusal", limit.status),
                "use 429 or 503",
            );
        }
    }
}
