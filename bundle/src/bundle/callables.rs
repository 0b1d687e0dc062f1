//! Finding a callable of a bundle by what a person types.

use super::Bundle;
use crate::manifest::{Callable, Manifest};

/// Why a name did not lead to one callable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallableError {
    /// No callable has this name.
    #[error("no callable {name:?}; there are {}", candidates.join(", "))]
    Unknown {
        /// The name asked for
        name: String,
        /// All callables
        candidates: Vec<String>,
    },
    /// Several callables have this last segment.
    #[error("{name:?} could be {}", candidates.join(", "))]
    Ambiguous {
        /// The name asked for
        name: String,
        /// The callables that have it
        candidates: Vec<String>,
    },
    /// No name was given, and there is more than one callable.
    #[error("which callable? There are {}", candidates.join(", "))]
    Several {
        /// All callables
        candidates: Vec<String>,
    },
}

impl Manifest {
    /// The callable of this name, and its index: the full name, or a last segment that no other
    /// callable has (`value_at_risk` for `risk::value_at_risk`).
    ///
    /// # Errors
    ///
    /// Lists the candidates.
    pub fn callable(&self, name: &str) -> Result<(u32, &Callable), CallableError> {
        let found = self.matching(|callable| callable.name == name);
        let found = match found.is_empty() {
            true => self.matching(|callable| callable.short_name() == name),
            false => found,
        };
        match found[..] {
            [one] => Ok(one),
            [] => Err(CallableError::Unknown {
                name: name.to_owned(),
                candidates: self.names(),
            }),
            _ => {
                let candidates = found.iter().map(|(_, each)| each.name.clone()).collect();
                Err(CallableError::Ambiguous {
                    name: name.to_owned(),
                    candidates,
                })
            }
        }
    }

    /// The callable to run when none is named: that of the captures, or the only one.
    ///
    /// # Errors
    ///
    /// Lists the callables when there are several and no captures.
    pub fn default_callable(&self) -> Result<(u32, &Callable), CallableError> {
        let all = self.matching(|_| true);
        let bound = self.state.and_then(|state| state.kind.callable());
        match (bound, &all[..]) {
            (Some(index), _) => Ok(all[index as usize]),
            (None, [one]) => Ok(*one),
            (None, _) => Err(CallableError::Several {
                candidates: self.names(),
            }),
        }
    }

    fn matching(&self, wanted: impl Fn(&Callable) -> bool) -> Vec<(u32, &Callable)> {
        (0..)
            .zip(&self.callables)
            .filter(|(_, each)| wanted(each))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.callables
            .iter()
            .map(|each| each.name.clone())
            .collect()
    }
}

impl Bundle {
    /// See [`Manifest::callable`].
    ///
    /// # Errors
    ///
    /// Lists the candidates.
    pub fn callable(&self, name: &str) -> Result<(u32, &Callable), CallableError> {
        self.manifest.callable(name)
    }

    /// See [`Manifest::default_callable`].
    ///
    /// # Errors
    ///
    /// Lists the callables when there are several and no captures.
    pub fn default_callable(&self) -> Result<(u32, &Callable), CallableError> {
        self.manifest.default_callable()
    }
}
