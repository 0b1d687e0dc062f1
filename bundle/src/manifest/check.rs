//! What makes a manifest sound, whoever wrote it.

use spore_abi::ABI_VERSION;
use spore_value::{DOCS_BYTES_MAX, Fields, Shape, Signature, codec, validate};

use super::ManifestError;
use super::v1::{Callable, Grant, Manifest};
use crate::limits::{CALLABLES_MAX, GRANTS_MAX, NAME_BYTES_MAX};

/// Checks everything that the manifest says by itself.
pub(super) fn manifest(manifest: &Manifest) -> Result<(), ManifestError> {
    if manifest.abi != ABI_VERSION {
        return Err(ManifestError::UnknownAbi {
            found: manifest.abi,
            known: ABI_VERSION,
        });
    }
    name("the guest", &manifest.name, is_plain_name)?;
    name("the guest's version", &manifest.version, version)?;
    for export in manifest.init.iter().chain(&manifest.restored) {
        name("an export", export, visible_name)?;
    }

    if manifest.callables.is_empty() {
        return Err(ManifestError::NoCallables);
    }
    at_most("callables", manifest.callables.len(), CALLABLES_MAX)?;
    for each in &manifest.callables {
        callable(each)?;
    }
    for pair in manifest.callables.windows(2) {
        if pair[0].name >= pair[1].name {
            let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(ManifestError::Order { first, second });
        }
    }

    match manifest.state.and_then(|state| state.kind.callable()) {
        Some(index) => owner_of_state(manifest, index),
        None => Ok(()),
    }
}

/// The callable that a state belongs to exists, and captures something if captures are its state.
fn owner_of_state(manifest: &Manifest, index: u32) -> Result<(), ManifestError> {
    let callables = manifest.callables.len();
    let Some(callable) = manifest.callables.get(index as usize) else {
        return Err(ManifestError::NoSuchCallable { index, callables });
    };
    let is_captures = matches!(
        manifest.state.map(|state| state.kind),
        Some(super::StateKind::Captures { .. })
    );
    if is_captures && callable.signature.captures.is_empty() {
        return Err(ManifestError::NothingToCapture {
            callable: callable.name.clone(),
        });
    }
    Ok(())
}

fn callable(callable: &Callable) -> Result<(), ManifestError> {
    name("a callable", &callable.name, callable_name)?;
    docs(&callable.name, &callable.docs)?;
    if callable.codec != codec::CODEC {
        return Err(ManifestError::UnknownCodec {
            callable: callable.name.clone(),
            found: callable.codec,
            known: codec::CODEC,
        });
    }
    validate(&callable.signature).map_err(|source| ManifestError::Signature {
        callable: callable.name.clone(),
        source,
    })?;
    texts(&callable.signature)?;
    grants(callable)
}

fn grants(callable: &Callable) -> Result<(), ManifestError> {
    at_most("grants of a callable", callable.grants.len(), GRANTS_MAX)?;
    for (position, grant) in callable.grants.iter().enumerate() {
        match grant {
            Grant::Directory(directory) => name("a directory", directory, is_plain_name)?,
            Grant::Environment(variable) => name("a variable", variable, is_plain_name)?,
            Grant::Clock | Grant::Random => {}
        }
        if callable.grants[..position].contains(grant) {
            let (callable, grant) = (callable.name.clone(), grant.clone());
            return Err(ManifestError::GrantTwice { callable, grant });
        }
    }
    Ok(())
}

/// Checks every name and comment of a signature. They reach terminals, and a control character
/// there could rewrite what a person has read already.
fn texts(signature: &Signature) -> Result<(), ManifestError> {
    for parameter in signature.captures.iter().chain(&signature.parameters) {
        name("a parameter", &parameter.name, visible_name)?;
    }
    for definition in &signature.definitions {
        name("a type", &definition.name, visible_name)?;
        docs(&definition.name, &definition.docs)?;
        match &definition.shape {
            Shape::Struct(parts) => fields(parts)?,
            Shape::Enum(variants) => {
                for variant in variants {
                    name("a variant", &variant.name, visible_name)?;
                    docs(&variant.name, &variant.docs)?;
                    fields(&variant.fields)?;
                }
            }
        }
    }
    Ok(())
}

fn fields(fields: &Fields) -> Result<(), ManifestError> {
    if let Fields::Named(fields) = fields {
        for field in fields {
            name("a field", &field.name, visible_name)?;
            docs(&field.name, &field.docs)?;
        }
    }
    Ok(())
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count > limit {
        return Err(ManifestError::TooMany { what, count, limit });
    }
    Ok(())
}

fn name(
    what: &'static str,
    name: &str,
    allowed: impl Fn(&str) -> bool,
) -> Result<(), ManifestError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !allowed(name) {
        let end = name.floor_char_boundary(NAME_BYTES_MAX);
        return Err(ManifestError::Name {
            what,
            name: name[..end].to_owned(),
        });
    }
    Ok(())
}

fn docs(of: &str, docs: &str) -> Result<(), ManifestError> {
    at_most("bytes of documentation", docs.len(), DOCS_BYTES_MAX)?;
    match docs
        .chars()
        .find(|&c| is_hidden(c) && c != '\n' && c != '\t')
    {
        Some(found) => Err(ManifestError::Docs {
            of: of.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// Whether a guest, a segment of a callable, a directory or a variable may have this name: 1 to
/// [`NAME_BYTES_MAX`] letters and digits of ASCII, `_`, `-` and `.`, the first of them no `.`.
///
/// Such a name is one part of a path, and leads neither to where one is nor up; nor is it hidden.
pub fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(allowed)
}

fn version(version: &str) -> bool {
    version
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-.+".contains(c))
}

fn callable_name(name: &str) -> bool {
    name.split("::").all(is_plain_name)
}

fn visible_name(name: &str) -> bool {
    !name.chars().any(is_hidden)
}

/// Whether a terminal would act on a character instead of showing it: controls, line separators,
/// and those that reorder the text around them.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
