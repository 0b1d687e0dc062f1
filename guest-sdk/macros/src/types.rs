//! From the type of a parameter to the type of the value that travels.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{GenericArgument, PathArguments, ReturnType, Type, TypeParamBound};

use crate::input::Errors;

/// How a parameter receives its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// `T`
    Value,
    /// `T`, of a type that is copied: what it is taken from stays
    Copy,
    /// `&T`
    Reference,
}

/// What a function returns, or emits.
pub(crate) enum Output {
    /// A value; nothing counts as `()`
    Value(TokenStream),
    /// `Result<T, E>`
    Result(TokenStream, TokenStream),
}

/// The type of the items of a parameter of type `ty`, and how the parameter takes what emits them, if
/// it is one for that.
pub(crate) fn emitter(ty: &Type, errors: &mut Errors) -> Option<(TokenStream, Passing)> {
    let (ty, passing) = match peeled(ty) {
        Type::Reference(reference) => (peeled(&reference.elem), Passing::Reference),
        other => (other, Passing::Value),
    };
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last()?;
    if last.ident != "Emitter" {
        return None;
    }
    if let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let (Some(GenericArgument::Type(item)), 1) =
            (arguments.args.first(), arguments.args.len())
    {
        check(item, errors);
        return Some((item.to_token_stream(), passing));
    }
    errors.push(
        ty.span(),
        "the type of the items must be seen here: write `Emitter<T>`",
    );
    Some((quote!(()), passing))
}

/// The type that travels for a parameter of type `ty`, and how the parameter takes it.
pub(crate) fn parameter(ty: &Type, errors: &mut Errors) -> (TokenStream, Passing) {
    let Type::Reference(reference) = peeled(ty) else {
        match peeled(ty) {
            Type::Slice(_) => errors.leave_to_compiler(),
            other if is_str(other) => errors.leave_to_compiler(),
            other => check(other, errors),
        }
        let passing = match is_copied(peeled(ty)) {
            true => Passing::Copy,
            false => Passing::Value,
        };
        return (ty.to_token_stream(), passing);
    };
    if reference.mutability.is_some() {
        errors.push(
            ty.span(),
            "a callable has its own copy of each value, which its caller never sees change: take \
             the value itself, and return the changed one",
        );
        return (reference.elem.to_token_stream(), Passing::Reference);
    }
    if let Some(lifetime) = &reference.lifetime {
        errors.push(
            lifetime.span(),
            "a value lives as long as the run of its callable: write the reference without a \
             lifetime",
        );
    }
    let owned = match peeled(&reference.elem) {
        Type::Slice(slice) => {
            check(&slice.elem, errors);
            let element = &slice.elem;
            quote!(::std::vec::Vec<#element>)
        }
        elem if is_str(elem) => quote!(::std::string::String),
        elem => {
            check(elem, errors);
            elem.to_token_stream()
        }
    };
    (owned, Passing::Reference)
}

/// Whether a type is one of the language's own that are copied. A macro sees only the words; a type
/// of the same name that is not copied is an error of the compiler's.
fn is_copied(ty: &Type) -> bool {
    const COPIED: [&str; 16] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64", "bool", "char",
    ];
    let Type::Path(path) = ty else {
        return false;
    };
    let ident = path.path.get_ident().filter(|_| path.qself.is_none());
    ident.is_some_and(|ident| COPIED.iter().any(|name| ident == name))
}

/// What a function with this return type returns, and whether it is an iterator: then the items of
/// it count as what is returned.
pub(crate) fn output(ty: &ReturnType, errors: &mut Errors) -> (Output, bool) {
    let ReturnType::Type(_, ty) = ty else {
        return (Output::Value(quote!(())), false);
    };
    let ty = peeled(ty);
    if let Type::Never(never) = ty {
        errors.push(never.span(), "a callable returns");
    }
    if let Some(item) = items(ty, errors) {
        return (Output::Value(item), true);
    }
    if let Type::Path(path) = ty
        && path.qself.is_none()
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
    {
        if let PathArguments::AngleBracketed(arguments) = &last.arguments {
            let mut types = arguments.args.iter();
            if let (Some(GenericArgument::Type(ok)), Some(GenericArgument::Type(err)), None) =
                (types.next(), types.next(), types.next())
            {
                check(err, errors);
                let err = err.to_token_stream();
                if let Some(item) = items(ok, errors) {
                    return (Output::Result(item, err), true);
                }
                check(ok, errors);
                return (Output::Result(ok.to_token_stream(), err), false);
            }
        }
        errors.push(
            ty.span(),
            "the error's type must be seen here: write `Result<T, E>` with both types instead of \
             an alias",
        );
        return (Output::Value(ty.to_token_stream()), false);
    }
    check(ty, errors);
    (Output::Value(ty.to_token_stream()), false)
}

/// The type of the items, if `ty` is `impl Iterator`.
fn items(ty: &Type, errors: &mut Errors) -> Option<TokenStream> {
    let Type::ImplTrait(some) = peeled(ty) else {
        return None;
    };
    let iterator = some.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last()?;
            (last.ident == "Iterator").then_some(last)
        }
        _ => None,
    })?;
    if let PathArguments::AngleBracketed(arguments) = &iterator.arguments {
        let item = arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
            _ => None,
        });
        if let Some(item) = item {
            check(item, errors);
            return Some(item.to_token_stream());
        }
    }
    errors.push(
        iterator.span(),
        "the type of the items must be seen here: write `impl Iterator<Item = T>`",
    );
    Some(quote!(()))
}

/// Reports what no value can be made of. Whether the rest are values is the compiler's to say.
fn check(ty: &Type, errors: &mut Errors) {
    Owned { errors }.visit_type(ty);
}

struct Owned<'a> {
    errors: &'a mut Errors,
}

impl Visit<'_> for Owned<'_> {
    fn visit_type(&mut self, ty: &Type) {
        match ty {
            Type::Reference(_) => self.errors.push(
                ty.span(),
                "a reference cannot travel: only a parameter itself may be one, as `&T`, `&str` or \
                 `&[T]`",
            ),
            Type::ImplTrait(_) => {
                self.errors
                    .push(ty.span(), "a callable is not generic: name the type");
            }
            Type::TraitObject(_) => self.errors.push(
                ty.span(),
                "a trait object cannot travel: an enum of the types that it can be does",
            ),
            Type::Infer(_) => self.errors.leave_to_compiler(),
            Type::Ptr(_) => self.errors.push(ty.span(), "a pointer cannot travel"),
            _ => visit::visit_type(self, ty),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &syn::Lifetime) {
        if lifetime.ident != "static" {
            self.errors.push(
                lifetime.span(),
                "a type that borrows cannot travel: own the value",
            );
        }
    }
}

/// `ty` without the parentheses and the invisible groups that `macro_rules!` leave.
fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peeled(&group.elem),
        Type::Paren(paren) => peeled(&paren.elem),
        other => other,
    }
}

fn is_str(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.qself.is_none() && path.path.is_ident("str"))
}
