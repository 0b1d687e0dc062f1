//! Writes what `#[callable]` expands to.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Index, ItemFn};

use crate::input::{self, Callable, Errors, Kind, Parameter, Role};
use crate::types::{Output, Passing};

/// The item, and all that is made of it or what is wrong with it.
pub(crate) fn callable(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = match input::function("callable", item) {
        Ok(item) => item,
        Err(tokens) => return tokens,
    };
    let mut errors = Errors::default();
    let callable = Callable::read(options, &mut item, &mut errors);
    // The item is there in any case: without it each use of it would be one more error.
    let made = errors.into_compile_errors().unwrap_or_else(|| {
        let exports = exports(&callable, &item.sig.ident);
        let handle = handle(&callable, &item);
        quote!(#exports #handle)
    });
    quote!(#item #made)
}

/// The exports of a guest.
fn exports(callable: &Callable, function: &Ident) -> TokenStream {
    let Callable { name, cfgs, .. } = callable;
    let bind_name = format!("spore1:bind/{name}");
    let start_name = format!("spore1:start/{name}");
    let describe_name = format!("spore1:describe/{name}");
    let captures = tuple(callable.captures());

    let bind = if callable.consumes_captures() {
        quote!(bind_consuming)
    } else {
        quote!(bind)
    };
    let start = match callable.kind {
        Kind::Plain => start(callable, function),
        Kind::Resumable | Kind::Emitting | Kind::Iterating => start_future(callable, function),
    };
    let description = description(callable);

    quote! {
        #(#cfgs)*
        #[cfg(target_family = "wasm")]
        #[allow(deprecated)]
        const _: () = {
            #[unsafe(export_name = #bind_name)]
            extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
                ::spore_guest::__rt::#bind::<#captures>(_ptr, _len)
            }

            #[unsafe(export_name = #start_name)]
            extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
                #start
            }

            #[unsafe(export_name = #describe_name)]
            extern "C" fn __spore_describe() -> u32 {
                ::spore_guest::__rt::describe(#description)
            }
        };
    }
}

/// What makes a task of a run to the end.
fn start(callable: &Callable, function: &Ident) -> TokenStream {
    let (captures, arguments) = (tuple(callable.captures()), tuple(callable.arguments()));
    let (start, reference) = if callable.consumes_captures() {
        (quote!(start_consuming), quote!())
    } else {
        (quote!(start), quote!(&))
    };
    let (passed, outcome) = (passed(callable), outcome(callable));
    quote! {
        ::spore_guest::__rt::#start::<#captures, #arguments>(
            _handle,
            _ptr,
            _len,
            |_captures: #reference #captures, _arguments: #arguments| {
                ::spore_guest::__rt::Outcome::#outcome(#function(#(#passed),*))
            },
        )
    }
}

