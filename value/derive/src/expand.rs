//! The code that the derive writes.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::visit::{self, Visit};
use syn::{DeriveInput, GenericParam, Generics, Ident, Type, TypePath, parse_quote};

use crate::attributes::Errors;
use crate::input::{Form, Input, Parts, Shape, Variant};
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
    match errors.into_compile_errors() {
        None => expansion.implementations(),
        // The traits are implemented all the same, so that uses of the type are not errors too. A
        // type with a lifetime cannot have them.
        Some(errors) if item.generics.lifetimes().next().is_some() => errors,
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

    fn describe(&self) -> TokenStream {
        let Self { private, .. } = self;
        let Input {
            name, docs, shape, ..
        } = self.input;
        let krate = &self.krate;
        let shape = match shape {
            Shape::Struct(parts) => {
                let fields = self.describe_fields(parts);
                quote!(#krate::Shape::Struct(#fields))
            }
            Shape::Enum(variants) => {
                let variants = variants.iter().map(|variant| {
                    let Variant {
                        name, docs, parts, ..
                    } = variant;
                    let fields = self.describe_fields(parts);
                    quote!(#private::variant(#name, #docs, #fields))
                });
                quote!(#krate::Shape::Enum(#private::vec![#(#variants),*]))
            }
        };
        quote!(#krate::Describer::define::<Self>(__types, #name, #docs, |__types| #shape))
    }

    fn describe_fields(&self, parts: &Parts) -> TokenStream {
        let Self {
            krate,
            value,
            private,
            ..
        } = self;
        let types = parts.fields.iter().map(|field| {
            let ty = &field.ty;
            quote!(<#ty as #value>::describe(__types))
        });
        match parts.form {
            Form::Unit => quote!(#krate::Fields::Unit),
            Form::Newtype | Form::Tuple => {
                quote!(#krate::Fields::Tuple(#private::vec![#(#types),*]))
            }
            Form::Named => {
                let names = parts.fields.iter().map(|field| &field.name);
                let docs = parts.fields.iter().map(|field| &field.docs);
                quote! {
                    #krate::Fields::Named(
                        #private::vec![#(#private::field(#names, #docs, #types)),*]
                    )
                }
            }
        }
    }

    fn serialize(&self) -> TokenStream {
        let name = &self.input.name;
        match &self.input.shape {
            Shape::Struct(parts) => {
                let values: Vec<_> = (parts.fields.iter())
                    .map(|field| {
                        let member = &field.member;
                        quote!(&self.#member)
                    })
                    .collect();
                self.serialize_fields(parts, &quote!(#name), "struct", &values)
            }
            Shape::Enum(variants) if variants.is_empty() => quote!(match *self {}),
            Shape::Enum(variants) => {
                let arms = variants.iter().zip(0u32..).map(|(variant, index)| {
                    let Variant {
                        ident,
                        name: variant_name,
                        parts,
                        ..
                    } = variant;
                    let members = parts.fields.iter().map(|field| &field.member);
                    let bindings: Vec<Ident> = (0..parts.fields.len())
                        .map(|index| format_ident!("__field{index}"))
                        .collect();
                    let values: Vec<_> = bindings.iter().map(|name| quote!(#name)).collect();
                    let head = quote!(#name, #index, #variant_name);
                    let serialize = self.serialize_fields(parts, &head, "variant", &values);
                    quote!(Self::#ident { #(#members: #bindings),* } => { #serialize })
                });
                quote!(match self { #(#arms)* })
            }
        }
    }

    /// `head` is the first arguments that serde takes, `kind` what it calls the thing.
    fn serialize_fields(
        &self,
        parts: &Parts,
        head: &TokenStream,
        kind: &str,
        values: &[TokenStream],
    ) -> TokenStream {
        let private = &self.private;
        let ser = quote!(#private::serde::ser);
        let serializer = quote!(#private::serde::Serializer);
        let length = values.len();
        // serde calls a struct of named fields a struct, and a variant of them a struct variant.
        let method = match (kind, parts.form) {
            ("struct", Form::Named) => format_ident!("serialize_struct"),
            (_, Form::Unit) => format_ident!("serialize_unit_{kind}"),
            (_, Form::Newtype) => format_ident!("serialize_newtype_{kind}"),
            (_, Form::Tuple) => format_ident!("serialize_tuple_{kind}"),
            (_, Form::Named) => format_ident!("serialize_struct_{kind}"),
        };
        let state = match (kind, parts.form) {
            ("struct", Form::Named) => quote!(#ser::SerializeStruct),
            ("struct", _) => quote!(#ser::SerializeTupleStruct),
            (_, Form::Named) => quote!(#ser::SerializeStructVariant),
            _ => quote!(#ser::SerializeTupleVariant),
        };
        match parts.form {
            Form::Unit => quote!(#serializer::#method(__serializer, #head)),
            Form::Newtype => {
                let value = &values[0];
                quote!(#serializer::#method(__serializer, #head, &#private::Ref(#value)))
            }
            Form::Tuple | Form::Named => {
                let names = parts.fields.iter().map(|field| {
                    let name = &field.name;
                    (parts.form == Form::Named).then(|| quote!(#name,))
                });
                quote! {
                    let mut __state = #serializer::#method(__serializer, #head, #length)?;
                    #(#state::serialize_field(&mut __state, #names &#private::Ref(#values))?;)*
                    #state::end(__state)
                }
            }
        }
    }

    /// The body of `deserialize_value`, and the traits that it needs.
    fn deserialize(&self) -> (TokenStream, TokenStream) {
        let private = &self.private;
        let name = &self.input.name;
        let deserializer = quote!(#private::serde::Deserializer);
        match &self.input.shape {
            Shape::Struct(parts) => {
                let fields =
                    quote!(#private::FieldsVisitor::<Self, 0>(::core::marker::PhantomData));
                let length = parts.fields.len();
                let body = match parts.form {
                    Form::Unit => {
                        return (
                            quote!(#private::unit_struct(__deserializer, #name, || Self {})),
                            TokenStream::new(),
                        );
                    }
                    Form::Newtype => {
                        return (
                            quote!(#private::newtype_struct(__deserializer, #name, Self)),
                            TokenStream::new(),
                        );
                    }
                    Form::Tuple => quote! {
                        #deserializer::deserialize_tuple_struct(
                            __deserializer, #name, #length, #fields,
                        )
                    },
                    Form::Named => quote! {
                        #deserializer::deserialize_struct(
                            __deserializer, #name, <Self as #private::Part<0>>::NAMES, #fields,
                        )
                    },
                };
                let expecting = format!("struct {name}");
                (body, self.part(0, &quote!(Self), parts, &expecting))
            }
            Shape::Enum(variants) => {
                let body = quote! {
                    #deserializer::deserialize_enum(
                        __deserializer,
                        #name,
                        <Self as #private::Choice>::NAMES,
                        #private::ChoiceVisitor::<Self>(::core::marker::PhantomData),
                    )
                };
                (body, self.choice(variants))
            }
        }
    }

    fn choice(&self, variants: &[Variant]) -> TokenStream {
        let private = &self.private;
        let name = &self.input.name;
        let ident = &self.item.ident;
        let generics = self.generics();
        let (bounded, arguments, clause) = generics.split_for_impl();
        let access = quote!(#private::serde::de::VariantAccess);
        let names = variants.iter().map(|variant| &variant.name);
        let arms = variants.iter().enumerate().map(|(index, variant)| {
            let Variant { ident, parts, .. } = variant;
            let length = parts.fields.len();
            let fields =
                quote!(#private::FieldsVisitor::<Self, #index>(::core::marker::PhantomData));
            let read = match parts.form {
                Form::Unit => quote!(#private::unit_variant(__access, || Self::#ident)),
                Form::Newtype => quote!(#private::newtype_variant(__access, Self::#ident)),
                Form::Tuple => quote!(#access::tuple_variant(__access, #length, #fields)),
                Form::Named => quote! {
                    #access::struct_variant(
                        __access, <Self as #private::Part<#index>>::NAMES, #fields,
                    )
                },
            };
            quote!(#index => #read,)
        });
        let parts = variants.iter().enumerate().filter_map(|(index, variant)| {
            let place = &variant.ident;
            let expecting = format!("variant {name}::{}", variant.name);
            let has_fields = matches!(variant.parts.form, Form::Tuple | Form::Named);
            has_fields.then(|| self.part(index, &quote!(Self::#place), &variant.parts, &expecting))
        });
        let expecting = format!("enum {name}");
        quote! {
            impl #bounded #private::Choice for #ident #arguments #clause {
                const EXPECTING: &'static str = #expecting;
                const NAMES: &'static [&'static str] = &[#(#names),*];

                fn choose<'__de, __A: #access<'__de>>(
                    __index: usize,
                    __access: __A,
                ) -> ::core::result::Result<Self, __A::Error> {
                    match __index {
                        #(#arms)*
                        _ => #private::no_such_variant(__index),
                    }
                }
            }

            #(#parts)*
        }
    }

    /// How the fields of a struct, or of the variant at `index`, are read.
    fn part(
        &self,
        index: usize,
        constructor: &TokenStream,
        parts: &Parts,
        expecting: &str,
    ) -> TokenStream {
        let private = &self.private;
        let ident = &self.item.ident;
        let generics = self.generics();
        let (bounded, arguments, clause) = generics.split_for_impl();
        let de = quote!(#private::serde::de);
        // A variant's part is one of several that the type has, so it is named in full.
        let part = quote!(<Self as #private::Part<#index>>);
        let members: Vec<_> = parts.fields.iter().map(|field| &field.member).collect();
        let positions = 0..parts.fields.len();
        let elements = positions
            .clone()
            .map(|position| quote!(#private::element(__elements, #position, &#part::EXPECTING)?));
        let (names, by_name) = if parts.form == Form::Named {
            let names: Vec<_> = parts.fields.iter().map(|field| &field.name).collect();
            let slots: Vec<_> = positions
                .clone()
                .map(|position| format_ident!("__field{position}"))
                .collect();
            let by_name = quote! {
                #(let mut #slots = ::core::option::Option::None;)*
                while let ::core::option::Option::Some(__index) =
                    #de::MapAccess::next_key_seed(__fields, #private::FieldSeed(#part::NAMES))?
                {
                    match __index {
                        #(#positions => #private::named(__fields, #names, &mut #slots)?,)*
                        _ => {}
                    }
                }
                ::core::result::Result::Ok(
                    #constructor { #(#members: #private::required(#names, #slots)?),* }
                )
            };
            (quote!(#(#names),*), by_name)
        } else {
            (
                TokenStream::new(),
                quote!(#private::not_by_name(#part::EXPECTING)),
            )
        };
        quote! {
            impl #bounded #private::Part<#index> for #ident #arguments #clause {
                const EXPECTING: &'static str = #expecting;
                const NAMES: &'static [&'static str] = &[#names];

                fn from_elements<'__de, __A: #de::SeqAccess<'__de>>(
                    __elements: &mut __A,
                ) -> ::core::result::Result<Self, __A::Error> {
                    ::core::result::Result::Ok(#constructor { #(#members: #elements),* })
                }

                fn from_fields<'__de, __A: #de::MapAccess<'__de>>(
                    __fields: &mut __A,
                ) -> ::core::result::Result<Self, __A::Error> {
                    #by_name
                }
            }
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
