//! How values of a type are read.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::Expansion;
use crate::input::{Form, Parts, Shape, Variant};

impl Expansion<'_> {
    /// The body of `deserialize_value`, and the traits that it needs.
    pub(super) fn deserialize(&self) -> (TokenStream, TokenStream) {
        let Self { value, private, .. } = self;
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
                        let ty = &parts.fields[0].ty;
                        return (
                            quote!(<#ty as #value>::read_newtype(__deserializer, #name, Self)),
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
        let Self { value, private, .. } = self;
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
                Form::Newtype => {
                    let ty = &parts.fields[0].ty;
                    quote!(<#ty as #value>::read_newtype_variant(__access, Self::#ident))
                }
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
        let Self { value, private, .. } = self;
        let ident = &self.item.ident;
        let generics = self.generics();
        let (bounded, arguments, clause) = generics.split_for_impl();
        let de = quote!(#private::serde::de);
        // A variant's part is one of several that the type has, so it is named in full.
        let part = quote!(<Self as #private::Part<#index>>);
        let members: Vec<_> = parts.fields.iter().map(|field| &field.member).collect();
        let positions = 0..parts.fields.len();
        let types: Vec<_> = parts.fields.iter().map(|field| &field.ty).collect();
        let elements = positions.clone().zip(&types).map(|(position, ty)| {
            quote!(<#ty as #value>::read_element(__elements, #position, &#part::EXPECTING)?)
        });
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
                        #(#positions => <#types as #value>::read_entry(__fields, #names, &mut #slots)?,)*
                        _ => {}
                    }
                }
                ::core::result::Result::Ok(
                    #constructor { #(#members: <#types as #value>::read_slot(#names, #slots)?),* }
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
