//! `spore diff`: what tells two bundles apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use spore_bundle::image::{BLOCK_BYTES, Image};
use spore_bundle::{Callable, Grant};
use spore_client::Bundle;
use spore_value::{Limits, json as values, signature_difference};

use crate::arguments::BUNDLE_LIMITS;
use crate::exit::Failure;
use crate::image;
use crate::output::{self, plain, size};

/// Regions of memory that are shown to people; `--json` has all of them.
const REGIONS_SHOWN_MAX: usize = 10;

/// Tell two bundles apart: code, interface, captures, memory and what else an image holds
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore diff before.spore after.spore
  spore diff a.spore b.spore --json | jq .memory

Exits with 0 also when they differ; \"same\" in the JSON says whether they do.
Nothing of the bundles is run.")]
pub(crate) struct Diff {
    /// One bundle
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What was found: lines for people, and the same for scripts.
struct Difference {
    lines: Vec<String>,
    json: Json,
}

impl Diff {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let open = |path| Bundle::open_with(path, &BUNDLE_LIMITS);
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        let found = difference(&a, &b);
        if self.json {
            return output::print_json(&found.json);
        }
        let mut text = format!("a  {}\nb  {}\n", row(&self.a, &a), row(&self.b, &b));
        for line in found.lines {
            text.push_str(&line);
            text.push('\n');
        }
        output::print(&text)
    }
}

fn row(path: &Path, bundle: &Bundle) -> String {
    format!("{}  {}", bundle.id(), plain(&path.display().to_string()))
}

fn difference(a: &Bundle, b: &Bundle) -> Difference {
    let same = a.id() == b.id();
    let mut lines = Vec::new();
    if same {
        lines.push("the same bundle".to_owned());
    }
    let (a, b) = (a.inner(), b.inner());
    let guest = guest(a, b, &mut lines);
    let code = code(a, b, &mut lines);
    let interface = interface(a, b, &mut lines);
    let captures = captures(a, b, &mut lines);
    let memory = memory(a.image(), b.image(), &mut lines);
    let beside = match (a.image(), b.image()) {
        (Some(_), Some(_)) => beside([a, b], &mut lines),
        _ => Json::Null,
    };
    let json = json!({
        "same": same,
        "a": a.id().to_string(),
        "b": b.id().to_string(),
        "guest": guest,
        "code": code,
        "interface": interface,
        "captures": captures,
        "memory": memory,
        "beside_memory": beside,
    });
    Difference { lines, json }
}

/// What the guest calls itself.
fn guest(a: &spore_bundle::Bundle, b: &spore_bundle::Bundle, lines: &mut Vec<String>) -> Json {
    let named = |bundle: &spore_bundle::Bundle| {
        let manifest = bundle.manifest();
        format!("{} {}", manifest.name, manifest.version)
    };
    let (a, b) = (named(a), named(b));
    if a != b {
        lines.push(format!("guest      a {}, b {}", plain(&a), plain(&b)));
    }
    json!({ "a": a, "b": b })
}

fn code(a: &spore_bundle::Bundle, b: &spore_bundle::Bundle, lines: &mut Vec<String>) -> Json {
    let same = a.code_id() == b.code_id();
    if !same {
        lines.push(format!(
            "code       a {} ({}), b {} ({})",
            a.code_id().short(),
            size(a.code().len() as u64),
            b.code_id().short(),
            size(b.code().len() as u64)
        ));
    } else if a != b {
        lines.push("code       the same".to_owned());
    }
    json!({ "same": same, "a": a.code_id().to_string(), "b": b.code_id().to_string() })
}

fn by_name(bundle: &spore_bundle::Bundle) -> BTreeMap<&str, &Callable> {
    let callables = bundle.manifest().callables.iter();
    callables.map(|it| (it.name.as_str(), it)).collect()
}

