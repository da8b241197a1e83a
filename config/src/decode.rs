//! From nodes to typed values, through serde, without stopping at the first mistake.
//!
//! serde gives up at the first error, so a value with a mistake is read again without the innermost
//! thing that is wrong, until nothing new is found. What is read again is small: the nearest
//! [`Located`] around the mistake, which is an item of a list or a value of a map. Where something
//! has to be there for the reading to go on, a placeholder takes its place.
//!
//! Must not: let a document with a mistake pass. What is read around a mistake only serves to find
//! the next one.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::diagnostic::Diagnostic;
use crate::origin::{Located, Origin, SourceId};
use crate::yaml::{Kind, Node};

mod access;
mod error;
mod placeholder;
mod reading;
mod suggest;

#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use reading::{Reading, intern, note_file, relative};
pub(crate) use suggest::suggestion;

use access::{Fields, Items, Variant};
use placeholder::{CANDIDATES, Placeholder};

/// How often a document is read again as a whole, because something outside its lists and maps is
/// wrong. A file with more of that shows the first ones.
const READINGS_MAX: usize = 100;

/// How often an item of a list or a value of a map is read again.
const ATTEMPTS_MAX: usize = 1000;

/// What was found while reading the files of a document.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
    /// Elements with a mistake in them: what else is said about them may follow from it.
    broken: HashSet<Origin>,
}

impl Problems {
    /// Adds a finding, once.
    pub(crate) fn add(&mut self, problem: Diagnostic) {
        if self.seen.insert(problem.clone()) {
            self.found.push(problem);
        }
    }

    /// Takes over what was found elsewhere, each finding as `explain` puts it.
    pub(crate) fn take(&mut self, other: Self, explain: impl Fn(Diagnostic) -> Diagnostic) {
        self.broken.extend(other.broken);
        for problem in other.found {
            self.add(explain(problem));
        }
    }

    /// Whether the document is refused.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(Diagnostic::is_error)
    }

    /// Whether an element has a mistake in it.
    pub(crate) fn is_broken(&self, origin: Origin) -> bool {
        self.broken.contains(&origin)
    }

    /// All of them, in the order they were found.
    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}

/// Reads a value from a tree. If `problems` has grown, the value has placeholders in it and only
/// serves to find further mistakes.
pub(crate) fn decode<'t, T: Deserialize<'t>>(root: Node<'t>, problems: &mut Problems) -> Option<T> {
    let context = Context {
        problems: RefCell::new(std::mem::take(problems)),
        ..Context::default()
    };
    let mut value = None;
    for _ in 0..READINGS_MAX {
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
                context.report(&context.locate(error, root), root.origin());
                if !context.leave_out() {
                    break;
                }
            }
        }
    }
    *problems = context.problems.into_inner();
    value
}

/// Reads a value with its origin, which only our own decoder knows.
pub(crate) fn located<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Located<T>, D::Error> {
    struct Attempted<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Attempted<T> {
        type Value = Located<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a value")
        }

        /// Our own decoder offers the same value again and again, until an attempt succeeds.
        fn visit_seq<A: SeqAccess<'de>>(self, mut attempts: A) -> Result<Self::Value, A::Error> {
            let origin = HERE.get();
            for _ in 0..ATTEMPTS_MAX {
                match attempts.next_element() {
                    Ok(Some(value)) => return Ok(Located { value, origin }),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            Err(de::Error::custom("this value cannot be read"))
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            T::deserialize(deserializer).map(Located::built_in)
        }
    }
    deserializer.deserialize_newtype_struct(LOCATED, Attempted(PhantomData))
}

/// Reads a value that is written as text.
pub(crate) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = String>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// Asks the decoder to say where it stands.
const LOCATED: &str = "$cardea::Located";

thread_local! {
    /// Where the decoder stands, for `located` to pick up: serde has no way to pass it.
    static HERE: Cell<Origin> = const { Cell::new(Origin {
        source: SourceId(0),
        line: 0,
        column: 0,
    }) };
}

#[derive(Default)]
struct Context {
    problems: RefCell<Problems>,
    /// Keys and items that are left out from now on, because what is there is wrong.
    left_out: RefCell<HashSet<u32>>,
    /// Fields that a placeholder stands in for, by the map that lacks them.
    supplied: RefCell<Vec<(u32, &'static str)>>,
    /// What the next attempt does otherwise than the one that failed.
    remedy: Cell<Option<NextAttempt>>,
    /// The keys and items that were found wrong.
    wrong: RefCell<Vec<u32>>,
    /// The origins of the elements that are being read.
    around: RefCell<Vec<Origin>>,
}

#[derive(Clone, Copy)]
enum NextAttempt {
    /// It leaves out a key or item.
    LeaveOut(u32),
    /// It supplies a field that is missing.
    Supply(u32, &'static str),
}

impl Context {
    fn report(&self, error: &Error, fallback: Origin) {
        if error.reported {
            return;
        }
        let origin = error.origin.unwrap_or(fallback);
        let mut found = Diagnostic::error("E-value", Some(origin), error.message.clone());
        found.remedy = error.remedy.as_deref().map(Box::from);
        self.add(found);
    }

