//! Whether two types are the same, and where they differ.
//!
//! Types are equal when their structure is: names and documentation of types do not matter; names,
//! order and types of fields and variants do. Types that contain themselves are taken to be equal
//! as long as no difference is found.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::render::render;
use crate::types::{Definition, Fields, Parameter, Shape, Signature, Type};

/// Where two types differ, nearest to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The way there, as in `.positions[].weight`; empty for the types themselves. `[]` stands for
    /// any element, `{key}` and `{value}` for those of a map, `?` for what an option holds.
    pub path: String,
    /// What one expects there.
    pub expected: String,
    /// What the other has there.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            expected,
            found,
        } = self;
        if !path.is_empty() {
            write!(formatter, "{path}: ")?;
        }
        write!(formatter, "expected {expected}, found {found}")
    }
}

/// Where the type `found` differs from the type `expected`, each with the table that it refers to.
///
/// `None` when they are equal. Each pair of definitions is visited at most once and nothing
/// recurses, so tables that have passed [`validate`](crate::validate) are cheap to compare.
#[must_use]
pub fn difference(
    expected: (&Type, &[Definition]),
    found: (&Type, &[Definition]),
) -> Option<Difference> {
    let mut comparison = Comparison::new(expected.1, found.1);
    comparison.push(ROOT, String::new(), expected.0, found.0);
    comparison.run().err()
}

/// Where the signature `found` differs from `expected`: in the names or types of captures and
/// parameters, or in what is returned.
#[must_use]
pub fn signature_difference(expected: &Signature, found: &Signature) -> Option<Difference> {
    let mut comparison = Comparison::new(&expected.definitions, &found.definitions);
    comparison.signatures(expected, found).err()
}

/// The step of the empty path.
const ROOT: usize = 0;

/// What is left to compare, outermost first.
struct Comparison<'a> {
    expected: &'a [Definition],
    found: &'a [Definition],
    /// Pairs of definitions that are being, or have been, compared.
    met: BTreeSet<(u32, u32)>,
    left: VecDeque<(usize, &'a Type, &'a Type)>,
    /// The ways to all that was ever queued: the step before, and the last part of the path.
    steps: Vec<(usize, String)>,
}

impl<'a> Comparison<'a> {
    fn new(expected: &'a [Definition], found: &'a [Definition]) -> Self {
        let steps = vec![(ROOT, String::new())];
        Self {
            expected,
            found,
            met: BTreeSet::new(),
            left: VecDeque::new(),
            steps,
        }
    }

    fn push(&mut self, from: usize, part: String, expected: &'a Type, found: &'a Type) {
        let step = if part.is_empty() {
            from
        } else {
            self.step(from, part)
        };
        self.left.push_back((step, expected, found));
    }

    fn step(&mut self, from: usize, part: String) -> usize {
        self.steps.push((from, part));
        self.steps.len() - 1
    }

    fn run(&mut self) -> Result<(), Difference> {
        while let Some((step, expected, found)) = self.left.pop_front() {
            self.types(step, expected, found)?;
        }
        Ok(())
    }

    fn signatures(
        &mut self,
        expected: &'a Signature,
        found: &'a Signature,
    ) -> Result<(), Difference> {
        self.parameters("capture", &expected.captures, &found.captures)?;
        self.parameters("parameter", &expected.parameters, &found.parameters)?;
        let returns = String::from("the result");
        self.push(ROOT, returns, &expected.returns, &found.returns);
        let error = self.step(ROOT, String::from("the error"));
        match (&expected.error, &found.error) {
            (None, None) => {}
            (Some(expected), Some(found)) => self.push(error, String::new(), expected, found),
            (Some(ty), None) => {
                return Err(self.at(error, render(ty, self.expected), "none".into()));
            }
            (None, Some(ty)) => {
                return Err(self.at(error, "none".into(), render(ty, self.found)));
            }
        }
        self.run()
    }

    fn parameters(
        &mut self,
        kind: &str,
        expected: &'a [Parameter],
        found: &'a [Parameter],
    ) -> Result<(), Difference> {
        let names = |list: &[Parameter]| {
            list.iter()
                .map(|parameter| parameter.name.clone())
                .collect::<Vec<_>>()
        };
        self.names(ROOT, kind, &names(expected), &names(found))?;
        for (expected, found) in expected.iter().zip(found) {
            let part = format!("{kind} {}", expected.name);
            self.push(ROOT, part, &expected.ty, &found.ty);
        }
        Ok(())
    }

