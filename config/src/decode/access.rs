//! The items of lists, the fields of maps and the variants of enums, as serde asks for them.
//!
//! Must not: hand out what is left out because it is wrong.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::placeholder::CANDIDATES;
use super::suggest::{nearest, suggestion};
use super::{Context, Decoder, Error};
use crate::diagnostic::Diagnostic;
use crate::yaml::{self, Node, Pairs};

pub(super) struct Items<'t, 'c> {
    items: yaml::Items<'t>,
    context: &'c Context,
}

impl<'t, 'c> Items<'t, 'c> {
    pub(super) fn new(items: yaml::Items<'t>, context: &'c Context) -> Self {
        Self { items, context }
    }
}

impl<'t> de::SeqAccess<'t> for Items<'t, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let context = self.context;
        let Some(node) = self.items.find(|node| !context.is_left_out(*node)) else {
            return Ok(None);
        };
        let read = seed.deserialize(Decoder { node, context });
        if read.is_err() {
            context.blame(node);
        }
        read.map(Some).map_err(|error| context.locate(error, node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

#[derive(Clone)]
pub(super) struct Fields<'t, 'c> {
    map: Node<'t>,
    pairs: Option<Pairs<'t>>,
    all: Option<Pairs<'t>>,
    /// The fields of a struct; a map has any.
    known: Option<&'static [&'static str]>,
    /// How many of the fields to be supplied were looked at.
    supplied: usize,
    value: Option<Value<'t>>,
    context: &'c Context,
}

#[derive(Clone, Copy)]
enum Value<'t> {
    Written { key: Node<'t>, node: Node<'t> },
    Supplied,
}

impl<'t, 'c> Fields<'t, 'c> {
    pub(super) fn new(
        map: Node<'t>,
        pairs: Option<Pairs<'t>>,
        known: Option<&'static [&'static str]>,
        context: &'c Context,
    ) -> Self {
        Self {
            map,
            pairs,
            all: pairs,
            known,
            supplied: 0,
            value: None,
            context,
        }
    }

    fn keys(&self) -> impl Iterator<Item = (Node<'t>, &'t str)> + use<'t> {
        let keys = self.all.into_iter().flatten().map(|(key, _)| key);
        keys.filter_map(|key| Some((key, key.text()?)))
    }

    /// Reports the keys that are no fields.
    pub(super) fn report_unknown(&self, known: &[&str]) {
        for (key, name) in self.keys() {
            if !known.contains(&name) {
                self.context.wrong.borrow_mut().push(key.index());
                self.context.add(unknown(key, name, known));
            }
        }
    }

    /// Whether a field is written, rightly or nearly.
    pub(super) fn has(&self, field: &str) -> bool {
        self.keys()
            .any(|(_, name)| name == field || nearest(name, &[field]).is_some())
    }

    fn supplied(&mut self) -> Option<&'static str> {
        let supplied = self.context.supplied.borrow();
        while let Some((map, field)) = supplied.get(self.supplied) {
            self.supplied += 1;
            if *map == self.map.index() {
                return Some(field);
            }
        }
        None
    }
}

fn unknown(key: Node<'_>, name: &str, known: &[&str]) -> Diagnostic {
    let message = format!("there is no field `{name}` here");
    Diagnostic::error("E-unknown-field", Some(key.origin()), message)
        .label("unknown field")
        .remedy(suggestion(name, known))
}

impl<'t> de::MapAccess<'t> for Fields<'t, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'t>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for (key, node) in self.pairs.as_mut().into_iter().flatten() {
            let Some(text) = key.text() else { continue };
            let is_known = self.known.is_none_or(|known| known.contains(&text));
            if !is_known || self.context.is_left_out(key) {
                continue;
            }
            self.value = Some(Value::Written { key, node });
            let read = seed.deserialize(BorrowedStrDeserializer::<Error>::new(text));
            let Err(error) = read else {
                return read.map(Some);
            };
            self.context.blame(key);
            // A struct that is one of two forms tells its fields only now.
            if let Some(known) = error.unknown {
                self.context.add(unknown(key, text, known));
                return Err(Error::silent());
            }
            return Err(error.at(key.origin()));
        }
        let Some(field) = self.supplied() else {
            return Ok(None);
        };
        self.value = Some(Value::Supplied);
        seed.deserialize(BorrowedStrDeserializer::<Error>::new(field))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let context = self.context;
        match self.value.take() {
            Some(Value::Written { key, node }) => {
                let read = seed.deserialize(Decoder { node, context });
                if read.is_err() {
                    context.blame(key);
                }
                read.map_err(|error| context.locate(error, node))
            }
            Some(Value::Supplied) => match CANDIDATES.first() {
                Some(placeholder) => seed.deserialize(*placeholder),
                None => Err(Error::silent()),
            },
            None => Err(Error::silent()),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.pairs.as_ref().map(ExactSizeIterator::len)
    }
}

pub(super) struct Variant<'t, 'c> {
    pub(super) name: &'t str,
    pub(super) value: Option<Node<'t>>,
    pub(super) node: Node<'t>,
    pub(super) context: &'c Context,
}

impl<'t, 'c> de::EnumAccess<'t> for Variant<'t, 'c> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'t, 'c> Variant<'t, 'c> {
    fn content(&self) -> Result<Decoder<'t, 'c>, Error> {
        let context = self.context;
        match self.value {
            Some(node) => Ok(Decoder { node, context }),
            None => {
                let message = format!("`{0}` needs a value\nwrite `{0}: …`", self.name);
                Err(<Error as de::Error>::custom(message).at(self.node.origin()))
            }
        }
    }
}

impl<'t> de::VariantAccess<'t> for Variant<'t, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.value {
            Some(node) if !node.is_null() => {
                let message = format!("`{0}` takes no value\nwrite `{0}` alone", self.name);
                Err(<Error as de::Error>::custom(message).at(node.origin()))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'t>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}
