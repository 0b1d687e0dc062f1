//! Makes the description of a callable, from what `#[callable]` knows of it.

use spore_abi::{Description, Grant};
use spore_value::{Describer, Parameter, Signature, Type, Value};

/// A description being made.
pub struct Describing {
    describer: Describer,
    captures: Vec<Parameter>,
    parameters: Vec<Parameter>,
    description: Description,
}

impl Describing {
    /// A callable of this name and documentation that takes and returns nothing.
    pub fn new(name: &str, docs: &str) -> Self {
        Self {
            describer: Describer::new(),
            captures: Vec::new(),
            parameters: Vec::new(),
            description: Description {
                name: name.to_owned(),
                docs: docs.trim().to_owned(),
                signature: Signature {
                    captures: Vec::new(),
                    parameters: Vec::new(),
                    returns: Type::Unit,
                    error: None,
                    definitions: Vec::new(),
                },
                consumes_captures: false,
                resumable: false,
                streams: false,
                grants: Vec::new(),
            },
        }
    }

    /// It captures a `T` next.
    #[must_use]
    pub fn capture<T: Value>(mut self, name: &str) -> Self {
        let ty = self.describer.describe::<T>();
        self.captures.push(Parameter {
            name: name.to_owned(),
            ty,
        });
        self
    }

    /// It takes a `T` next.
    #[must_use]
    pub fn parameter<T: Value>(mut self, name: &str) -> Self {
        let ty = self.describer.describe::<T>();
        self.parameters.push(Parameter {
            name: name.to_owned(),
            ty,
        });
        self
    }

    /// It uses its captures up.
    #[must_use]
    pub fn consumes_captures(mut self) -> Self {
        self.description.consumes_captures = true;
        self
    }

    /// A run of it may be stopped and continued.
    #[must_use]
    pub fn resumable(mut self) -> Self {
        self.description.resumable = true;
        self
    }

    /// It emits items of the type that it returns.
    #[must_use]
    pub fn streams(mut self) -> Self {
        self.description.streams = true;
        self
    }

    /// It asks for a directory.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        let grant = Grant::Directory(name.to_owned());
        self.description.grants.push(grant);
        self
    }

    /// It returns an `R`.
    #[must_use]
    pub fn returns<R: Value>(mut self) -> Description {
        self.description.signature.returns = self.describer.describe::<R>();
        self.finish()
    }

    /// It returns a `Result<R, E>`.
    #[must_use]
    pub fn returns_result<R: Value, E: Value>(mut self) -> Description {
        self.description.signature.error = Some(self.describer.describe::<E>());
        self.returns::<R>()
    }

    fn finish(self) -> Description {
        let Self {
            describer,
            captures,
            parameters,
            mut description,
        } = self;
        let signature = &mut description.signature;
        signature.captures = captures;
        signature.parameters = parameters;
        signature.definitions = describer.finish();
        description
    }
}
