//! What a policy is compiled from: its settings at the gateway, at a domain and at a route, those of
//! them that there are. Whether the most specific level wins or all of them apply, each policy says
//! where it asks.
//!
//! Must not: know any policy.

use cardea_config::diagnostic::Diagnostic;
use cardea_config::origin::Origin;
use cardea_config::policy::Policies;

use super::rate_limit::Limiters;

/// The levels that apply to a route, or to what is no route's, the gateway first.
#[derive(Debug)]
pub struct Levels<'p> {
    levels: Vec<(&'p Policies, Place)>,
    limiters: &'p mut Limiters,
    found: Vec<Diagnostic>,
}

/// A level's place in the document: what a limiter is remembered by across reloads.
#[derive(Debug, Clone)]
pub struct Place {
    /// Unlike that of any other level.
    pub path: String,
    /// Where it is written.
    pub origin: Origin,
}

impl<'p> Levels<'p> {
    /// The gateway's level alone.
    pub fn gateway(policies: &'p Policies, limiters: &'p mut Limiters) -> Self {
        let place = Place {
            path: String::new(),
            origin: Origin::default(),
        };
        Self {
            levels: vec![(policies, place)],
            limiters,
            found: Vec::new(),
        }
    }

    /// With a more specific level.
    #[must_use]
    pub fn with(mut self, policies: &'p Policies, place: Place) -> Self {
        self.levels.push((policies, place));
        self
    }

    /// The setting of the most specific level that has one.
    pub fn most_specific<T>(&self, setting: impl Fn(&'p Policies) -> Option<T>) -> Option<T> {
        let mut levels = self.levels.iter().rev();
        levels.find_map(|(policies, _)| setting(policies))
    }

    /// The settings of all levels that have one, the gateway's first.
    pub fn each<T>(&self, setting: impl Fn(&'p Policies) -> Option<T>) -> impl Iterator<Item = T> {
        let levels = self.levels.iter();
        levels.filter_map(move |(policies, _)| setting(policies))
    }

    /// The levels with their places, the gateway first, and what is remembered of limiters.
    pub(super) fn with_limiters(&mut self) -> (&[(&'p Policies, Place)], &mut Limiters) {
        (&self.levels, self.limiters)
    }

    /// Takes note of settings that cannot be compiled.
    pub fn refuse(&mut self, code: &'static str, message: &str, why: &dyn std::fmt::Display) {
        let origin = self.levels.last().map(|(_, place)| place.origin);
        let refused = Diagnostic::error(code, origin, message).label(why.to_string());
        self.found.push(refused);
    }

    /// What was refused.
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}
