//! Writes what `#[init]` and `#[restored]` expand to.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{ItemFn, ReturnType, Type};

use crate::input::{self, Errors};
use crate::options;

/// The item, and its export as the one of this attribute or what is wrong with it.
pub(crate) fn expand(attribute: &str, options: TokenStream, item: TokenStream) -> TokenStream {
    let item = match input::function(attribute, item) {
        Ok(item) => item,
        Err(tokens) => return tokens,
    };
    let mut errors = Errors::default();
    if !options.is_empty() {
        errors.push(options.span(), &format!("`#[{attribute}]` has no options"));
    }
    check(attribute, &item, &mut errors);
    let function = &item.sig.ident;
    let export = format!(
        "spore1:{attribute}/{}::{}",
        options::crate_name(&mut errors),
        function.unraw(),
    );
    let made = errors.into_compile_errors().unwrap_or_else(|| {
        let cfgs = input::cfgs(&item);
        quote! {
            // It counts as used where nothing exports it.
            #(#cfgs)*
            const _: fn() = #function;

            #(#cfgs)*
            #[cfg(target_family = "wasm")]
            const _: () = {
                #[unsafe(export_name = #export)]
                extern "C" fn __spore_hook() {
                    ::spore_guest::__rt::hook(#function)
                }
            };
        }
    });
    quote!(#item #made)
}

/// Reports all that the host could not call as `() → ()`.
fn check(attribute: &str, item: &ItemFn, errors: &mut Errors) {
    let signature = &item.sig;
    let nothing = |what: &str| format!("a function with `#[{attribute}]` {what}");
    if let Some(token) = &signature.asyncness {
        let message = nothing("runs to its end, with nobody to stop it: remove the `async`");
        errors.push(token.span(), &message);
    }
    if let Some(token) = &signature.unsafety {
        errors.push(token.span(), &nothing("is safe to call: the host calls it"));
    }
    if let Some(abi) = &signature.abi {
        let message = nothing("is an ordinary Rust function: remove the `extern`");
        errors.push(abi.span(), &message);
    }
    if !signature.generics.params.is_empty() {
        errors.push(signature.generics.params.span(), &nothing("is not generic"));
    }
    if !signature.inputs.is_empty() {
        let message = nothing("takes nothing: nobody is there to pass it");
        errors.push(signature.inputs.span(), &message);
    }
    let returns_nothing = match &signature.output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => {
            matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty())
        }
    };
    if !returns_nothing {
        let message = nothing("returns nothing: nobody looks at it, and a failure is a panic");
        errors.push(signature.output.span(), &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initialiser_is_exported_under_its_name() {
        let item = quote! {
            #[cfg(feature = "prices")]
            fn parse() {}
        };
        let made = expand("init", TokenStream::new(), item);
        let golden = include_str!("../tests/golden/init.rs");
        let golden: TokenStream = golden.parse().expect("the golden file has sound tokens");
        assert_eq!(made.to_string(), golden.to_string());
    }
}
