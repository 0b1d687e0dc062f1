//! What a host lets guests touch, by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use spore_bundle::{Grant, Image, Manifest, manifest::Callable};
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
    ) -> Result<Vec<Directory>, Refused> {
        let mut directories = Vec::new();
        for grant in &callable.grants {
            let Grant::Directory(name) = grant else {
                return Err(not_given(grant, "this host offers no such grant"));
            };
            let directory = self.directory(name, allowed).ok_or_else(|| {
                // Whether a grant exists is not told to a key that does not have it.
                not_given(grant, "the key does not have it on this host")
            })?;
            directories.push(directory);
        }
        Ok(directories)
    }

    /// What a call or a job sees: what its callable asks for, behind what the image has.
    ///
    /// # Errors
    ///
    /// When something of it is not granted.
    pub(crate) fn of_call(
        &self,
        manifest: &Manifest,
        callable: &Callable,
        allowed: &Allowed,
        image: Option<&Image>,
    ) -> Result<Arc<[Directory]>, Refused> {
        let mut directories = self.resolve(callable, allowed)?;
        for name in image.map_or(&[][..], |image| &image.index().directories) {
            let asked = Grant::Directory(name.clone());
            let is_asked = |callable: &Callable| callable.grants.contains(&asked);
            if !directories.iter().any(|it| it.name == *name)
                && manifest.callables.iter().any(is_asked)
            {
                directories.extend(self.directory(name, allowed));
            }
        }
        in_order(directories, image)
    }

    /// What a session sees: of what its callables ask for, behind what the image has, all that is
    /// granted. One that asks for what is not is refused when it is called.
    ///
    /// # Errors
    ///
    /// When the image has what is not granted.
    pub(crate) fn of_session(
        &self,
        manifest: &Manifest,
        allowed: &Allowed,
        image: Option<&Image>,
    ) -> Result<Arc<[Directory]>, Refused> {
        let mut directories = Vec::new();
        for callable in &manifest.callables {
            for directory in self.resolve(callable, allowed).into_iter().flatten() {
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
        in_order(directories, image)
    }

    /// Refuses a callable that asks for what an open session does not see, granted or not.
    pub(crate) fn check_seen(
        &self,
        callable: &Callable,
        seen: &[Directory],
        allowed: &Allowed,
    ) -> Result<(), Refused> {
        for asked in self.resolve(callable, allowed)? {
            if !seen.iter().any(|it| it.name == asked.name) {
                let grant = Grant::Directory(asked.name);
                let why = "it was granted after the session was opened";
                return Err(not_given(&grant, why));
            }
        }
        Ok(())
    }

    /// Refuses directories that were granted and are not any more.
    pub(crate) fn check(&self, given: &[Directory], allowed: &Allowed) -> Result<(), Refused> {
        for directory in given {
            if self.directory(&directory.name, allowed).is_none() {
                let grant = Grant::Directory(directory.name.clone());
                return Err(not_given(&grant, "the key does not have it any more"));
            }
        }
        Ok(())
    }

    fn directory(&self, name: &str, allowed: &Allowed) -> Option<Directory> {
        let may = match allowed {
            Allowed::All => true,
            Allowed::Named(names) => names.iter().any(|it| it == name),
        };
        let path = self.directories.get(name).filter(|_| may)?;
        Some(Directory {
            name: name.to_owned(),
            path: path.clone(),
        })
    }
}

/// Directories in the order of their numbers: first those that an image has, in its order, under
/// which the guest knows them.
///
/// # Errors
///
/// When one that the image has is not among them.
fn in_order(
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
