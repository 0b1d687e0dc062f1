//! Collects the sources of the guest SDK, which the command carries for `spore new` to write.
//!
//! The manifests in this workspace inherit from its root. Those that are carried stand alone:
//! what they inherit is written out, and what only tests and lints of this workspace need is left
//! out. The versions that this workspace has locked go along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The crates that a guest needs, as folders of the workspace. They keep their places.
const CRATES: [&str; 5] = [
    "value",
    "value/derive",
    "guest-sdk",
    "guest-sdk/abi",
    "guest-sdk/macros",
];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let sdk = out.join("sdk");
    if sdk.exists() {
        fs::remove_dir_all(&sdk)?;
    }

    let workspace = table(&watched(root.join("Cargo.toml")))?;
    let workspace = &workspace["workspace"];
    let mut files = BTreeSet::new();
    let mut packages = BTreeMap::new();
    for name in CRATES {
        let manifest = table(&watched(root.join(name).join("Cargo.toml")))?;
        let manifest = standalone(manifest, workspace, name)?;
        let package = manifest["package"]["name"]
            .as_str()
            .ok_or("a package has a name")?;
        packages.insert(package.to_owned(), dependencies(&manifest));
        let path = format!("{name}/Cargo.toml");
        write(&sdk.join(&path), &text(manifest)?)?;
        files.insert(path);
        let src = watched(root.join(name).join("src"));
        sources(&src, &format!("{name}/src"), &sdk, &mut files)?;
    }

    let lock = table(&watched(root.join("Cargo.lock")))?;
    let toolchain = table(&watched(root.join("rust-toolchain.toml")))?;
    let channel = toolchain["toolchain"]["channel"]
        .as_str()
        .ok_or("the toolchain is named")?;
    let mut generated = String::from("pub(crate) static FILES: &[(&str, &str)] = &[\n");
    for path in &files {
        let place = format!("/sdk/{path}");
        writeln!(
            generated,
            "({path:?}, include_str!(concat!(env!(\"OUT_DIR\"), {place:?}))),"
        )?;
    }
    writeln!(generated, "];")?;
    writeln!(
        generated,
        "pub(crate) const LOCKED: &str = {:?};",
        locked(&lock, &packages)?
    )?;
    writeln!(generated, "pub(crate) const TOOLCHAIN: &str = {channel:?};")?;
    fs::write(out.join("sdk.rs"), generated)?;
    Ok(())
}

fn variable(name: &str) -> Outcome<String> {
    Ok(std::env::var(name)?)
}

/// The path, once cargo knows that its change calls for another run.
fn watched(path: PathBuf) -> PathBuf {
    println!("cargo::rerun-if-changed={}", path.display());
    path
}

fn table(path: &Path) -> Outcome<Table> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.parse()?)
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::create_dir_all(path.parent().ok_or("a file lies in a folder")?)?;
    Ok(fs::write(path, text)?)
}

/// Copies the sources below `from`, and notes their paths.
fn sources(from: &Path, name: &str, sdk: &Path, files: &mut BTreeSet<String>) -> Outcome<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let file = entry
            .file_name()
            .into_string()
            .map_err(|name| format!("{name:?} is no text"))?;
        let name = format!("{name}/{file}");
        if entry.file_type()?.is_dir() {
            sources(&entry.path(), &name, sdk, files)?;
        } else if file.ends_with(".rs") {
            write(&sdk.join(&name), &fs::read_to_string(entry.path())?)?;
            files.insert(name);
        }
    }
    Ok(())
}

/// The manifest of the crate in the folder `name` without its workspace.
fn standalone(mut manifest: Table, workspace: &Value, name: &str) -> Outcome<Table> {
    for section in ["dev-dependencies", "lints", "test", "bench", "example"] {
        manifest.remove(section);
    }
    let package = manifest.get_mut("package").and_then(Value::as_table_mut);
    for (key, value) in package.ok_or("a package")? {
        if value.get("workspace").is_some() {
            *value = workspace["package"][key].clone();
        }
    }
    if let Some(dependencies) = manifest
        .get_mut("dependencies")
        .and_then(Value::as_table_mut)
    {
        for (key, value) in dependencies {
            if value.get("workspace").is_some() {
                *value = inherited(value, &workspace["dependencies"][key], name)?;
            }
        }
    }
    Ok(manifest)
}

