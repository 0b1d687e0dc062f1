//! Reads the function that `#[callable]` stands on.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, FnArg, ItemFn, Lit, Meta, Pat, PatType, Visibility};

use crate::options::{self, Options};
use crate::types::{self, Output, Passing};

/// Most captures, and most other parameters, of one callable, as manifests allow them.
pub(crate) const PARAMETERS_MAX: usize = 256;

/// What is wrong with one item; each error keeps its place.
#[derive(Default)]
pub(crate) struct Errors {
    found: Option<syn::Error>,
    left_to_compiler: bool,
}

impl Errors {
    pub(crate) fn push(&mut self, span: Span, message: &str) {
        self.combine(syn::Error::new(span, message));
    }

    pub(crate) fn combine(&mut self, error: syn::Error) {
        match &mut self.found {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    /// Notes a mistake in the item itself, of which the compiler tells.
    pub(crate) fn leave_to_compiler(&mut self) {
        self.left_to_compiler = true;
    }

    /// What to put beside the item instead of an expansion, when anything is wrong with it.
    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        match self.found {
            Some(error) => Some(error.to_compile_error()),
            None => self.left_to_compiler.then(TokenStream::new),
        }
    }
}

/// A function that can be exported.
pub(crate) struct Callable {
    /// Crate-qualified
    pub(crate) name: String,
    /// Lines of the documentation comment: literals, or macros that become them
    pub(crate) docs: Vec<Expr>,
    /// Captures and parameters in the order of the function's
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Output,
    pub(crate) kind: Kind,
    pub(crate) directories: Vec<String>,
    /// `#[cfg(…)]` on the function, which hold for all that is made of it
    pub(crate) cfgs: Vec<Attribute>,
}

/// One capture or parameter.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// The type of the value
    pub(crate) ty: TokenStream,
    pub(crate) passing: Passing,
    pub(crate) role: Role,
}

/// Where the value of a parameter comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Capture,
    Argument,
    /// The executor: it is what emits items of the type
    Emitter,
}

/// How a callable runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To its end
    Plain,
    /// As a future
    Resumable,
    /// As a future that emits the output
    Emitting,
    /// It returns an iterator of the output
    Iterating,
}

impl Callable {
    /// Reads `item`, and takes off it the attributes that only this macro knows.
    pub(crate) fn read(tokens: TokenStream, item: &mut ItemFn, errors: &mut Errors) -> Self {
        let Options { name, directories } = options::parse(tokens, errors);
        refuse_qualifiers(item, errors);
        let parameters: Vec<_> = item
            .sig
            .inputs
            .iter_mut()
            .filter_map(|input| parameter(input, errors))
            .collect();
        let count = |role| {
            let of_role = parameters.iter().filter(|parameter| parameter.role == role);
            of_role.count()
        };
        for (count, what) in [
            (count(Role::Capture), "captures"),
            (count(Role::Argument), "parameters"),
        ] {
            if count > PARAMETERS_MAX {
                errors.push(
                    item.sig.inputs.span(),
                    &format!(
                        "a callable has at most {PARAMETERS_MAX} {what}, and this one {count}: \
                         put some of them in a struct that derives `Value`"
                    ),
                );
            }
        }
        let (kind, output) = kind(item, &parameters, errors);
        let function = name.unwrap_or_else(|| {
            let name = item.sig.ident.unraw().to_string();
            if !name.is_ascii() {
                errors.push(
                    item.sig.ident.span(),
                    "names of callables are ASCII: give this one with `name = \"…\"`",
                );
            }
            name
        });
        Self {
            name: format!("{}::{function}", options::crate_name(errors)),
            docs: item.attrs.iter().filter_map(doc).collect(),
            parameters,
            output,
            kind,
            directories,
            cfgs: cfgs(item),
        }
    }

    /// Whether a run takes a capture by value, and leaves nothing of it.
    pub(crate) fn consumes_captures(&self) -> bool {
        self.captures()
            .any(|capture| capture.passing == Passing::Value)
    }

    pub(crate) fn captures(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters
            .iter()
            .filter(|parameter| parameter.role == Role::Capture)
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters
            .iter()
            .filter(|parameter| parameter.role == Role::Argument)
    }
}

/// How the callable runs, and what it returns or emits.
fn kind(item: &ItemFn, parameters: &[Parameter], errors: &mut Errors) -> (Kind, Output) {
    let signature = &item.sig;
    let (output, iterates) = types::output(&signature.output, errors);
    let is_async = signature.asyncness.is_some();
    let mut emitters = parameters
        .iter()
        .filter(|parameter| parameter.role == Role::Emitter);
    let Some(emitter) = emitters.next() else {
        if iterates && is_async {
            errors.push(
                signature.output.span(),
                "an async callable emits its items: take an `Emitter<T>` and return nothing, or \
                 remove the `async`",
            );
        }
        let kind = match (is_async, iterates) {
            (_, true) => Kind::Iterating,
            (true, false) => Kind::Resumable,
            (false, false) => Kind::Plain,
        };
        return (kind, output);
    };
    if emitters.next().is_some() {
        errors.push(
            signature.inputs.span(),
            "a callable has one stream of items, and one `Emitter`: emit values of an enum",
        );
    }
    if !is_async {
        errors.push(
            signature.fn_token.span(),
            "a callable that emits waits for its items to be taken: write `async fn`, or return \
             `impl Iterator<Item = T>`",
        );
    }
    let item = emitter.ty.clone();
    let (returned, output) = match output {
        Output::Value(ty) => (ty, Output::Value(item)),
        Output::Result(ok, err) => (ok, Output::Result(item, err)),
    };
    if iterates || returned.to_string() != "()" {
        errors.push(
            signature.output.span(),
            "a callable that emits items returns nothing beside them: `()` or `Result<(), E>`",
        );
    }
    (Kind::Emitting, output)
}