fn interface(a: &spore_bundle::Bundle, b: &spore_bundle::Bundle, lines: &mut Vec<String>) -> Json {
    let mut changes = Vec::new();
    for (hook, of) in [
        ("init", [&a.manifest().init, &b.manifest().init]),
        ("restored", [&a.manifest().restored, &b.manifest().restored]),
    ] {
        let what = match of {
            [Some(_), None] => "only in a",
            [None, Some(_)] => "only in b",
            [a, b] if a != b => "another function",
            _ => continue,
        };
        lines.push(format!("interface  #[{hook}]: {what}"));
        changes.push(json!({ "hook": hook, "difference": what }));
    }
    let (a, b) = (by_name(a), by_name(b));
    let names: BTreeSet<_> = a.keys().chain(b.keys()).copied().collect();
    for name in names {
        let what = match (a.get(name), b.get(name)) {
            (Some(_), None) => "only in a".to_owned(),
            (None, Some(_)) => "only in b".to_owned(),
            (Some(a), Some(b)) => match callable(a, b) {
                Some(what) => what,
                None => continue,
            },
            (None, None) => unreachable!("each name is from one of them"),
        };
        lines.push(format!("interface  {}: {}", plain(name), plain(&what)));
        changes.push(json!({ "callable": name, "difference": what }));
    }
    changes.into()
}

/// What an image has beside memory and globals.
fn beside(bundles: [&spore_bundle::Bundle; 2], lines: &mut Vec<String>) -> Json {
    let indices = bundles.map(|it| it.image().expect("both have one").index());
    let mut told = serde_json::Map::new();
    let mut tell = |name: &str, shown: [String; 2], json: [Json; 2]| {
        let [a, b] = shown;
        if a != b {
            lines.push(format!("{name:<10} a {a}, b {b}"));
        }
        let [a, b] = json;
        told.insert(name.to_owned(), json!({ "a": a, "b": b }));
    };
    tell(
        "clock",
        indices.map(|it| format!("{} ns", it.clock_ns)),
        indices.map(|it| it.clock_ns.into()),
    );
    // A key is no secret of the file's, and says nothing to anyone.
    let place = indices.map(|it| it.random.map(|random| random.position));
    let same_key = indices[0].random.map(|it| it.key) == indices[1].random.map(|it| it.key);
    let random = place.map(|place| match place {
        Some(place) => format!("drew {place} words"),
        None => "new ones".to_owned(),
    });
    let random = match random {
        [a, b] if !same_key && place.iter().all(Option::is_some) => {
            [a, format!("{b} of another seed")]
        }
        random => random,
    };
    let seeded =
        place.map(|place| place.map(|words| json!({ "words": words, "same_seed": same_key })));
    tell("random", random, seeded.map(Json::from));
    tell(
        "sees",
        indices.map(|it| match it.directories.is_empty() {
            true => "nothing".to_owned(),
            false => plain(&it.directories.join(", ")),
        }),
        indices.map(|it| it.directories.clone().into()),
    );
    let runs = bundles.map(|it| {
        let run = it.image().and_then(|image| image.index().run)?;
        let callable = it.manifest().callables.get(run.callable as usize)?;
        Some((callable.name.clone(), run.items))
    });
    tell(
        "runs",
        runs.each_ref().map(|run| match run {
            Some((name, 0)) => plain(name),
            Some((name, items)) => format!("{}, {items} items emitted", plain(name)),
            None => "nothing".to_owned(),
        }),
        runs.map(|run| {
            run.map_or(
                Json::Null,
                |(name, items)| json!({ "callable": name, "items": items }),
            )
        }),
    );
    told.into()
}

/// What tells two callables of a name apart.
fn callable(a: &Callable, b: &Callable) -> Option<String> {
    if let Some(difference) = signature_difference(&a.signature, &b.signature) {
        return Some(difference.to_string());
    }
    let grants = |it: &Callable| {
        let grants: Vec<_> = it.grants.iter().map(Grant::to_string).collect();
        match grants.is_empty() {
            true => "nothing".to_owned(),
            false => grants.join(", "),
        }
    };
    if a.grants != b.grants {
        return Some(format!("a asks for {}, b for {}", grants(a), grants(b)));
    }
    let flags = |it: &Callable| (it.consumes_captures, it.resumable, it.streams);
    if flags(a) != flags(b) {
        return Some("it is called in another way".to_owned());
    }
    (a.docs != b.docs).then(|| "other documentation".to_owned())
}

/// The captures by name, each as JSON, and whose they are.
fn bound(bundle: &spore_bundle::Bundle) -> Option<(String, BTreeMap<String, Json>)> {
    let callables = &bundle.manifest().callables;
    let Some((index, bytes)) = bundle.captures() else {
        // What an image has bound lies in its memory, and has no form to compare.
        let bound = bundle.image()?.index().bound.first()?.callable;
        return Some((callables[bound as usize].name.clone(), BTreeMap::new()));
    };
    let callable = &callables[index as usize];
    let (captures, types) = (
        &callable.signature.captures,
        &callable.signature.definitions,
    );
    // Captures that are no values of their types have no form to compare; their ids tell.
    let shown = values::parameters_to_json(captures, types, bytes, &Limits::default());
    let shown = shown.unwrap_or_default().into_iter().collect();
    Some((callable.name.clone(), shown))
}

