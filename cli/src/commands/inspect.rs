//! `spore inspect`: what a bundle says of itself. Runs nothing of it.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::{Map, Value as Json, json};
use spore_bundle::module::Import;
use spore_bundle::sections::sections;
use spore_bundle::{Callable, Interface, ModuleLimits, Section};
use spore_client::Bundle;
use spore_value::{Limits, json as values};

use crate::arguments::BUNDLE_LIMITS;
use crate::exit::Failure;
use crate::image;
use crate::output::{self, plain, size};
use crate::signature;

/// Show what a bundle has: callables, types, ids, sizes, imports, grants, captures
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore inspect triple.spore
  spore inspect triple.spore --json | jq -r .bundle

Nothing of the bundle is run.")]
pub(crate) struct Inspect {
    /// The bundle
    file: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// All that there is to show.
struct Inspected {
    bundle: Bundle,
    sections: Vec<Section>,
    file_bytes: u64,
    /// What the code says of itself, or why it cannot be read: no part of a bundle's being one
    interface: Result<Interface, String>,
    /// By name, when captures are bound
    captures: Option<Vec<(String, Json)>>,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let inspected = Inspected::read(&self.file)?;
        if self.json {
            output::print_json(&inspected.json())
        } else {
            output::print(&inspected.text())
        }
    }
}

impl Inspected {
    fn read(path: &std::path::Path) -> Result<Inspected, Failure> {
        let wrong = |what: &str, error: &dyn std::error::Error| {
            let why = crate::exit::chain(error);
            Failure::usage(format!("{}: {what}: {why}", path.display()))
        };
        let file = Bundle::read_file(path, &BUNDLE_LIMITS)?;
        let file_bytes = file.len() as u64;
        let sections = sections(&file).map_err(|error| wrong("not a bundle", &error))?;
        let bundle = Bundle::from_bytes_with(file, &BUNDLE_LIMITS)
            .map_err(|error| wrong("not a bundle that can be used", &error))?;
        let interface = Interface::read(bundle.inner().code(), &ModuleLimits::NONE)
            .map_err(|error| crate::exit::chain(&error));
        let captures = match bundle.inner().captures() {
            None => None,
            Some((index, bytes)) => {
                let signature = &bundle.inner().manifest().callables[index as usize].signature;
                let (captures, types) = (&signature.captures, &signature.definitions);
                let shown = values::parameters_to_json(captures, types, bytes, &Limits::default());
                Some(shown.map_err(|error| wrong("the captures cannot be shown", &error))?)
            }
        };
        Ok(Inspected {
            bundle,
            sections,
            file_bytes,
            interface,
            captures,
        })
    }

    fn callables(&self) -> &[Callable] {
        &self.bundle.inner().manifest().callables
    }

    /// The callable that captures are bound to.
    fn bound(&self) -> Option<&Callable> {
        let (index, _) = self.bundle.inner().captures()?;
        self.callables().get(index as usize)
    }

    fn text(&self) -> String {
        let bundle = self.bundle.inner();
        let manifest = bundle.manifest();
        let mut text = format!("{} {}\n", plain(&manifest.name), plain(&manifest.version));
        let mut ids = vec![
            [
                "bundle",
                &bundle.id().to_string(),
                &format!("{} in the file", size(self.file_bytes)),
            ]
            .map(str::to_owned),
            [
                "code",
                &bundle.code_id().to_string(),
                &size(manifest.code.bytes),
            ]
            .map(str::to_owned),
        ];
        if let Some(state) = manifest.state {
            ids.push(["state", &state.id.to_string(), &size(state.bytes)].map(str::to_owned));
        }
        text.push_str(&output::table(2, &ids));

        text.push_str("\ncallables\n");
        for callable in self.callables() {
            text.push_str(&format!("  {}\n", signature::line(callable)));
            for line in callable.docs.lines() {
                text.push_str(&format!("      {}\n", plain(line)));
            }
            let grants: Vec<_> = callable
                .grants
                .iter()
                .map(|it| plain(&it.to_string()))
                .collect();
            if !grants.is_empty() {
                text.push_str(&format!("      needs: {}\n", grants.join(", ")));
            }
            if callable.consumes_captures {
                text.push_str("      takes its captures by value\n");
            }
            if callable.streams || callable.resumable {
                text.push_str("      can run as a job\n");
            }
        }
        text.push_str(&self.hooks());
        text.push_str(&self.types());
        text.push_str(&self.captures_text());
        if let Some(image) = bundle.image() {
            text.push_str(&image::text(image, self.callables()));
        }

        text.push_str("\nimports\n");
        match &self.interface {
            Ok(interface) => {
                for import in interface.imports() {
                    text.push_str(&format!("  {}\n", plain(&import.to_string())));
                }
            }
            Err(why) => text.push_str(&format!("  the code cannot be read: {}\n", plain(why))),
        }
        text.push_str("\nsections\n");
        let rows: Vec<_> = self
            .sections
            .iter()
            .map(|each| [plain(each.title()), size(each.bytes())])
            .collect();
        text.push_str(&output::table(2, &rows));
        text
    }

