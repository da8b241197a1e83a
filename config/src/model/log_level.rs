//! How much the gateway's own log says: a level, and others by module.
//!
//! Must not: take a level misspelt for the name of a module; the log would fall silent.

use std::fmt;
use std::str::FromStr;

use super::value::text_value;

/// How severe a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// No line is.
    Off,
    /// Something failed.
    Error,
    /// Something will fail, or failed for somebody else.
    Warn,
    /// The life of the process and of its configuration.
    Info,
    /// Each request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const NAMES: [(&'static str, Self); 6] = [
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    fn named(word: &str) -> Option<Self> {
        let mut names = Self::NAMES.into_iter();
        names.find_map(|(name, level)| word.eq_ignore_ascii_case(name).then_some(level))
    }
}

/// What the log says: `info`, or `info,cardea_gateway::control=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirectives {
    written: Box<str>,
    /// The level of the gateway itself.
    pub level: LogLevel,
    /// The levels of modules, of any crate, by path.
    pub modules: Vec<(Box<str>, LogLevel)>,
}

impl LogDirectives {
    /// One level for all of the gateway.
    pub fn level(level: LogLevel) -> Self {
        let named = LogLevel::NAMES.into_iter().find(|(_, it)| *it == level);
        Self {
            written: named.map_or("info", |(name, _)| name).into(),
            level,
            modules: Vec::new(),
        }
    }
}

impl FromStr for LogDirectives {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut directives = Self::level(LogLevel::Info);
        directives.written = text.into();
        for directive in text.split(',').map(str::trim) {
            let (module, word) = match directive.split_once('=') {
                Some((module, word)) => (Some(module), word),
                None => (None, directive),
            };
            let level = LogLevel::named(word).ok_or_else(|| wrong(word))?;
            match module {
                None => directives.level = level,
                Some(module) if is_module(module) => {
                    directives.modules.push((module.into(), level))
                }
                Some(module) => {
                    return Err(format!(
                        "`{module}` is no module\nwrite its path: info,cardea_gateway::control=debug"
                    ));
                }
            }
        }
        Ok(directives)
    }
}

fn wrong(word: &str) -> String {
    let near = |(name, _): &(&str, _)| strsim::damerau_levenshtein(&word.to_lowercase(), name) <= 2;
    let hint = match LogLevel::NAMES.iter().find(|it| near(it)) {
        Some((name, _)) => format!("did you mean `{name}`?"),
        None => "write off, error, warn, info, debug or trace, \
                 or levels by module: info,cardea_gateway::control=debug"
            .to_owned(),
    };
    format!("`{word}` is no log level\n{hint}")
}

fn is_module(path: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    path.split("::")
        .all(|part| !part.is_empty() && part.bytes().all(fits))
}

impl fmt::Display for LogDirectives {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

text_value!(
    LogDirectives,
    { "type": "string", "pattern": "^[A-Za-z0-9_:=, ]+$" },
    "A level (off, error, warn, info, debug, trace), or levels by module: info,cardea_gateway::control=debug"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_for_all_and_by_module() {
        let check = |text: &str, level: LogLevel, modules: &[(&str, LogLevel)]| {
            let found: LogDirectives = text.parse().unwrap();
            let modules: Vec<_> = modules
                .iter()
                .map(|(it, level)| ((*it).into(), *level))
                .collect();
            assert_eq!((found.level, &found.modules), (level, &modules), "{text}");
            assert_eq!(found.to_string(), text);
        };
        check("info", LogLevel::Info, &[]);
        check("OFF", LogLevel::Off, &[]);
        check(
            "a::b_c=trace",
            LogLevel::Info,
            &[("a::b_c", LogLevel::Trace)],
        );
        let two = [("a", LogLevel::Off), ("b", LogLevel::Debug)];
        check(" warn , a=off,b=debug", LogLevel::Warn, &two);
    }

    #[test]
    fn what_is_no_level_is_refused() {
        let check = |text: &str, expected: &str| {
            let found = text.parse::<LogDirectives>().unwrap_err();
            assert!(found.starts_with(expected), "{text}: {found}");
        };
        check("", "`` is no log level\nwrite off");
        check("inof", "`inof` is no log level\ndid you mean `info`?");
        check("info,", "`` is no log level");
        check(
            "info,cardea_gateway",
            "`cardea_gateway` is no log level\nwrite off",
        );
        check("a=debgu", "`debgu` is no log level\ndid you mean `debug`?");
        check("a=b=info", "`b=info` is no log level");
        check("=info", "`` is no module");
        check("a:b=info", "`a:b` is no module");
        check("a[span]=info", "`a[span]` is no module");
        check("3", "`3` is no log level");
    }
}