    fn types(
        &mut self,
        step: usize,
        expected: &'a Type,
        found: &'a Type,
    ) -> Result<(), Difference> {
        match (expected, found) {
            (Type::Option(a), Type::Option(b)) => self.push(step, "?".into(), a, b),
            (Type::List(a), Type::List(b)) | (Type::Set(a), Type::Set(b)) => {
                self.push(step, "[]".into(), a, b);
            }
            (Type::Array(a, length), Type::Array(b, other)) if length == other => {
                self.push(step, "[]".into(), a, b);
            }
            (Type::Map(key, value), Type::Map(other_key, other_value)) => {
                self.push(step, "{key}".into(), key, other_key);
                self.push(step, "{value}".into(), value, other_value);
            }
            (Type::Result(ok, error), Type::Result(other_ok, other_error)) => {
                self.push(step, ".Ok".into(), ok, other_ok);
                self.push(step, ".Err".into(), error, other_error);
            }
            (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => self.positions(step, a, b),
            (Type::Named(a), Type::Named(b)) => return self.named(step, *a, *b),
            (a, b) if a == b && !matches!(a, Type::Named(_)) => {}
            (a, b) => {
                return Err(self.at(step, render(a, self.expected), render(b, self.found)));
            }
        }
        Ok(())
    }

    fn positions(&mut self, step: usize, expected: &'a [Type], found: &'a [Type]) {
        for (index, (a, b)) in expected.iter().zip(found).enumerate() {
            self.push(step, format!(".{index}"), a, b);
        }
    }

    fn named(&mut self, step: usize, a: u32, b: u32) -> Result<(), Difference> {
        let at = |table: &'a [Definition], index: u32| {
            usize::try_from(index)
                .ok()
                .and_then(|index| table.get(index))
        };
        let (Some(expected), Some(found)) = (at(self.expected, a), at(self.found, b)) else {
            let expected = render(&Type::Named(a), self.expected);
            let found = render(&Type::Named(b), self.found);
            return Err(self.at(step, expected, found));
        };
        if !self.met.insert((a, b)) {
            return Ok(());
        }
        match (&expected.shape, &found.shape) {
            (Shape::Struct(a), Shape::Struct(b)) => {
                let texts = (struct_text(expected, a), struct_text(found, b));
                self.fields(step, a, b, texts)
            }
            (Shape::Enum(a), Shape::Enum(b)) => {
                let names = |variants: &[crate::types::Variant]| {
                    variants
                        .iter()
                        .map(|variant| variant.name.clone())
                        .collect::<Vec<_>>()
                };
                self.names(step, "variant", &names(a), &names(b))?;
                for (a, b) in a.iter().zip(b) {
                    let step = self.step(step, format!(".{}", a.name));
                    let texts = (variant_text(&a.fields), variant_text(&b.fields));
                    self.fields(step, &a.fields, &b.fields, texts)?;
                }
                Ok(())
            }
            (Shape::Struct(fields), Shape::Enum(_)) => {
                let texts = (
                    struct_text(expected, fields),
                    format!("enum {}", found.name),
                );
                Err(self.at(step, texts.0, texts.1))
            }
            (Shape::Enum(_), Shape::Struct(fields)) => {
                let texts = (
                    format!("enum {}", expected.name),
                    struct_text(found, fields),
                );
                Err(self.at(step, texts.0, texts.1))
            }
        }
    }

    /// `texts` say what each is, for when their forms differ.
    fn fields(
        &mut self,
        step: usize,
        expected: &'a Fields,
        found: &'a Fields,
        texts: (String, String),
    ) -> Result<(), Difference> {
        match (expected, found) {
            (Fields::Unit, Fields::Unit) => Ok(()),
            (Fields::Tuple(a), Fields::Tuple(b)) if a.len() == b.len() => {
                self.positions(step, a, b);
                Ok(())
            }
            (Fields::Named(a), Fields::Named(b)) => {
                let names = |fields: &[crate::types::Field]| {
                    fields
                        .iter()
                        .map(|field| field.name.clone())
                        .collect::<Vec<_>>()
                };
                self.names(step, "field", &names(a), &names(b))?;
                for (a, b) in a.iter().zip(b) {
                    self.push(step, format!(".{}", a.name), &a.ty, &b.ty);
                }
                Ok(())
            }
            _ => Err(self.at(step, texts.0, texts.1)),
        }
    }

    /// Compares names by place.
    fn names(
        &self,
        step: usize,
        kind: &str,
        expected: &[String],
        found: &[String],
    ) -> Result<(), Difference> {
        for index in 0..expected.len().max(found.len()) {
            let (a, b) = (expected.get(index), found.get(index));
            if a != b {
                let text = |name: Option<&String>| match name {
                    Some(name) => format!("{kind} `{name}`"),
                    None => format!("no {kind} {}", index + 1),
                };
                return Err(self.at(step, text(a), text(b)));
            }
        }
        Ok(())
    }

    fn at(&self, mut step: usize, expected: String, found: String) -> Difference {
        let mut parts = Vec::new();
        while step != ROOT {
            let (from, part) = &self.steps[step];
            parts.push(part.as_str());
            step = *from;
        }
        parts.reverse();
        Difference {
            path: parts.concat(),
            expected,
            found,
        }
    }
}

fn struct_text(definition: &Definition, fields: &Fields) -> String {
    format!("struct {} {}", definition.name, form_text(fields))
}

fn variant_text(fields: &Fields) -> String {
    format!("a variant {}", form_text(fields))
}

fn form_text(fields: &Fields) -> String {
    match fields {
        Fields::Unit => "without fields".into(),
        Fields::Tuple(types) => format!("of {} unnamed fields", types.len()),
        Fields::Named(_) => "of named fields".into(),
    }
}
