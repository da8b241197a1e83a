//! A mistake on its way from the value that noticed it to where it can be reported.
//!
//! Must not: speak of Rust types; whoever reads it wrote YAML.

use std::fmt;
use std::ops::Deref;

use serde::de::{self, Expected, Unexpected};

use super::suggestion;
use crate::origin::Origin;

/// A mistake, boxed: results carry it everywhere, and rarely have it.
#[derive(Debug)]
pub(crate) struct Error(Box<Mistake>);

#[derive(Debug, Default)]
pub(crate) struct Mistake {
    pub(super) message: String,
    pub(super) remedy: Option<String>,
    pub(super) origin: Option<Origin>,
    /// What should have been there; the decoder adds what is.
    pub(super) expected: Option<String>,
    /// The field that a struct lacks.
    pub(super) missing: Option<&'static str>,
    /// The fields there are, where one was written that is none of them.
    pub(super) unknown: Option<&'static [&'static str]>,
    /// It was reported, or follows from what was.
    pub(super) reported: bool,
}

impl Deref for Error {
    type Target = Mistake;

    fn deref(&self) -> &Mistake {
        &self.0
    }
}

impl Error {
    pub(super) fn at(mut self, origin: Origin) -> Self {
        self.0.origin.get_or_insert(origin);
        self
    }

    /// Whether a value as a whole, once it was read, said that it makes no sense.
    pub(super) fn is_about_whole(&self) -> bool {
        self.origin.is_none() && self.expected.is_none() && self.missing.is_none()
    }

    pub(super) fn silence(&mut self) {
        self.0.reported = true;
    }

    pub(super) fn silent() -> Self {
        Self::from(Mistake {
            reported: true,
            ..Mistake::default()
        })
    }

    pub(super) fn mismatch(expected: &str, found: &str, remedy: String) -> Self {
        Self::from(Mistake {
            message: format!("expected {expected}, found {found}"),
            remedy: Some(remedy),
            ..Mistake::default()
        })
    }

    fn expected(expected: &dyn Expected) -> Self {
        let mut expected = expected.to_string();
        // Text reaches a struct only where settings can be switched off.
        if expected.starts_with("struct ") {
            expected = "its settings or `off`".to_owned();
        }
        Self::from(Mistake {
            expected: Some(expected),
            ..Mistake::default()
        })
    }
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        Self(Box::new(mistake))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// A message may carry a remedy after a line break.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, remedy) = match text.split_once('\n') {
            Some((message, remedy)) => (message.to_owned(), Some(remedy.to_owned())),
            None => (text, None),
        };
        Self::from(Mistake {
            message,
            remedy,
            ..Mistake::default()
        })
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::from(Mistake {
            message: format!("`{variant}` is none of the choices"),
            remedy: Some(suggestion(variant, expected)),
            ..Mistake::default()
        })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::from(Mistake {
            message: format!("there is no field `{field}` here"),
            unknown: Some(expected),
            ..Mistake::default()
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::from(Mistake {
            message: format!("`{field}` is missing"),
            missing: Some(field),
            ..Mistake::default()
        })
    }
}
