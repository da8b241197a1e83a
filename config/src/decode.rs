//! From nodes to typed values, through serde, without stopping at the first mistake: unknown
//! fields are all reported with a suggestion, a list goes on after a broken item, and a document
//! with a broken field is read again without it until nothing new is found.
//!
//! Must not: let a document with a mistake pass. What is read around a mistake only serves to find
//! the next one.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use crate::diagnostic::Diagnostic;
use crate::origin::{Located, Origin};
use crate::yaml::{Kind, Node};

mod variant;

use variant::Variant;

/// Rounds of reading around broken fields. A file with more broken fields than this shows the
/// first ones, which is enough for one round of mending.
const ROUNDS_MAX: usize = 200;

/// Reads a value from a tree; every mistake found is added to `problems`.
pub(crate) fn decode<'t, T: Deserialize<'t>>(
    root: &'t Node<'t>,
    problems: &mut Vec<Diagnostic>,
) -> Option<T> {
    let context = Context::default();
    let mut value = None;
    for _ in 0..ROUNDS_MAX {
        let decoder = Decoder {
            node: root,
            context: &context,
        };
        match T::deserialize(decoder) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(error) => {
                context.report(&error, root.origin);
                // Read again without the innermost field that is broken.
                let Some(field) = context.broken.take() else {
                    break;
                };
                context.skipped.borrow_mut().insert(field);
            }
        }
    }
    let found = context.problems.into_inner();
    let clean = found.is_empty();
    problems.extend(found);
    value.filter(|_| clean)
}

/// Reads a value with its origin, which only our own deserializer knows.
pub(crate) fn located<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Located<T>, D::Error> {
    struct Anything<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Anything<T> {
        type Value = Located<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a value")
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            let origin = HERE.get();
            Ok(Located {
                value: T::deserialize(deserializer)?,
                origin,
            })
        }
    }
    deserializer.deserialize_newtype_struct(LOCATED, Anything(std::marker::PhantomData))
}

/// Asks the decoder to say where it stands.
const LOCATED: &str = "$cardea::Located";

thread_local! {
    /// Where the decoder stands, for `located` to pick up: serde has no way to pass it.
    static HERE: Cell<Origin> = const { Cell::new(Origin {
        source: crate::origin::SourceId(0),
        line: 0,
        column: 0,
    }) };
}

#[derive(Default)]
struct Context {
    problems: RefCell<Vec<Diagnostic>>,
    /// Fields left out of this round, by where their keys stand.
    skipped: RefCell<HashSet<Origin>>,
    /// The innermost field that broke this round.
    broken: Cell<Option<Origin>>,
}

impl Context {
    fn report(&self, error: &Error, fallback: Origin) {
        if error.reported {
            return;
        }
        let origin = error.origin.unwrap_or(fallback);
        let mut found = Diagnostic::error("E-value", Some(origin), error.message.clone());
        found.remedy.clone_from(&error.remedy);
        self.add(found);
    }

    fn add(&self, problem: Diagnostic) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

/// A mistake on its way to where it can be reported.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    remedy: Option<String>,
    origin: Option<Origin>,
    /// It was reported, or follows from a field that is left out.
    reported: bool,
}

impl Error {
    fn at(mut self, origin: Origin) -> Self {
        self.origin.get_or_insert(origin);
        self
    }

    fn silent() -> Self {
        Self {
            message: String::new(),
            remedy: None,
            origin: None,
            reported: true,
        }
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
        Self {
            message,
            remedy,
            origin: None,
            reported: false,
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'t, 'c> {
    node: &'t Node<'t>,
    context: &'c Context,
}

impl<'t> Decoder<'t, '_> {
    fn text(&self, expected: &str) -> Result<&'t str, Error> {
        match self.node.resolved() {
            Kind::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => Err(self.mismatch(expected)),
        }
    }

    fn mismatch(&self, expected: &str) -> Error {
        let found = match self.node.resolved() {
            _ if self.node.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) | Kind::Shared(_) => "a map".to_owned(),
        };
        de::Error::custom(format!("expected {expected}, found {found}"))
    }

    fn parsed<N: std::str::FromStr>(&self, expected: &str) -> Result<N, Error> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| self.mismatch(expected))
    }

    /// Runs a visitor and says where it stood if it fails.
    fn here<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| error.at(self.node.origin))
    }

    fn entries(&self) -> Result<&'t [(Node<'t>, Node<'t>)], Error> {
        match self.node.resolved() {
            Kind::Map(entries) => Ok(entries),
            _ if self.node.is_null() => Ok(&[]),
            _ => Err(self.mismatch("a map")),
        }
    }

    fn report_unknown(&self, key: &Node<'t>, name: &str, known: &[&'static str], what: &str) {
        let message = format!("there is no {what} `{name}` here");
        let problem = Diagnostic::error("E-unknown-field", Some(key.origin), message);
        self.context.add(
            problem
                .label(format!("unknown {what}"))
                .remedy(suggestion(name, known)),
        );
    }
}

/// "did you mean", or what there is.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    match near {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "nothing can be set here".to_owned(),
        None => format!("there is: {}", known.join(", ")),
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $expected:literal)*) => {
        $(fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
            self.here(self.parsed($expected).and_then(|number| visitor.$visit(number)))
        })*
    };
}