    fn add(&self, problem: Diagnostic) {
        let mut problems = self.problems.borrow_mut();
        problems.broken.extend(self.around.borrow().iter().copied());
        problems.broken.extend(problem.origin);
        problems.add(problem);
    }

    /// Blames a key or item for a failure, unless something inside it was blamed already.
    fn blame(&self, node: Node<'_>) {
        if self.remedy.get().is_none() {
            self.remedy.set(Some(NextAttempt::LeaveOut(node.index())));
        }
    }

    /// Says where a mistake was noticed. What a value says about itself as a whole may follow from
    /// what is wrong inside it, and is not worth telling then.
    fn locate(&self, mut error: Error, node: Node<'_>) -> Error {
        if error.is_about_whole() && self.wrong.borrow().iter().any(|index| node.holds(*index)) {
            error.silence();
        }
        error.at(node.origin())
    }

    fn is_left_out(&self, node: Node<'_>) -> bool {
        let left_out = self.left_out.borrow();
        !left_out.is_empty() && left_out.contains(&node.index())
    }

    /// Prepares the next attempt; false if it would be no other than the last.
    fn leave_out(&self) -> bool {
        match self.remedy.take() {
            Some(NextAttempt::LeaveOut(index)) => {
                self.wrong.borrow_mut().push(index);
                self.left_out.borrow_mut().insert(index)
            }
            Some(NextAttempt::Supply(index, field)) => {
                let mut supplied = self.supplied.borrow_mut();
                let is_new = !supplied.contains(&(index, field));
                supplied.push((index, field));
                is_new
            }
            None => false,
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'t, 'c> {
    node: Node<'t>,
    context: &'c Context,
}

/// The attempts at one located value.
struct Attempts<'t, 'c> {
    decoder: Decoder<'t, 'c>,
    /// The placeholders to try once the value itself is known to be wrong.
    candidates: Option<std::slice::Iter<'static, Placeholder>>,
}

impl<'t> SeqAccess<'t> for Attempts<'t, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if let Some(candidates) = &mut self.candidates {
            return match candidates.next() {
                Some(placeholder) => seed.deserialize(*placeholder).map(Some),
                None => Ok(None),
            };
        }
        let Decoder { node, context } = self.decoder;
        context.around.borrow_mut().push(node.origin());
        let read = seed.deserialize(self.decoder);
        let read = read.map_err(|error| context.locate(error, node));
        if let Err(error) = &read {
            context.report(error, node.origin());
            if !context.leave_out() {
                self.candidates = Some(CANDIDATES.iter());
            }
        }
        context.around.borrow_mut().pop();
        read.map(Some)
    }
}

impl<'t, 'c> Decoder<'t, 'c> {
    fn text(&self, expected: &str) -> Result<&'t str, Error> {
        match self.node.kind() {
            Kind::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => Err(self.mismatch(expected)),
        }
    }

    fn mismatch(&self, expected: &str) -> Error {
        let found = match self.node.kind() {
            _ if self.node.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        };
        let remedy = match (expected, self.node.kind()) {
            ("a list", _) if self.node.is_null() => "write `[]` for an empty list".to_owned(),
            ("a list", Kind::Scalar { text, .. }) => format!("write `[\"{text}\"]`"),
            ("a list", _) => "begin each item with `- `".to_owned(),
            ("a map", Kind::List(_)) => "write `name: …` in place of each `- `".to_owned(),
            ("a map", _) => "write its fields as `{ field: value }`".to_owned(),
            ("text", _) => "write a word, or text in quotes".to_owned(),
            ("`true` or `false`", _) => "write one of the two".to_owned(),
            _ if expected.contains("number") => "write digits alone".to_owned(),
            _ if expected.starts_with("exactly") => "keep one of them".to_owned(),
            _ => format!("write {expected}"),
        };
        Error::mismatch(expected, &found, remedy)
    }