/// A dependency as the workspace has it, with what the crate in the folder `name` adds.
fn inherited(own: &Value, shared: &Value, name: &str) -> Outcome<Value> {
    let mut merged = match shared {
        Value::Table(table) => table.clone(),
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    };
    if let Some(Value::String(path)) = merged.get_mut("path") {
        if !CRATES.contains(&path.as_str()) {
            return Err(format!("{name} depends on {path}, which is not carried").into());
        }
        let up = "../".repeat(name.split('/').count());
        *path = format!("{up}{path}");
    }
    if let Some(features) = own.get("features").and_then(Value::as_array) {
        let all = merged
            .entry("features")
            .or_insert_with(|| Value::Array(Vec::new()));
        all.as_array_mut()
            .ok_or("features are a list")?
            .extend(features.iter().cloned());
    }
    if let Some(optional) = own.get("optional") {
        merged.insert("optional".to_owned(), optional.clone());
    }
    Ok(Value::Table(merged))
}

/// The names of what the crate always depends on.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let Some(all) = manifest.get("dependencies").and_then(Value::as_table) else {
        return BTreeSet::new();
    };
    let optional = |value: &Value| value.get("optional").and_then(Value::as_bool) == Some(true);
    all.iter()
        .filter(|(_, value)| !optional(value))
        .map(|(name, _)| name.clone())
        .collect()
}

/// The manifest as text, with the package first, as people write it.
fn text(mut manifest: Table) -> Outcome<String> {
    let package = manifest.remove("package").ok_or("a package")?;
    let first = Table::from_iter([("package".to_owned(), package)]);
    Ok(format!(
        "{}\n{}",
        toml::to_string(&first)?,
        toml::to_string(&manifest)?
    ))
}

/// The part of the lock file that the crates need, as `[[package]]` sections.
///
/// It may have a little more, since the workspace uses more features of some crates than a guest
/// does: cargo leaves that out when it first reads the file.
fn locked(lock: &Table, ours: &BTreeMap<String, BTreeSet<String>>) -> Outcome<String> {
    let packages = lock["package"]
        .as_array()
        .ok_or("the lock file has packages")?;
    let field = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let mut wanted: BTreeSet<usize> = BTreeSet::new();
    let mut next: Vec<String> = ours.keys().cloned().collect();
    while let Some(reference) = next.pop() {
        // `name`, or `name version` where there are several.
        let mut words = reference.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let found = packages.iter().position(|package| {
            field(package, "name") == name
                && version.is_none_or(|version| field(package, "version") == version)
        });
        let index = found.ok_or_else(|| format!("{reference} is not locked"))?;
        if wanted.insert(index) {
            next.extend(references(&packages[index], ours));
        }
    }
    let mut kept = Vec::new();
    for index in wanted {
        let mut package = packages[index]
            .as_table()
            .ok_or("a package is a table")?
            .clone();
        let references = references(&packages[index], ours);
        if package.remove("dependencies").is_some() && !references.is_empty() {
            let references = references.into_iter().map(Value::String).collect();
            package.insert("dependencies".to_owned(), Value::Array(references));
        }
        kept.push(Value::Table(package));
    }
    let kept = Table::from_iter([("package".to_owned(), Value::Array(kept))]);
    Ok(toml::to_string(&kept)?)
}

/// What a locked package depends on; of ours without what only tests need.
fn references(package: &Value, ours: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let kept = package["name"].as_str().and_then(|name| ours.get(name));
    let all = package.get("dependencies").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|reference| {
            let name = reference.split(' ').next().unwrap_or_default();
            kept.is_none_or(|kept| kept.contains(name))
        })
        .map(str::to_owned)
        .collect()
}
