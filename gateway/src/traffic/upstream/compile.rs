//! From the document to the upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dns::ResolverSettings;
use super::settings::Settings;
use super::{Alarm, Upstream};

/// The upstreams of a configuration, by name.
#[derive(Debug, Clone)]
pub struct Upstreams {
    by_name: Arc<BTreeMap<Arc<str>, Arc<Upstream>>>,
    resolver: ResolverSettings,
    alarm: Arc<Alarm>,
}

impl Upstreams {
    /// The upstreams with these settings. One that is configured as it was stays the one it was;
    /// one whose settings changed takes over what is known about endpoints that stay.
    pub fn from_settings(
        previous: Option<&Self>,
        settings: impl IntoIterator<Item = (Arc<str>, Settings)>,
        resolver: ResolverSettings,
    ) -> Self {
        let alarm = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.alarm));
        let upstreams = settings.into_iter().map(|(name, settings)| {
            let before = previous.and_then(|previous| previous.find(&name));
            let upstream = match before {
                Some(before) if before.settings == settings => Arc::clone(before),
                _ => Upstream::new(Arc::clone(&name), settings, &alarm, before.map(Arc::as_ref)),
            };
            (name, upstream)
        });
        Self {
            by_name: Arc::new(upstreams.collect()),
            resolver,
            alarm,
        }
    }

    /// The upstream of a name.
    pub fn find(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values()
    }

    /// How their names are resolved.
    pub fn resolver(&self) -> &ResolverSettings {
        &self.resolver
    }

    /// Raised when an endpoint is ejected.
    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }
}
