//! Edits of header fields, of requests on their way to the upstream and of responses on their way
//! to the client. Levels stack: gateway, then domain, then route, so the most specific edit has
//! the last word. Within a level: remove, then set, then add.
//!
//! Must not: touch framing or connection fields (the configuration refuses their names).

use std::collections::BTreeMap;

use cardea_config::model::SecretText;
use cardea_config::policy::HeaderEdits as Settings;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::headers::{HeaderName, Headers};
use crate::traffic::respond::Response;

/// The compiled policy of one level.
#[derive(Debug)]
pub struct HeaderEdits {
    request: Edits,
    response: Edits,
}

#[derive(Debug, Default)]
struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, Box<[u8]>)]>,
    add: Box<[(HeaderName, Box<[u8]>)]>,
}

impl HeaderEdits {
    /// One for each level: all of them apply.
    pub fn compile(levels: &mut Levels<'_>) -> Vec<Self> {
        levels
            .each(|level| level.header_edits.as_deref())
            .map(Self::new)
            .collect()
    }

    fn new(settings: &Settings) -> Self {
        Self {
            request: Edits::compile(&settings.request),
            response: Edits::compile(&settings.response),
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!(
            "request: {}; response: {}",
            self.request.summary(),
            self.response.summary()
        )
    }

    /// Edits the request.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        self.request.apply(&mut exchange.request.headers);
        Ok(())
    }

    /// Edits the response.
    pub fn on_response(&self, _: &Exchange<'_>, response: &mut Response) {
        self.response.apply(&mut response.headers);
    }
}

impl Edits {
    fn compile(settings: &cardea_config::policy::Edits) -> Self {
        let pairs = |fields: &BTreeMap<String, SecretText>| {
            fields
                .iter()
                .map(|(name, value)| (HeaderName::new(name), value.value().as_bytes().into()))
                .collect()
        };
        Self {
            remove: settings
                .remove
                .iter()
                .map(|name| HeaderName::new(name))
                .collect(),
            set: pairs(&settings.set),
            add: pairs(&settings.add),
        }
    }

    fn apply(&self, headers: &mut Headers) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.set(name, value);
        }
        for (name, value) in &self.add {
            headers.append(name, value);
        }
    }

    fn summary(&self) -> String {
        let names = |pairs: &[(HeaderName, Box<[u8]>)]| {
            pairs
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let removed = self
            .remove
            .iter()
            .map(HeaderName::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "remove [{removed}], set [{}], add [{}]",
            names(&self.set),
            names(&self.add)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_comes_first_and_additions_last() {
        let name = HeaderName::new;
        let edits = Edits {
            remove: [name("a")].into(),
            set: [(name("b"), b"2".as_slice().into())].into(),
            add: [
                (name("a"), b"3".as_slice().into()),
                (name("b"), b"4".as_slice().into()),
            ]
            .into(),
        };
        let mut headers = Headers::default();
        headers.append(&name("A"), b"0");
        headers.append(&name("b"), b"0");
        edits.apply(&mut headers);
        let found: Vec<_> = headers
            .iter()
            .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let pair = |n: &str, v: &str| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        assert_eq!(found, [pair("b", "2"), pair("a", "3"), pair("b", "4")]);
    }
}