impl<'t, 'c> Deserializer<'t> for Decoder<'t, 'c> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.resolved() {
            _ if self.node.is_null() => self.here(visitor.visit_unit()),
            Kind::Scalar { text, plain: true } if text == "true" || text == "false" => {
                self.here(visitor.visit_bool(text == "true"))
            }
            Kind::Scalar { text, plain: true }
                if text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                match text.parse() {
                    Ok(number) => self.here(visitor.visit_u64(number)),
                    Err(_) => self.here(visitor.visit_borrowed_str(text)),
                }
            }
            Kind::Scalar { text, .. } => self.here(visitor.visit_borrowed_str(text)),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) | Kind::Shared(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.here(
            self.parsed("`true` or `false`")
                .and_then(|value| visitor.visit_bool(value)),
        )
    }

    numbers! {
        deserialize_u8 visit_u8 "a whole number up to 255"
        deserialize_u16 visit_u16 "a whole number up to 65535"
        deserialize_u32 visit_u32 "a whole number"
        deserialize_u64 visit_u64 "a whole number"
        deserialize_i8 visit_i8 "a number"
        deserialize_i16 visit_i16 "a number"
        deserialize_i32 visit_i32 "a number"
        deserialize_i64 visit_i64 "a number"
        deserialize_f32 visit_f32 "a number"
        deserialize_f64 visit_f64 "a number"
        deserialize_char visit_char "one character"
    }

    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.here(
            self.text("text")
                .and_then(|text| visitor.visit_borrowed_str(text)),
        )
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == LOCATED {
            HERE.set(self.node.origin);
        }
        self.here(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.resolved() {
            Kind::List(items) => {
                let items = Items {
                    items: items.iter(),
                    context: self.context,
                };
                self.here(visitor.visit_seq(items))
            }
            _ => Err(self.mismatch("a list").at(self.node.origin)),
        }
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.entries().map_err(|error| error.at(self.node.origin))?;
        let fields = Fields::new(entries, None, self.context);
        self.here(visitor.visit_map(fields))
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = self.entries().map_err(|error| error.at(self.node.origin))?;
        for (key, _) in entries {
            if let Kind::Scalar { text, .. } = key.resolved()
                && !known.contains(&&**text)
            {
                self.report_unknown(key, text, known, "field");
            }
        }
        let fields = Fields::new(entries, Some(known), self.context);
        let lacks = fields.lacks();
        let result = visitor.visit_map(fields);
        match result {
            // What a struct lacks because its broken field was left out is no second mistake.
            Err(error) if lacks && error.origin.is_none() => Err(Error::silent()),
            result => self.here(result),
        }
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (name, value) = match self.node.resolved() {
            Kind::Scalar { text, .. } if !self.node.is_null() => (&**text, None),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => match key.resolved() {
                    Kind::Scalar { text, .. } => (&**text, Some(value)),
                    _ => return Err(self.mismatch("a name").at(self.node.origin)),
                },
                _ => {
                    let expected = format!("exactly one of {}", variants.join(", "));
                    return Err(self.mismatch(&expected).at(self.node.origin));
                }
            },
            _ => {
                let expected = format!("one of {}", variants.join(", "));
                return Err(self.mismatch(&expected).at(self.node.origin));
            }
        };
        if !variants.contains(&name) {
            let message = format!(
                "`{name}` is none of the choices\n{}",
                suggestion(name, variants)
            );
            return Err(<Error as de::Error>::custom(message).at(self.node.origin));
        }
        let variant = Variant {
            name,
            value,
            decoder: self,
        };
        self.here(visitor.visit_enum(variant))
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_i128<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_u128<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bytes<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }
}

struct Items<'t, 'c> {
    items: std::slice::Iter<'t, Node<'t>>,
    context: &'c Context,
}

impl<'t> de::SeqAccess<'t> for Items<'t, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        let decoder = Decoder {
            node,
            context: self.context,
        };
        seed.deserialize(decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'t, 'c> {
    entries: std::slice::Iter<'t, (Node<'t>, Node<'t>)>,
    known: Option<&'static [&'static str]>,
    value: Option<(&'t Node<'t>, &'t Node<'t>)>,
    context: &'c Context,
    all: &'t [(Node<'t>, Node<'t>)],
}

impl<'t, 'c> Fields<'t, 'c> {
    fn new(
        entries: &'t [(Node<'t>, Node<'t>)],
        known: Option<&'static [&'static str]>,
        context: &'c Context,
    ) -> Self {
        Self {
            entries: entries.iter(),
            known,
            value: None,
            context,
            all: entries,
        }
    }

    /// Whether a field is left out, because it is broken or unknown.
    fn lacks(&self) -> bool {
        self.all.iter().any(|(key, _)| !self.is_read(key))
    }

    fn is_read(&self, key: &Node<'t>) -> bool {
        let Kind::Scalar { text, .. } = key.resolved() else {
            return false;
        };
        self.known.is_none_or(|known| known.contains(&&**text))
            && !self.context.skipped.borrow().contains(&key.origin)
    }
}

impl<'t> de::MapAccess<'t> for Fields<'t, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'t>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        loop {
            let Some((key, value)) = self.entries.next() else {
                return Ok(None);
            };
            if !self.is_read(key) {
                continue;
            }
            let Kind::Scalar { text, .. } = key.resolved() else {
                continue;
            };
            self.value = Some((key, value));
            let name = BorrowedStrDeserializer::<Error>::new(text);
            return match seed.deserialize(name) {
                Ok(name) => Ok(Some(name)),
                Err(error) => {
                    self.context
                        .broken
                        .set(self.context.broken.get().or(Some(key.origin)));
                    Err(error.at(key.origin))
                }
            };
        }
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(Error::silent());
        };
        let read = seed.deserialize(Decoder {
            node,
            context: self.context,
        });
        if read.is_err() && self.context.broken.get().is_none() {
            self.context.broken.set(Some(key.origin));
        }
        read.map_err(|error| error.at(node.origin))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
