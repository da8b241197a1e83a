//! Settings of `cors`.
//!
//! Must not: combine any origin with credentials, which browsers refuse.

use crate::model::Period;
use crate::model::text::{self, FieldName, Host, Rule, Sound, Token};

crate::model::section! {
    /// Cross-origin requests of browsers.
    pub struct Cors {
        /// Origins that may read responses: `https://app.example.com`, `https://*.example.com`, or
        /// `*` for any.
        #[serde(deserialize_with = "text::many::<Origin, _>")]
        pub allow_origins: Vec<String> = Vec::new(),
        /// Methods they may use beyond the simple ones.
        #[serde(deserialize_with = "text::many::<Token, _>")]
        pub allow_methods: Vec<String> = ["GET", "HEAD", "POST"].map(str::to_owned).into(),
        /// Request header fields they may set; whatever they ask for if empty.
        #[serde(deserialize_with = "text::many::<FieldName, _>")]
        pub allow_headers: Vec<String> = Vec::new(),
        /// Response header fields they may read.
        #[serde(deserialize_with = "text::many::<FieldName, _>")]
        pub expose_headers: Vec<String> = Vec::new(),
        /// Whether cookies and the like are sent.
        pub allow_credentials: bool = false,
        /// How long a browser may remember the answer.
        pub max_age: Period = Period::from_secs(600),
    }
}

impl Sound for Cors {
    fn check(&self) -> Result<(), String> {
        if self.allow_origins.is_empty() {
            return Err("no origin is allowed\nlist them in `allow_origins`".to_owned());
        }
        if self.allow_credentials && self.allow_origins.iter().any(|origin| origin == "*") {
            return Err(
                "credentials are allowed to any origin\nlist the origins; browsers refuse `*` with credentials"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// An origin as browsers write it: scheme, host and port, nothing else (RFC 6454 §6.2).
struct Origin;

impl Rule for Origin {
    fn check(text: &str) -> Result<(), String> {
        let wrong = || {
            format!(
                "`{text}` is no origin\nwrite `https://app.example.com`, `https://*.example.com`, or `*`"
            )
        };
        if text == "*" {
            return Ok(());
        }
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let fits = !scheme.is_empty()
            && scheme.bytes().all(is_scheme)
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && Host::check(bare).is_ok();
        if fits { Ok(()) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for good in [
            "*",
            "https://a.example",
            "http://*.a.example:8080",
            "https://[::1]:1",
        ] {
            assert_eq!(Origin::check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "https://a.example/",
            "https://",
            "https://*",
            "https://a:x",
        ] {
            assert!(Origin::check(bad).is_err(), "{bad}");
        }
    }
}