/// The `#[cfg(…)]` on a function.
pub(crate) fn cfgs(item: &ItemFn) -> Vec<Attribute> {
    let attributes = item.attrs.iter();
    attributes
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .cloned()
        .collect()
}

fn refuse_qualifiers(item: &ItemFn, errors: &mut Errors) {
    let signature = &item.sig;
    if !matches!(item.vis, Visibility::Public(_)) {
        errors.push(
            signature.fn_token.span(),
            "a callable is `pub`: others are to call it",
        );
    }
    if let Some(token) = &signature.unsafety {
        errors.push(
            token.span(),
            "a callable is safe to call: any caller may call it",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.push(
            abi.span(),
            "a callable is an ordinary Rust function: remove the `extern`",
        );
    }
    if let Some(variadic) = &signature.variadic {
        errors.push(
            variadic.span(),
            "a callable has a fixed number of parameters",
        );
    }
    if !signature.generics.params.is_empty() {
        errors.push(
            signature.generics.params.span(),
            "a callable is not generic: the types of its values are fixed when it is compiled",
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        errors.push(
            clause.span(),
            "a callable is not generic: remove the `where`",
        );
    }
}

fn parameter(input: &mut FnArg, errors: &mut Errors) -> Option<Parameter> {
    let input = match input {
        FnArg::Receiver(receiver) => {
            errors.push(
                receiver.span(),
                "a callable is a free function: it has no `self`",
            );
            return None;
        }
        FnArg::Typed(input) => input,
    };
    let captured = take_capture(input, errors);
    for attribute in &input.attrs {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            errors.push(
                attribute.span(),
                "what a callable takes is the same for every build: put the `cfg` on the function",
            );
        }
    }
    let (role, (ty, passing)) = match types::emitter(&input.ty, errors) {
        Some(emitter) => (Role::Emitter, emitter),
        None if captured => (Role::Capture, types::parameter(&input.ty, errors)),
        None => (Role::Argument, types::parameter(&input.ty, errors)),
    };
    if role == Role::Emitter && captured {
        errors.push(
            input.ty.span(),
            "an emitter is no value, and nobody can capture it: remove the `#[capture]`",
        );
    }
    let name = match &*input.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            pattern.ident.unraw().to_string()
        }
        pattern => {
            errors.push(
                pattern.span(),
                "callers see the name of each parameter: give this one a plain name, and take it \
                 apart in the body",
            );
            return None;
        }
    };
    Some(Parameter {
        name,
        ty,
        passing,
        role,
    })
}

/// Removes `#[capture]` from a parameter. Returns whether it was there.
fn take_capture(input: &mut PatType, errors: &mut Errors) -> bool {
    let mut captured = false;
    input.attrs.retain(|attribute| {
        if !attribute.path().is_ident("capture") {
            return true;
        }
        if captured {
            errors.push(attribute.span(), "this parameter is already a capture");
        }
        if !matches!(attribute.meta, Meta::Path(_)) {
            errors.push(attribute.meta.span(), "`#[capture]` has no options");
        }
        captured = true;
        false
    });
    captured
}

/// The text of a `#[doc = …]`, without the blank that follows `///`.
fn doc(attribute: &Attribute) -> Option<Expr> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    if !pair.path.is_ident("doc") {
        return None;
    }
    let mut value = pair.value.clone();
    if let Expr::Lit(ExprLit {
        lit: Lit::Str(line),
        ..
    }) = &mut value
    {
        let text = line.value();
        let text = text.strip_prefix(' ').unwrap_or(&text);
        *line = syn::LitStr::new(text, line.span());
    }
    Some(value)
}

/// Parses the item that `#[attribute]` stands on. One that is no function is given back with an error.
pub(crate) fn function(attribute: &str, item: TokenStream) -> Result<ItemFn, TokenStream> {
    syn::parse2::<ItemFn>(item.clone()).map_err(|error| {
        let error = match syn::parse2::<syn::Item>(item.clone()) {
            // It is an item of another kind; the parser would only say `expected fn`.
            Ok(other) => {
                let start = other.to_token_stream().into_iter().next();
                let span = start.map_or_else(Span::call_site, |token| token.span());
                syn::Error::new(span, format!("`#[{attribute}]` stands on a function"))
            }
            Err(_) => error,
        };
        let error = error.to_compile_error();
        quote::quote!(#item #error)
    })
}
