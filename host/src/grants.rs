//! What a host lets guests touch, by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use spore_bundle::{Grant, Image, manifest::Callable};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;

use crate::wasi::Directory;

/// The resources of a host that a key may be given by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories by name, each seen by a guest as `/NAME`, read-only.
    pub directories: BTreeMap<String, PathBuf>,
}

/// Which of the host's grants a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every one that is configured: the user of an embedded host.
    All,
    /// These names.
    Named(Vec<String>),
}

impl Grants {
    /// The directories that `callable` asks for, when `allowed` has them all.
    pub(crate) fn resolve(
        &self,
        callable: &Callable,
        allowed: &Allowed,
    ) -> Result<Arc<[Directory]>, Refused> {
        let mut directories = Vec::new();
        for grant in &callable.grants {
            let Grant::Directory(name) = grant else {
                return Err(not_given(grant, "this host offers no such grant"));
            };
            let may = match allowed {
                Allowed::All => true,
                Allowed::Named(names) => names.contains(name),
            };
            // Whether a grant exists is not told to a key that does not have it.
            match self.directories.get(name).filter(|_| may) {
                Some(path) => {
                    directories.push(Directory {
                        name: name.clone(),
                        path: path.clone(),
                    });
                }
                None => return Err(not_given(grant, "the key does not have it on this host")),
            }
        }
        Ok(directories.into())
    }
}

/// Directories in the order of their numbers: first those that an image has, in its order, under
/// which the guest knows them.
///
/// # Errors
///
/// When one that the image has is not among them.
pub(crate) fn in_order(
    mut directories: Vec<Directory>,
    image: Option<&Image>,
) -> Result<Arc<[Directory]>, Refused> {
    let numbered = image.map_or(&[][..], |image| &image.index().directories);
    for (number, name) in numbered.iter().enumerate() {
        let found = directories.iter().position(|it| it.name == *name);
        let Some(at) = found else {
            let grant = Grant::Directory(name.clone());
            return Err(not_given(&grant, "the image has it, and the key does not"));
        };
        directories[number..=at].rotate_right(1);
    }
    Ok(directories.into())
}

fn not_given(grant: &Grant, why: &str) -> Refused {
    Refused::new(RefusalCode::GrantNotGiven, format!("{grant}: {why}"))
}
