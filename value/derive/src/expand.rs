//! The code that the derive writes.

mod read;
mod write;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::visit::{self, Visit};
use syn::{DeriveInput, GenericParam, Generics, Ident, Type, TypePath, parse_quote};

use crate::attributes::Errors;
use crate::input::{Input, Parts, Shape};
use crate::krate;

/// The implementations for an item, or the errors in it.
pub(crate) fn derive(item: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let input = Input::read(item, &mut errors);
    let krate = match &input.krate {
        Some(path) => path.to_token_stream(),
        None => krate::path(),
    };
    let value = quote!(#krate::Value);
    let private = quote!(#krate::__private);
    let expansion = Expansion {
        item,
        input: &input,
        krate,
        value,
        private,
    };
    let is_hopeless = errors.is_hopeless();
    match errors.into_compile_errors() {
        None => expansion.implementations(),
        Some(errors) if is_hopeless => errors,
        // The traits are implemented all the same, so that uses of the type are not errors too.
        Some(errors) => {
            let stubs = expansion.stubs();
            quote!(#errors #stubs)
        }
    }
}

struct Expansion<'a> {
    item: &'a DeriveInput,
    input: &'a Input,
    krate: TokenStream,
    /// The trait
    value: TokenStream,
    /// The module of helpers
    private: TokenStream,
}

impl Expansion<'_> {
    fn implementations(&self) -> TokenStream {
        let describe = self.describe();
        let serialize = self.serialize();
        let (deserialize, helpers) = self.deserialize();
        self.with_serde(&describe, &serialize, &deserialize, &helpers)
    }

    fn stubs(&self) -> TokenStream {
        let stub = quote!(::core::unreachable!());
        self.with_serde(&stub, &stub, &stub, &TokenStream::new())
    }

    fn with_serde(
        &self,
        describe: &TokenStream,
        serialize: &TokenStream,
        deserialize: &TokenStream,
        helpers: &TokenStream,
    ) -> TokenStream {
        let Self {
            krate,
            value,
            private,
            ..
        } = self;
        let ident = &self.item.ident;
        let generics = self.generics();
        let (bounded, arguments, clause) = generics.split_for_impl();
        let mut with_lifetime = generics.clone();
        with_lifetime.params.insert(0, parse_quote!('__de));
        let (bounded_de, _, _) = with_lifetime.split_for_impl();
        quote! {
            #[automatically_derived]
            #[allow(deprecated, unused_variables, clippy::all, clippy::pedantic)]
            const _: () = {
                impl #bounded #value for #ident #arguments #clause {
                    fn describe(__types: &mut #krate::Describer) -> #krate::Type {
                        #describe
                    }

                    fn serialize_value<__S: #private::serde::Serializer>(
                        &self,
                        __serializer: __S,
                    ) -> ::core::result::Result<__S::Ok, __S::Error> {
                        #serialize
                    }

                    fn deserialize_value<'__de, __D: #private::serde::Deserializer<'__de>>(
                        __deserializer: __D,
                    ) -> ::core::result::Result<Self, __D::Error> {
                        #deserialize
                    }
                }

                #helpers

                impl #bounded #private::serde::Serialize for #ident #arguments #clause {
                    fn serialize<__S: #private::serde::Serializer>(
                        &self,
                        __serializer: __S,
                    ) -> ::core::result::Result<__S::Ok, __S::Error> {
                        #value::serialize_value(self, __serializer)
                    }
                }

                impl #bounded_de #private::serde::Deserialize<'__de> for #ident #arguments #clause {
                    fn deserialize<__D: #private::serde::Deserializer<'__de>>(
                        __deserializer: __D,
                    ) -> ::core::result::Result<Self, __D::Error> {
                        #value::deserialize_value(__deserializer)
                    }
                }
            };
        }
    }

    /// The item's generics, with every type parameter, and every type that a field takes from one,
    /// a value.
    fn generics(&self) -> Generics {
        let value = &self.value;
        let mut generics = self.item.generics.clone();
        let mut parameters = Vec::new();
        for parameter in &mut generics.params {
            if let GenericParam::Type(parameter) = parameter {
                parameter.bounds.push(parse_quote!(#value));
                parameter.default = None;
                parameters.push(parameter.ident.clone());
            }
        }
        let mut associated = Associated {
            parameters,
            found: Vec::new(),
        };
        for parts in self.all_parts() {
            for field in &parts.fields {
                associated.visit_type(&field.ty);
            }
        }
        if !associated.found.is_empty() {
            let predicates = &mut generics.make_where_clause().predicates;
            for ty in associated.found {
                predicates.push(parse_quote!(#ty: #value));
            }
        }
        generics
    }

    fn all_parts(&self) -> Vec<&Parts> {
        match &self.input.shape {
            Shape::Struct(parts) => vec![parts],
            Shape::Enum(variants) => variants.iter().map(|variant| &variant.parts).collect(),
        }
    }
}

/// Finds types such as `T::Item`, where `T` is a type parameter.
struct Associated {
    parameters: Vec<Ident>,
    found: Vec<Type>,
}

impl<'ast> Visit<'ast> for Associated {
    fn visit_type_path(&mut self, path: &'ast TypePath) {
        let mut segments = path.path.segments.iter();
        let of_parameter = match &path.qself {
            Some(_) => true,
            None => segments
                .next()
                .is_some_and(|first| self.parameters.contains(&first.ident)),
        };
        if of_parameter && (path.qself.is_some() || segments.next().is_some()) {
            let ty = Type::Path(path.clone());
            if !self.found.contains(&ty) {
                self.found.push(ty);
            }
        }
        visit::visit_type_path(self, path);
    }
}
