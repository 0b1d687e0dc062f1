//! What attributes say, and which cannot be honoured.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Path};

/// Errors, all of them rather than the first.
#[derive(Default)]
pub(crate) struct Errors {
    errors: Option<Error>,
    /// Whether the type can have no implementation at all, not even one that does nothing.
    hopeless: bool,
}

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn at(&mut self, place: &impl Spanned, message: &str) {
        self.push(Error::new(place.span(), message));
    }

    /// As [`at`](Self::at), of what would be an error in any implementation.
    pub(crate) fn hopeless_at(&mut self, place: &impl Spanned, message: &str) {
        self.hopeless = true;
        self.at(place, message);
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        self.errors.map(|error| error.to_compile_error())
    }
}

/// Attributes of serde that would change what the bytes of a value mean, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("alias", "a field has one name; remove the alias"),
    (
        "borrow",
        "a value owns what it holds; use `String` or `Vec`",
    ),
    ("bound", "write the bound in a `where` clause of the type"),
    ("content", "a variant is told by its number; remove it"),
    ("crate", "use `#[value(crate = \"…\")]`"),
    (
        "default",
        "every field is written, so none is ever missing; make the field an `Option`",
    ),
    (
        "deny_unknown_fields",
        "unknown fields are always refused; remove it",
    ),
    (
        "deserialize_with",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    ("expecting", "remove it"),
    (
        "flatten",
        "fields have fixed places; keep the inner struct as a field of its own",
    ),
    (
        "from",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    (
        "getter",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    (
        "into",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    (
        "other",
        "a variant that is not known is an error; remove it",
    ),
    (
        "remote",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    (
        "rename_all",
        "rename single fields or variants with `#[serde(rename = \"…\")]`",
    ),
    (
        "rename_all_fields",
        "rename single fields with `#[serde(rename = \"…\")]`",
    ),
    (
        "serialize_with",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    (
        "skip",
        "every field travels; move the field to a type that does not",
    ),
    (
        "skip_deserializing",
        "every field travels; move the field to a type that does not",
    ),
    (
        "skip_serializing",
        "every field travels; move the field to a type that does not",
    ),
    (
        "skip_serializing_if",
        "every field is written; make it an `Option`, whose `None` is a byte",
    ),
    ("tag", "a variant is told by its number; remove it"),
    (
        "transparent",
        "a struct of one unnamed field already stands for that field; remove it",
    ),
    (
        "try_from",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
    ("untagged", "a variant is told by its number; remove it"),
    ("variant_identifier", "remove it"),
    ("field_identifier", "remove it"),
    (
        "with",
        "make a type for what travels, derive `Value` for it, and convert",
    ),
];

/// Where an attribute stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Type,
    Inside,
}

/// What the attributes of one thing say.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) docs: String,
    pub(crate) rename: Option<LitStr>,
    pub(crate) krate: Option<Path>,
}

impl Attributes {
    pub(crate) fn read(attributes: &[Attribute], place: Place, errors: &mut Errors) -> Self {
        let mut read = Self::default();
        let mut lines = Vec::new();
        for attribute in attributes {
            if attribute.path().is_ident("doc") {
                lines.extend(doc_lines(&attribute.meta));
            } else if attribute.path().is_ident("serde") {
                read.list(attribute, errors, |read, meta, errors| {
                    read.serde(meta, place, errors)
                });
            } else if attribute.path().is_ident("value") {
                read.list(attribute, errors, |read, meta, errors| {
                    read.value(meta, place, errors)
                });
            }
        }
        read.docs = lines.join("\n").trim().to_owned();
        read
    }

    fn list(
        &mut self,
        attribute: &Attribute,
        errors: &mut Errors,
        each: impl Fn(&mut Self, &ParseNestedMeta<'_>, &mut Errors) -> syn::Result<()>,
    ) {
        let result = attribute.parse_nested_meta(|meta| each(self, &meta, errors));
        if let Err(error) = result {
            errors.push(error);
        }
    }

    fn serde(
        &mut self,
        meta: &ParseNestedMeta<'_>,
        place: Place,
        errors: &mut Errors,
    ) -> syn::Result<()> {
        let name = meta.path.to_token_stream().to_string();
        if name == "rename" && place == Place::Inside {
            if meta.input.peek(syn::token::Paren) {
                skip_argument(meta)?;
                errors.at(
                    &meta.path,
                    "`serde(rename(…))` is not supported: a name is the same in both directions; \
                     `#[serde(rename = \"…\")]`",
                );
                return Ok(());
            }
            self.rename = Some(meta.value()?.parse()?);
            return Ok(());
        }
        skip_argument(meta)?;
        let instead = match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, instead)) => instead,
            None if name == "rename" => "rename the type itself",
            None => "remove it",
        };
        errors.at(
            &meta.path,
            &format!("`serde({name})` is not supported: {instead}"),
        );
        Ok(())
    }

    fn value(
        &mut self,
        meta: &ParseNestedMeta<'_>,
        place: Place,
        errors: &mut Errors,
    ) -> syn::Result<()> {
        if meta.path.is_ident("crate") && place == Place::Type {
            self.krate = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            return Ok(());
        }
        skip_argument(meta)?;
        errors.at(
            &meta.path,
            "`value` knows `crate = \"…\"` only, on the type",
        );
        Ok(())
    }
}

/// Passes over `= …` or `(…)`, so that the attributes behind are read too.
fn skip_argument(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(syn::Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}

/// The lines of a documentation comment, without what sets them off from the code.
fn doc_lines(meta: &Meta) -> Vec<String> {
    let Meta::NameValue(pair) = meta else {
        return Vec::new();
    };
    let Expr::Lit(ExprLit {
        lit: Lit::Str(text),
        ..
    }) = &pair.value
    else {
        return Vec::new();
    };
    let text = text.value();
    let mut lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
    if let [first, rest @ ..] = lines.as_mut_slice() {
        *first = first.strip_prefix(' ').unwrap_or(first);
        // A comment between `/**` and `*/` may have a column of stars.
        strip_column(rest, &|line| line.trim_start().strip_prefix('*'));
        let written = rest.iter().filter(|line| !line.is_empty());
        let indents = written.map(|line| line.len() - line.trim_start().len());
        let common = indents.min().unwrap_or(0);
        strip_column(rest, &|line| line.get(common..));
    }
    lines.into_iter().map(str::to_owned).collect()
}

/// Takes the same off the beginning of every line, if every line has it. Empty lines stay.
fn strip_column(lines: &mut [&str], strip: &dyn for<'a> Fn(&'a str) -> Option<&'a str>) {
    let stripped: Option<Vec<_>> = lines
        .iter()
        .map(|line| {
            if line.is_empty() {
                Some(*line)
            } else {
                strip(line)
            }
        })
        .collect();
    if let Some(stripped) = stripped {
        lines.copy_from_slice(&stripped);
    }
}