    /// What runs besides callables.
    fn hooks(&self) -> String {
        let manifest = self.bundle.inner().manifest();
        let init = manifest
            .init
            .as_ref()
            .map(|_| ["init", "runs once; instances begin with what it leaves"].map(str::to_owned));
        let restored = manifest.restored.as_ref().map(|_| {
            [
                "restored",
                "runs in an instance that was restored from an image",
            ]
            .map(str::to_owned)
        });
        let hooks: Vec<_> = [init, restored].into_iter().flatten().collect();
        match hooks.is_empty() {
            true => String::new(),
            false => format!("\nhooks\n{}", output::table(2, &hooks)),
        }
    }

    /// Every type that callables use, once.
    fn types(&self) -> String {
        // A file may have a hundred thousand of them.
        let (mut known, mut seen) = (HashSet::new(), Vec::new());
        for callable in self.callables() {
            let all = &callable.signature.definitions;
            for each in all {
                let shown = signature::definition(each, all);
                if known.insert(shown.clone()) {
                    seen.push(shown);
                }
            }
        }
        if seen.is_empty() {
            return String::new();
        }
        let lines = seen.iter().flat_map(|shown| shown.lines());
        let lines: String = lines.map(|line| format!("  {line}\n")).collect();
        format!("\ntypes\n{lines}")
    }

    fn captures_text(&self) -> String {
        let (Some(callable), Some(captures)) = (self.bound(), &self.captures) else {
            return String::new();
        };
        let mut text = format!("\ncaptures of {}\n", plain(&callable.name));
        for (name, value) in captures {
            let shown = output::shortened(value);
            text.push_str(&format!("  {} = {shown}\n", plain(name)));
        }
        text
    }

    fn json(&self) -> Json {
        let bundle = self.bundle.inner();
        let manifest = bundle.manifest();
        let callables: Json = self.callables().iter().map(callable_json).collect();
        let import = |import: &Import| {
            json!({
                "module": import.module,
                "name": import.name,
                "type": import.item.to_string(),
            })
        };
        let imports: Option<Vec<_>> = self
            .interface
            .as_ref()
            .ok()
            .map(|interface| interface.imports().iter().map(import).collect());
        let sections: Json = self
            .sections
            .iter()
            .map(|each| json!({ "name": each.title(), "bytes": each.bytes() }))
            .collect();
        let captures = self
            .bound()
            .zip(self.captures.as_ref())
            .map(|(callable, captures)| {
                let values: Map<_, _> = captures.iter().cloned().collect();
                json!({ "callable": callable.name, "values": values })
            });
        json!({
            "name": manifest.name,
            "version": manifest.version,
            "abi": manifest.abi,
            "bundle": bundle.id().to_string(),
            "file_bytes": self.file_bytes,
            "code": { "id": bundle.code_id().to_string(), "bytes": manifest.code.bytes },
            "state": manifest.state.map(|state| {
                json!({ "id": state.id.to_string(), "bytes": state.bytes })
            }),
            "image": bundle.image().map(image::json),
            "init": manifest.init.is_some(),
            "restored": manifest.restored.is_some(),
            "callables": callables,
            "captures": captures,
            "imports": imports,
            "unreadable": self.interface.as_ref().err(),
            "sections": sections,
        })
    }
}

fn callable_json(callable: &Callable) -> Json {
    let mut json = signature::json(&callable.signature);
    let grants: Vec<_> = callable.grants.iter().map(ToString::to_string).collect();
    let mut object = Map::new();
    object.insert("name".to_owned(), callable.name.as_str().into());
    object.insert("docs".to_owned(), callable.docs.as_str().into());
    if let Some(types) = json.as_object_mut() {
        object.append(types);
    }
    object.insert("grants".to_owned(), grants.into());
    object.insert(
        "consumes_captures".to_owned(),
        callable.consumes_captures.into(),
    );
    object.insert("resumable".to_owned(), callable.resumable.into());
    object.insert("streams".to_owned(), callable.streams.into());
    Json::Object(object)
}
