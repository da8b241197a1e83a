//! Choices: a name alone, or a name with what belongs to it.
//!
//! Must not: guess. A name that is none of the choices was refused before.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::{Decoder, Error};
use crate::yaml::Node;

pub(super) struct Variant<'t, 'c> {
    pub(super) name: &'t str,
    pub(super) value: Option<&'t Node<'t>>,
    pub(super) decoder: Decoder<'t, 'c>,
}

impl<'t, 'c> de::EnumAccess<'t> for Variant<'t, 'c> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'t> Variant<'t, '_> {
    fn content(&self) -> Result<Decoder<'t, '_>, Error> {
        match self.value {
            Some(node) => Ok(Decoder {
                node,
                context: self.decoder.context,
            }),
            None => {
                let message = format!("`{0}` needs a value\nwrite `{0}: …`", self.name);
                Err(<Error as de::Error>::custom(message).at(self.decoder.node.origin))
            }
        }
    }
}

impl<'t> de::VariantAccess<'t> for Variant<'t, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.value {
            Some(node) if !node.is_null() => {
                let message = format!("`{}` takes no value", self.name);
                Err(<Error as de::Error>::custom(message).at(node.origin))
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
