//! How a type is described and its values written.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;

use super::Expansion;
use crate::input::{Form, Input, Parts, Shape, Variant};

impl Expansion<'_> {
    pub(super) fn describe(&self) -> TokenStream {
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

    pub(super) fn serialize(&self) -> TokenStream {
        let name = &self.input.name;
        match &self.input.shape {
            Shape::Struct(parts) => {
                let values = parts.fields.iter().map(|field| {
                    let member = &field.member;
                    quote!(&self.#member)
                });
                let write = Write {
                    head: quote!(#name),
                    kind: "struct",
                    states: [quote!(SerializeTupleStruct), quote!(SerializeStruct)],
                    element: format_ident!("write_element"),
                    field: format_ident!("write_field"),
                    newtype: format_ident!("write_newtype"),
                };
                self.serialize_fields(parts, &write, &values.collect::<Vec<_>>())
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
                    let write = Write {
                        head: quote!(#name, #index, #variant_name),
                        kind: "variant",
                        states: [
                            quote!(SerializeTupleVariant),
                            quote!(SerializeStructVariant),
                        ],
                        element: format_ident!("write_variant_element"),
                        field: format_ident!("write_variant_field"),
                        newtype: format_ident!("write_newtype_variant"),
                    };
                    let serialize = self.serialize_fields(parts, &write, &values);
                    quote!(Self::#ident { #(#members: #bindings),* } => { #serialize })
                });
                quote!(match self { #(#arms)* })
            }
        }
    }

    fn serialize_fields(
        &self,
        parts: &Parts,
        write: &Write,
        values: &[TokenStream],
    ) -> TokenStream {
        let Self { value, private, .. } = self;
        let Write {
            head,
            kind,
            states: [tuple_state, named_state],
            element,
            field,
            newtype,
        } = write;
        let serializer = quote!(#private::serde::Serializer);
        let types = parts.fields.iter().map(|field| &field.ty);
        let length = values.len();
        let (method, state, fields) = match parts.form {
            Form::Unit => {
                let method = format_ident!("serialize_unit_{kind}");
                return quote!(#serializer::#method(__serializer, #head));
            }
            Form::Newtype => {
                let (ty, field) = (&parts.fields[0].ty, &values[0]);
                return quote!(<#ty as #value>::#newtype(#field, __serializer, #head));
            }
            Form::Tuple => (
                format_ident!("serialize_tuple_{kind}"),
                tuple_state,
                quote!(#(<#types as #value>::#element(#values, &mut __state)?;)*),
            ),
            Form::Named => {
                let names = parts.fields.iter().map(|field| &field.name);
                let method = match *kind {
                    "struct" => format_ident!("serialize_struct"),
                    kind => format_ident!("serialize_struct_{kind}"),
                };
                let fields =
                    quote!(#(<#types as #value>::#field(#values, &mut __state, #names)?;)*);
                (method, named_state, fields)
            }
        };
        quote! {
            let mut __state = #serializer::#method(__serializer, #head, #length)?;
            #fields
            #private::serde::ser::#state::end(__state)
        }
    }
}

/// How serde and the trait `Value` call what writes the fields of a struct, or of a variant.
struct Write {
    /// The first arguments that serde takes.
    head: TokenStream,
    kind: &'static str,
    /// The traits for unnamed and named fields.
    states: [TokenStream; 2],
    element: Ident,
    field: Ident,
    newtype: Ident,
}