fn captures(a: &spore_bundle::Bundle, b: &spore_bundle::Bundle, lines: &mut Vec<String>) -> Json {
    let other_bytes = match (a.captures(), b.captures()) {
        (Some((_, a)), Some((_, b))) => a != b,
        _ => false,
    };
    let (a, b) = (bound(a), bound(b));
    let mut changes = Vec::new();
    let mut change = |line: String, json: Json| {
        lines.push(format!("captures   {line}"));
        changes.push(json);
    };
    let callable = |it: &Option<(String, _)>| it.as_ref().map(|(callable, _)| callable.clone());
    if callable(&a) != callable(&b) {
        let name = |it: &Option<(String, _)>| match it {
            Some((callable, _)) => plain(callable),
            None => "nothing".to_owned(),
        };
        change(
            format!("a binds {}, b binds {}", name(&a), name(&b)),
            json!({ "a": callable(&a), "b": callable(&b) }),
        );
    } else if let (Some((_, a)), Some((_, b))) = (&a, &b) {
        let in_both = a.keys().filter(|name| b.contains_key(*name));
        for name in in_both.filter(|name| !looks_same(a.get(*name), b.get(*name))) {
            let of = |it: &BTreeMap<String, Json>| it.get(name).cloned().unwrap_or(Json::Null);
            let (a, b) = (of(a), of(b));
            change(
                format!(
                    "{}: a {}, b {}",
                    plain(name),
                    output::shortened(&a),
                    output::shortened(&b)
                ),
                json!({ "capture": name, "a": a, "b": b }),
            );
        }
    }
    // As NaNs of other bits have, or what is no value of its type.
    if other_bytes && changes.is_empty() {
        lines.push("captures   other bytes, which look the same as JSON".to_owned());
        changes.push(json!({ "difference": "other bytes" }));
    }
    changes.into()
}

/// Whether two values are written the same: as numbers, 0.0 and -0.0 are equal.
fn looks_same(a: Option<&Json>, b: Option<&Json>) -> bool {
    a.map(Json::to_string) == b.map(Json::to_string)
}

fn memory(a: Option<&Image>, b: Option<&Image>, lines: &mut Vec<String>) -> Json {
    let (a, b) = match (a, b) {
        (None, None) => return Json::Null,
        (Some(a), Some(b)) => (a, b),
        (a, _) => {
            let which = if a.is_some() { "a" } else { "b" };
            lines.push(format!("memory     only {which} has an image"));
            return json!({ "only": which });
        }
    };
    let blocks = |image: &Image| -> BTreeMap<u32, _> {
        let blocks = image.blocks();
        blocks
            .map(|(number, id, _)| (number, *id))
            .collect::<BTreeMap<_, _>>()
    };
    let (in_a, in_b) = (blocks(a), blocks(b));
    let numbers: BTreeSet<u32> = in_a.keys().chain(in_b.keys()).copied().collect();
    let numbers: Vec<u32> = numbers
        .into_iter()
        .filter(|number| in_a.get(number) != in_b.get(number))
        .collect();
    let globals = |image: &Image| image.index().globals.clone();
    let pages = (a.index().memory_pages, b.index().memory_pages);
    if pages.0 != pages.1 {
        lines.push(format!("memory     a has {} pages, b {}", pages.0, pages.1));
    }
    let regions = image::regions(numbers.iter().copied());
    let bytes = (numbers.len() * BLOCK_BYTES) as u64;
    if !regions.is_empty() {
        let count = regions.len();
        lines.push(format!(
            "memory     {} in blocks that differ, in {count} regions",
            size(bytes)
        ));
        let shown = image::largest(&regions, REGIONS_SHOWN_MAX);
        lines.extend(image::region_lines(&shown, "             "));
    }
    if globals(a) != globals(b) {
        lines.push("globals    differ".to_owned());
    }
    json!({
        "pages": { "a": pages.0, "b": pages.1 },
        "bytes": bytes,
        "regions": image::regions_json(&regions),
        "globals_same": globals(a) == globals(b),
    })
}
