//! Where the crate of values is found from the crate that derives.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Ident;

/// Crates that hold `spore-value`, and where in them.
const HOLDERS: [(&str, &str, bool); 3] = [
    ("spore-value", "spore_value", false),
    ("spore-guest", "spore_guest", true),
    ("spore-client", "spore_client", true),
];

/// The path to `spore-value`, through whichever crate of Spore the deriving crate depends on.
///
/// A guest depends on `spore-guest` alone, and a dependency may have been renamed; a macro cannot
/// see either, so the manifest is read.
pub(crate) fn path() -> TokenStream {
    for (package, library, inside) in HOLDERS {
        let name = match crate_name(package) {
            // Tests and examples of a package count as the package; they, and the library through
            // `extern crate self`, know it by its name.
            Ok(FoundCrate::Itself) => library.to_owned(),
            Ok(FoundCrate::Name(name)) => name,
            Err(_) => continue,
        };
        let name = Ident::new(&name, Span::call_site());
        return if inside {
            quote!(::#name::value)
        } else {
            quote!(::#name)
        };
    }
    quote!(::spore_value)
}
