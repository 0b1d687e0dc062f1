//! Types of fields that cannot travel, told by how they are written.
//!
//! The trait `Value` refuses them all the same. Here the message can say more, and stands at the
//! part of the type that is at fault.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    GenericArgument, PathArguments, Type, TypeBareFn, TypeImplTrait, TypeInfer, TypePath, TypePtr,
    TypeReference, TypeSlice, TypeTraitObject,
};

use crate::attributes::Errors;

/// Names of types that share or guard a value, and of the like.
const SHARING: &[&str] = &["Rc", "Arc", "Weak"];
const GUARDING: &[&str] = &[
    "Cell",
    "RefCell",
    "UnsafeCell",
    "OnceCell",
    "LazyCell",
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "AtomicBool",
    "AtomicI32",
    "AtomicI64",
    "AtomicU32",
    "AtomicU64",
    "AtomicUsize",
    "AtomicIsize",
];
const PLATFORM: &[(&str, &str)] = &[
    (
        "Instant",
        "an `Instant` means nothing on another machine: use a `Duration`",
    ),
    (
        "SystemTime",
        "a `SystemTime` cannot travel: use a `Duration` since the Unix epoch",
    ),
    ("PathBuf", "paths differ between machines: use a `String`"),
    (
        "OsString",
        "an `OsString` differs between machines: use a `String` or a `Vec<u8>`",
    ),
    (
        "CString",
        "a `CString` cannot travel: use a `String` or a `Vec<u8>`",
    ),
];

/// Reports every part of the type of a field that cannot travel.
pub(crate) fn check(ty: &Type, errors: &mut Errors) {
    Check { errors }.visit_type(ty);
}

struct Check<'a> {
    errors: &'a mut Errors,
}

impl Check<'_> {
    fn report(&mut self, place: &impl Spanned, message: &str) {
        self.errors.at(place, message);
    }
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let message = match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => {
                "a reference cannot travel: use `String` in place of `&str`"
            }
            Type::Slice(_) => "a reference cannot travel: use `Vec<…>` in place of a slice",
            _ => "a reference cannot travel: own what it refers to, or use `Box`",
        };
        self.report(reference, message);
    }

    fn visit_type_ptr(&mut self, pointer: &'ast TypePtr) {
        self.report(
            pointer,
            "a pointer means nothing in another memory: own what it points to",
        );
    }

    fn visit_type_bare_fn(&mut self, function: &'ast TypeBareFn) {
        self.report(
            function,
            "a function pointer cannot travel: use an enum of the cases, or make the function a \
             callable of its own",
        );
    }

    fn visit_type_trait_object(&mut self, object: &'ast TypeTraitObject) {
        self.report(
            object,
            "a trait object does not say what it is made of: use an enum of the types it may be",
        );
    }

    fn visit_type_impl_trait(&mut self, anonymous: &'ast TypeImplTrait) {
        self.report(anonymous, "name the type");
    }

    fn visit_type_infer(&mut self, anonymous: &'ast TypeInfer) {
        self.report(anonymous, "name the type");
    }

    fn visit_type_slice(&mut self, slice: &'ast TypeSlice) {
        // The type has no size then, and cannot be a value in any way.
        self.errors
            .hopeless_at(slice, "a slice has no length of its own: use `Vec<…>`");
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
        let Some(last) = path.path.segments.last() else {
            return;
        };
        let name = last.ident.to_string();
        // Those of the standard library take the type of what is inside. One without is the user's.
        let takes_one = matches!(&last.arguments, PathArguments::AngleBracketed(arguments)
            if arguments.args.len() == 1)
            || name.starts_with("Atomic");
        if takes_one && SHARING.contains(&name.as_str()) {
            self.report(
                &last.ident,
                &format!(
                    "`{name}` shares a value, and sharing ends where memory ends: use the \
                          value itself, or `Box`"
                ),
            );
        } else if takes_one && GUARDING.contains(&name.as_str()) {
            self.report(
                &last.ident,
                &format!("`{name}` guards a place in memory: use the value inside"),
            );
        } else if let Some((_, message)) = PLATFORM.iter().find(|(known, _)| *known == name) {
            self.report(&last.ident, message);
        } else if name == "Box" && boxes_a_slice(&last.arguments) {
            // `Box<[T]>` owns its slice, so only what is in it is looked at.
            let PathArguments::AngleBracketed(arguments) = &last.arguments else {
                return;
            };
            for argument in &arguments.args {
                if let GenericArgument::Type(Type::Slice(slice)) = argument {
                    self.visit_type(&slice.elem);
                }
            }
        } else {
            let is_cow = name == "Cow";
            for segment in &path.path.segments {
                // The lifetime and the `str` of `Cow<'static, str>` are as they should be.
                if !is_cow {
                    visit::visit_path_segment(self, segment);
                }
            }
        }
    }
}

fn boxes_a_slice(arguments: &PathArguments) -> bool {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return false;
    };
    arguments
        .args
        .iter()
        .any(|argument| matches!(argument, GenericArgument::Type(Type::Slice(_))))
}
