//! What stands in the parentheses of `#[callable(…)]`.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit, LitStr, Meta, Token};

use crate::input::Errors;

/// The options of one callable.
#[derive(Default)]
pub(crate) struct Options {
    /// What follows the crate's name, in place of the function's
    pub(crate) name: Option<String>,
    /// Names of the directories asked for, in the order written
    pub(crate) directories: Vec<String>,
}

/// Longest name of a directory, in bytes, as manifests allow it.
const DIRECTORY_BYTES_MAX: usize = 256;

/// Reads the options, and reports each that is wrong at its own place.
pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Options {
    let mut options = Options::default();
    let metas = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(metas) => metas,
        Err(error) => {
            errors.combine(error);
            return options;
        }
    };
    for meta in metas {
        let known = ["name", "directory"]
            .into_iter()
            .find(|name| meta.path().is_ident(name));
        match (known, text(&meta)) {
            (None, _) => errors.push(
                meta.path().span(),
                "unknown option; there are `name = \"…\"` and `directory = \"…\"`",
            ),
            (Some(known), None) => {
                errors.push(
                    meta.span(),
                    &format!("this option is written `{known} = \"…\"`"),
                );
            }
            (Some("name"), Some(text)) => name(&mut options, &text, errors),
            (Some(_), Some(text)) => directory(&mut options, &text, errors),
        }
    }
    options
}

fn name(options: &mut Options, text: &LitStr, errors: &mut Errors) {
    let value = text.value();
    if !value.split("::").all(is_identifier) {
        errors.push(
            text.span(),
            "a name is made of identifiers with `::` between them",
        );
    }
    if options.name.replace(value).is_some() {
        errors.push(text.span(), "the name is already given");
    }
}

fn directory(options: &mut Options, text: &LitStr, errors: &mut Errors) {
    let value = text.value();
    if !is_plain_name(&value) {
        errors.push(
            text.span(),
            &format!(
                "a directory's name is 1 to {DIRECTORY_BYTES_MAX} of the characters a-z, A-Z, \
                 0-9, `-`, `_` and `.`, and begins with no `.`"
            ),
        );
    }
    if options.directories.contains(&value) {
        errors.push(text.span(), "this directory is already asked for");
    }
    options.directories.push(value);
}

/// The rule for names in manifests, which a packer would enforce later and without a span.
fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=DIRECTORY_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(allowed)
}

fn text(meta: &Meta) -> Option<LitStr> {
    match meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_identifier(part: &str) -> bool {
    let mut chars = part.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name of the crate that is being compiled.
pub(crate) fn crate_name(errors: &mut Errors) -> String {
    let name = std::env::var("CARGO_CRATE_NAME")
        .or_else(|_| std::env::var("CARGO_PKG_NAME").map(|name| name.replace('-', "_")));
    name.unwrap_or_else(|_| {
        errors.push(
            Span::call_site(),
            "the crate's name is part of the callable's, and cargo has not said it: compile with \
             cargo, or set CARGO_CRATE_NAME",
        );
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One side of the table of names in the document of the format: the plain ones or the others.
    fn names(column: usize) -> impl Iterator<Item = &'static str> {
        let document = include_str!("../../../docs/FORMAT.md");
        let head = "| plain names | none |\n| --- | --- |\n";
        let (_, rows) = document.split_once(head).expect("the table exists");
        let row = rows.lines().next().expect("it has a row");
        let cell = row.split(" | ").nth(column).expect("of two cells");
        cell.split('`').skip(1).step_by(2)
    }

    fn is_taken(name: &str) -> bool {
        let mut errors = Errors::default();
        let options = parse(quote::quote!(directory = #name), &mut errors);
        assert_eq!(options.directories, [name]);
        errors.into_compile_errors().is_none()
    }

    #[test]
    fn directories_have_plain_names() {
        for name in names(0) {
            assert!(is_taken(name), "{name}");
        }
        for name in names(1) {
            assert!(!is_taken(name), "{name}");
        }
        let longest = "a".repeat(DIRECTORY_BYTES_MAX);
        assert!(is_taken(&longest));
        assert!(!is_taken(&format!("{longest}a")));
        assert!(!is_taken(""));
        let limit = format!("has at most\n  {DIRECTORY_BYTES_MAX} bytes.");
        assert!(include_str!("../../../docs/FORMAT.md").contains(&limit));
    }
}