/// What makes a task of a future. The future owns captures and arguments, so that the function may
/// borrow from both while it is suspended.
fn start_future(callable: &Callable, function: &Ident) -> TokenStream {
    let (captures, arguments) = (tuple(callable.captures()), tuple(callable.arguments()));
    let lent = if callable.consumes_captures() {
        quote!(consumed)
    } else {
        quote!(lent)
    };
    let (passed, outcome) = (passed(callable), outcome(callable));
    let call = quote!(#function(#(#passed),*));
    let output = match (callable.kind, &callable.output) {
        (Kind::Iterating, Output::Value(_)) => {
            quote!(::spore_guest::__rt::emit_all(#call, &_items))
        }
        (Kind::Iterating, Output::Result(..)) => {
            quote!(::spore_guest::__rt::emit_all_of(#call, &_items))
        }
        _ => call,
    };
    let future = quote! {
        async move { ::spore_guest::__rt::Outcome::#outcome(#output.await) }
    };
    let task = match (callable.kind, &callable.output) {
        (Kind::Emitting | Kind::Iterating, Output::Value(item) | Output::Result(item, _)) => {
            quote!(::spore_guest::__rt::streaming::<#item, _>(|_items| #future))
        }
        _ => quote!(::spore_guest::__rt::resumable(#future)),
    };
    quote! {
        let _captures = ::spore_guest::__rt::#lent::<#captures>(_handle);
        let _arguments = ::spore_guest::__rt::arguments::<#arguments>(_ptr, _len);
        #task
    }
}

/// What makes an outcome of what the function returns.
fn outcome(callable: &Callable) -> TokenStream {
    match callable.output {
        Output::Value(_) => quote!(of_value),
        Output::Result(..) => quote!(of_result),
    }
}

/// The typed handle of native programs, in a module with the function's name.
///
/// The handle is made beside the function and only named in the module, since `self::` and
/// `super::` in the types mean something else inside it.
fn handle(callable: &Callable, item: &ItemFn) -> TokenStream {
    let Callable { name, cfgs, .. } = callable;
    let function = &item.sig.ident;
    let made = format_ident!("__spore_handle_{}", function.unraw());
    let captures: Vec<_> = callable.captures().map(|capture| &capture.ty).collect();
    let captures = match captures.as_slice() {
        [] => quote!(::spore_guest::NoCaptures),
        [one] => quote!(#one),
        _ => tuple(callable.captures()),
    };
    let arguments = tuple(callable.arguments());
    let (returns, error) = match &callable.output {
        Output::Value(ty) => (quote!(#ty), quote!(::core::convert::Infallible)),
        Output::Result(ok, err) => (quote!(#ok), quote!(#err)),
    };
    let kind = match callable.kind {
        Kind::Plain => quote!(),
        Kind::Resumable => quote!(, ::spore_guest::Resumable),
        Kind::Emitting | Kind::Iterating => quote!(, ::spore_guest::Streaming),
    };
    let description = description(callable);
    let module_docs = format!("The handle of [`{name}`](fn@{function}), for native programs.");
    let handle_docs = format!("`{name}` with its types.");
    let visibility = &item.vis;
    quote! {
        #(#cfgs)*
        #[cfg(not(target_family = "wasm"))]
        #[doc(hidden)]
        #[allow(non_camel_case_types, clippy::type_complexity)]
        type #made = ::spore_guest::Handle<#captures, #arguments, #returns, #error #kind>;

        #(#cfgs)*
        #[cfg(not(target_family = "wasm"))]
        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        const #made: #made = ::spore_guest::Handle::new(#name, || { #description });

        #(#cfgs)*
        #[cfg(not(target_family = "wasm"))]
        #[doc = #module_docs]
        #visibility mod #function {
            #[doc = #handle_docs]
            pub const HANDLE: super::#made = super::#made;
        }
    }
}

/// An expression that makes the callable's description.
fn description(callable: &Callable) -> TokenStream {
    let name = &callable.name;
    let docs = docs(callable);
    let captures = callable
        .captures()
        .map(|Parameter { name, ty, .. }| quote!(.capture::<#ty>(#name)));
    let parameters = callable
        .arguments()
        .map(|Parameter { name, ty, .. }| quote!(.parameter::<#ty>(#name)));
    let consumes = callable
        .consumes_captures()
        .then(|| quote!(.consumes_captures()));
    let kind = match callable.kind {
        Kind::Plain => quote!(),
        Kind::Resumable => quote!(.resumable()),
        Kind::Emitting | Kind::Iterating => quote!(.resumable().streams()),
    };
    let directories = callable
        .directories
        .iter()
        .map(|name| quote!(.directory(#name)));
    let returns = match &callable.output {
        Output::Value(ty) => quote!(.returns::<#ty>()),
        Output::Result(ok, err) => quote!(.returns_result::<#ok, #err>()),
    };
    quote! {
        ::spore_guest::__rt::Describing::new(#name, #docs)
            #(#captures)*
            #(#parameters)*
            #consumes
            #kind
            #(#directories)*
            #returns
    }
}

/// The documentation comment as one string.
fn docs(callable: &Callable) -> TokenStream {
    let lines = &callable.docs;
    match lines.split_first() {
        None => quote!(""),
        Some((first, rest)) => quote!(::core::concat!(#first #(, "\n", #rest)*)),
    }
}

/// What the function is called with, from the tuples `_captures` and `_arguments`, and `_items`.
fn passed(callable: &Callable) -> Vec<TokenStream> {
    let (mut captures, mut arguments) = (0, 0);
    let captures_count = callable.captures().count();
    let arguments_count = callable.arguments().count();
    callable
        .parameters
        .iter()
        .map(|parameter| {
            let (tuple, next, count) = match parameter.role {
                Role::Capture => (quote!(_captures), &mut captures, captures_count),
                Role::Argument => (quote!(_arguments), &mut arguments, arguments_count),
                Role::Emitter => {
                    return match parameter.passing {
                        Passing::Value | Passing::Copy => quote!(_items),
                        Passing::Reference => quote!(&_items),
                    };
                }
            };
            let member = member(*next, count);
            *next += 1;
            match parameter.passing {
                Passing::Value | Passing::Copy => quote!(#tuple.#member),
                Passing::Reference => quote!(&#tuple.#member),
            }
        })
        .collect()
}

/// Most members of a tuple that is a value.
const TUPLE_MAX: usize = 32;

/// The type of these parameters' values together: their tuple or, where that would have too many
/// members, a tuple of tuples of [`TUPLE_MAX`] and of the rest. Bytes have no trace of tuples.
fn tuple<'a>(parameters: impl Iterator<Item = &'a Parameter>) -> TokenStream {
    let types: Vec<_> = parameters.map(|parameter| &parameter.ty).collect();
    if types.len() <= TUPLE_MAX {
        return quote!((#(#types,)*));
    }
    let parts = types.chunks(TUPLE_MAX).map(|part| quote!((#(#part,)*)));
    quote!((#(#parts,)*))
}

/// Where in that tuple, of `count` values, the value at `index` is.
fn member(index: usize, count: usize) -> TokenStream {
    if count <= TUPLE_MAX {
        return Index::from(index).to_token_stream();
    }
    let (part, index) = (
        Index::from(index / TUPLE_MAX),
        Index::from(index % TUPLE_MAX),
    );
    quote!(#part.#index)
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;

    use super::TUPLE_MAX;
    use crate::input::PARAMETERS_MAX;

    /// Expands `source`, and compares token by token with what the golden file has.
    fn check(options: &str, source: &str, golden: &str) {
        let parse = |text: &str| {
            text.parse::<TokenStream>()
                .expect("the test has sound tokens")
        };
        let made = super::callable(parse(options), parse(source));
        syn::parse2::<syn::File>(made.clone()).expect("an expansion is made of items");
        let (made, golden) = (normal(made), normal(parse(golden)));
        if made != golden {
            let same = made
                .bytes()
                .zip(golden.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            panic!(
                "the expansion differs from the golden file\nmade:   … {}\ngolden: … {}",
                &made[made.floor_char_boundary(same.saturating_sub(40))..],
                &golden[golden.floor_char_boundary(same.saturating_sub(40))..],
            );
        }
    }

    /// The tokens as text, without blanks and the commas before a closing delimiter: the golden
    /// files are formatted, and rustfmt adds and removes those.
    fn normal(tokens: TokenStream) -> String {
        let text = tokens.to_string().replace([' ', '\n'], "");
        [",)", ",>"]
            .iter()
            .fold(text, |text, end| text.replace(end, &end[1..]))
    }

    #[test]
    fn a_capture_by_value() {
        check(
            "",
            "/// `x` times the captured factor.
            pub fn scale(#[capture] factor: Factor, x: f64) -> f64 { factor.of(x) }",
            include_str!("../tests/golden/capture_by_value.rs"),
        );
    }

    #[test]
    fn a_capture_that_is_copied() {
        check(
            "",
            "/// `x` times the captured factor.
            pub fn scale(#[capture] factor: f64, x: f64) -> f64 { factor * x }",
            include_str!("../tests/golden/capture_copied.rs"),
        );
    }

    #[test]
    fn everything_by_reference() {
        check(
            "name = \"prices::mean\", directory = \"data\", directory = \"more\"",
            "/// The mean price
            #[doc = include_str!(\"mean.md\")]
            #[cfg(feature = \"prices\")]
            pub fn mean(
                days: &[u32],
                #[capture] book: &super::Book,
                market: &str,
                #[capture] rates: &Vec<f64>,
            ) -> Result<f64, self::Missing> { todo!() }",
            include_str!("../tests/golden/references.rs"),
        );
    }

    /// A function of so many captures by reference and as many other parameters.
    fn function(count: usize) -> String {
        let captures = (0..count).map(|index| format!("#[capture] c{index}: &u8, "));
        let parameters = (0..count).map(|index| format!("p{index}: u16, "));
        let all: String = captures.chain(parameters).collect();
        format!("pub fn many({all}) {{}}")
    }

    #[test]
    fn more_than_a_tuple_has_are_a_tuple_of_tuples() {
        let made = |count: usize| {
            let tokens = function(count).parse().expect("sound tokens");
            normal(super::callable(TokenStream::new(), tokens))
        };
        let flat = made(TUPLE_MAX);
        let types = format!("({})", vec!["u16"; TUPLE_MAX].join(","));
        assert!(flat.contains(&types), "{flat}");
        assert!(flat.contains("&_captures.31,_arguments.0,"), "{flat}");

        let nested = made(TUPLE_MAX + 1);
        assert!(nested.contains(&format!("({types},(u16))")), "{nested}");
        assert!(
            nested.contains("&_captures.0.31,&_captures.1.0,"),
            "{nested}"
        );
        assert!(
            nested.contains("_arguments.0.31,_arguments.1.0)"),
            "{nested}"
        );
    }

    #[test]
    fn as_many_as_a_manifest_holds_and_no_more() {
        let row = format!("| captures, parameters of a callable | {PARAMETERS_MAX} each,");
        assert!(include_str!("../../../docs/FORMAT.md").contains(&row));
        let made = |count: usize| {
            let tokens = function(count).parse().expect("sound tokens");
            super::callable(TokenStream::new(), tokens).to_string()
        };
        assert!(!made(PARAMETERS_MAX).contains("compile_error"));
        let refused = made(PARAMETERS_MAX + 1);
        for what in [
            "256 captures, and this one 257",
            "256 parameters, and this one 257",
        ] {
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn a_future_that_borrows_captures() {
        check(
            "",
            "pub async fn wait(#[capture] book: &Book, days: u32) -> Result<f64, Missing> { todo!() }",
            include_str!("../tests/golden/future.rs"),
        );
    }

    #[test]
    fn a_future_that_emits() {
        check(
            "",
            "pub async fn count(#[capture] from: u64, items: &Emitter<u64>) { todo!() }",
            include_str!("../tests/golden/emitter.rs"),
        );
    }

    #[test]
    fn an_iterator_or_an_error() {
        check(
            "",
            "pub fn digits(text: &str) -> Result<impl Iterator<Item = u32>, String> { todo!() }",
            include_str!("../tests/golden/iterator.rs"),
        );
    }

    #[test]
    fn nothing_at_all() {
        check(
            "",
            "pub fn ping() {}",
            include_str!("../tests/golden/nothing.rs"),
        );
    }
}
