//! What a type is made of, and what of it cannot be carried.

use std::collections::BTreeMap;

use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Fields, Ident, Member, Path, Token, Type};

use crate::attributes::{Attributes, Errors, Place};
use crate::types;

/// A type to derive for.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) krate: Option<Path>,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    Struct(Parts),
    Enum(Vec<Variant>),
}

pub(crate) struct Variant {
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) parts: Parts,
}

/// The fields of a struct or of a variant.
pub(crate) struct Parts {
    pub(crate) form: Form,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `;`
    Unit,
    /// `(T)`
    Newtype,
    /// `(…)` with any other number of fields
    Tuple,
    /// `{…}`
    Named,
}

pub(crate) struct Field {
    pub(crate) member: Member,
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) ty: Type,
}

impl Input {
    /// Reads as much as it can and adds every mistake to `errors`.
    pub(crate) fn read(item: &DeriveInput, errors: &mut Errors) -> Self {
        let attributes = Attributes::read(&item.attrs, Place::Type, errors);
        for lifetime in item.generics.lifetimes() {
            errors.hopeless_at(
                lifetime,
                "a value owns what it holds: use `String`, `Vec` or `Box` in place \
                                 of references, and no lifetime",
            );
        }
        let shape = match &item.data {
            Data::Struct(data) => Shape::Struct(Parts::read(&data.fields, errors)),
            Data::Enum(data) => Shape::Enum(read_variants(&data.variants, errors)),
            Data::Union(data) => {
                errors.at(
                    &data.union_token,
                    "a union does not say what it holds: use an enum",
                );
                Shape::Enum(Vec::new())
            }
        };
        Self {
            name: item.ident.unraw().to_string(),
            docs: attributes.docs,
            krate: attributes.krate,
            shape,
        }
    }
}

fn read_variants(
    variants: &Punctuated<syn::Variant, Token![,]>,
    errors: &mut Errors,
) -> Vec<Variant> {
    let mut names = Names::default();
    let mut read = Vec::new();
    for variant in variants {
        let attributes = Attributes::read(&variant.attrs, Place::Inside, errors);
        read.push(Variant {
            ident: variant.ident.clone(),
            name: names.take(&variant.ident, &attributes, errors),
            docs: attributes.docs,
            parts: Parts::read(&variant.fields, errors),
        });
    }
    read
}

impl Parts {
    fn read(fields: &Fields, errors: &mut Errors) -> Self {
        let form = match fields {
            Fields::Unit => Form::Unit,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Form::Newtype,
            Fields::Unnamed(_) => Form::Tuple,
            Fields::Named(_) => Form::Named,
        };
        let mut names = Names::default();
        let mut read = Vec::new();
        for (field, member) in fields.iter().zip(fields.members()) {
            let attributes = Attributes::read(&field.attrs, Place::Inside, errors);
            types::check(&field.ty, errors);
            let name = match &member {
                Member::Named(ident) => names.take(ident, &attributes, errors),
                Member::Unnamed(index) => {
                    if let Some(rename) = &attributes.rename {
                        errors.at(rename, "a field without a name cannot be renamed");
                    }
                    index.index.to_string()
                }
            };
            read.push(Field {
                member,
                name,
                docs: attributes.docs,
                ty: field.ty.clone(),
            });
        }
        Self { form, fields: read }
    }
}

/// The names taken in one struct, variant or enum.
#[derive(Default)]
struct Names(BTreeMap<String, ()>);

impl Names {
    fn take(&mut self, ident: &Ident, attributes: &Attributes, errors: &mut Errors) -> String {
        let (name, span) = match &attributes.rename {
            Some(rename) => (rename.value(), rename.span()),
            None => (ident.unraw().to_string(), ident.span()),
        };
        if self.0.insert(name.clone(), ()).is_some() {
            errors.push(syn::Error::new(
                span,
                format!("the name `{name}` is taken already"),
            ));
        }
        name
    }
}