    fn number<N: FromStr>(&self, expected: &str) -> Result<N, Error> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| self.mismatch(expected))
    }

    /// Says what was found, and where, if a visitor failed here.
    fn here<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| match &error.expected {
            Some(expected) => self.mismatch(expected).at(self.node.origin()),
            None => error.at(self.node.origin()),
        })
    }

    fn fields(&self, known: Option<&'static [&'static str]>) -> Result<Fields<'t, 'c>, Error> {
        match self.node.kind() {
            Kind::Map(pairs) => Ok(Fields::new(self.node, Some(pairs), known, self.context)),
            _ if self.node.is_null() => Ok(Fields::new(self.node, None, known, self.context)),
            _ => Err(self.mismatch("a map").at(self.node.origin())),
        }
    }

    /// Lets a visitor read a map, and says what it lacks.
    fn read_map<V: Visitor<'t>>(
        self,
        fields: Fields<'t, '_>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = visitor.visit_map(fields.clone());
        let missing = result.as_ref().err().and_then(|error| error.missing);
        let Some(field) = missing else {
            return self.here(result);
        };
        // A field that is there, or nearly, was left out because it is wrong; that was reported.
        if !fields.has(field) {
            let message = format!("`{field}` is missing");
            let problem = Diagnostic::error("E-missing-field", Some(self.node.origin()), message);
            let remedy = format!("add `{field}: …`");
            self.context
                .add(problem.label("it belongs here").remedy(remedy));
        }
        if self.context.remedy.get().is_none() {
            let supply = NextAttempt::Supply(self.node.index(), field);
            self.context.remedy.set(Some(supply));
        }
        Err(Error::silent())
    }

    /// The name of an enum's variant, where it stands, and its value.
    fn variant(&self, variants: &[&str]) -> Result<(&'t str, Node<'t>, Option<Node<'t>>), Error> {
        let choices = variants.join(", ");
        match self.node.kind() {
            Kind::Scalar { text, .. } if !self.node.is_null() => {
                return Ok((text, self.node, None));
            }
            Kind::Map(mut pairs) => match (pairs.len(), pairs.next()) {
                (1, Some((key, value))) => {
                    if let Some(text) = key.text() {
                        return Ok((text, key, Some(value)));
                    }
                }
                _ => return Err(self.mismatch(&format!("exactly one of {choices}"))),
            },
            _ => {}
        }
        Err(self.mismatch(&format!("one of {choices}")))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $expected:literal)*) => {
        $(fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
            self.here(self.number($expected).and_then(|number| visitor.$visit(number)))
        })*
    };
}

macro_rules! alike {
    ($($method:ident($($argument:ty),*) $other:ident)*) => {
        $(fn $method<V: Visitor<'t>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value, Error> {
            self.$other(visitor)
        })*
    };
}

impl<'t> Deserializer<'t> for Decoder<'t, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        match self.node.kind() {
            _ if self.node.is_null() => self.here(visitor.visit_unit()),
            Kind::Scalar { text, plain: true } if text == "true" || text == "false" => {
                self.here(visitor.visit_bool(text == "true"))
            }
            Kind::Scalar { text, plain: true } if is_number(text) => match text.parse() {
                Ok(number) => self.here(visitor.visit_u64(number)),
                Err(_) => self.here(visitor.visit_borrowed_str(text)),
            },
            Kind::Scalar { text, .. } => self.here(visitor.visit_borrowed_str(text)),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.here(
            self.number("`true` or `false`")
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
        if name != LOCATED {
            return self.here(visitor.visit_newtype_struct(self));
        }
        HERE.set(self.node.origin());
        let attempts = Attempts {
            decoder: self,
            candidates: None,
        };
        // Every failed attempt was reported.
        visitor.visit_seq(attempts).map_err(|_| Error::silent())
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.kind() {
            Kind::List(items) => self.here(visitor.visit_seq(Items::new(items, self.context))),
            _ => Err(self.mismatch("a list").at(self.node.origin())),
        }
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let fields = self.fields(None)?;
        self.read_map(fields, visitor)
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = self.fields(Some(known))?;
        fields.report_unknown(known);
        self.read_map(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (name, place, value) = self.here(self.variant(variants))?;
        if !variants.contains(&name) {
            let error: Error = de::Error::unknown_variant(name, variants);
            return Err(error.at(place.origin()));
        }
        let variant = Variant {
            name,
            value,
            node: self.node,
            context: self.context,
        };
        self.here(visitor.visit_enum(variant))
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    alike! {
        deserialize_string() deserialize_str
        deserialize_i128() deserialize_any
        deserialize_u128() deserialize_any
        deserialize_bytes() deserialize_any
        deserialize_byte_buf() deserialize_any
        deserialize_unit() deserialize_any
        deserialize_identifier() deserialize_any
        deserialize_unit_struct(&'static str) deserialize_any
        deserialize_tuple(usize) deserialize_seq
        deserialize_tuple_struct(&'static str, usize) deserialize_seq
    }
}
