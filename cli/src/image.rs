//! Images as people and scripts read them.

use std::path::Path;

use serde_json::{Value as Json, json};
use spore_bundle::image::{BLOCK_BYTES, Image, PAGE_BYTES};
use spore_client::Bundle;

use crate::arguments::BUNDLE_LIMITS;
use crate::output::{plain, size};

/// Changed regions that are shown to people.
const REGIONS_SHOWN_MAX: usize = 10;

/// Blocks that follow one another: the first address, and the bytes.
pub(crate) type Region = (u64, u64);

/// Regions of these blocks, whose numbers ascend.
pub(crate) fn regions(numbers: impl Iterator<Item = u32>) -> Vec<Region> {
    let block = BLOCK_BYTES as u64;
    let mut regions: Vec<Region> = Vec::new();
    for number in numbers {
        let address = u64::from(number) * block;
        match regions.last_mut() {
            Some((first, bytes)) if *first + *bytes == address => *bytes += block,
            _ => regions.push((address, block)),
        }
    }
    regions
}

/// The largest regions, the largest first.
pub(crate) fn largest(regions: &[Region], count: usize) -> Vec<Region> {
    let mut largest = regions.to_vec();
    largest.sort_by_key(|(address, bytes)| (std::cmp::Reverse(*bytes), *address));
    largest.truncate(count);
    largest
}

/// A line for each region.
pub(crate) fn region_lines(regions: &[Region], indent: &str) -> Vec<String> {
    let line = |(address, bytes): &Region| format!("{indent}{address:#010x}  {}", size(*bytes));
    regions.iter().map(line).collect()
}

pub(crate) fn regions_json(regions: &[Region]) -> Json {
    let each = |(address, bytes): &Region| json!({ "address": address, "bytes": bytes });
    regions.iter().map(each).collect()
}

/// What an image holds, for people.
pub(crate) fn text(image: &Image, callables: &[spore_bundle::Callable]) -> String {
    let index = image.index();
    let name = |callable: u32| match callables.get(callable as usize) {
        Some(callable) => plain(&callable.name),
        None => format!("callable {callable}"),
    };
    let regions = regions(image.blocks().map(|(number, ..)| number));
    let mut text = format!(
        "\nimage\n  memory   {}, of which {} differ from a fresh instance\n  blocks   {} in {} \
         regions, {} of them different\n  globals  {} changed\n",
        size(u64::from(index.memory_pages) * PAGE_BYTES),
        size(image.changed_bytes()),
        index.numbers.len(),
        regions.len(),
        index.distinct_blocks(),
        index.globals.len(),
    );
    for bound in &index.bound {
        text.push_str(&format!("  bound    {}\n", name(bound.callable)));
    }
    if let Some(run) = &index.run {
        text.push_str(&format!("  runs     {}\n", name(run.callable)));
    }
    if !index.directories.is_empty() {
        text.push_str(&format!(
            "  sees     {}\n",
            plain(&index.directories.join(", "))
        ));
    }
    if !regions.is_empty() {
        text.push_str("  largest changed regions\n");
        for line in region_lines(&largest(&regions, REGIONS_SHOWN_MAX), "    ") {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

/// What an image holds, for scripts.
pub(crate) fn json(image: &Image) -> Json {
    let index = image.index();
    json!({
        "memory_bytes": u64::from(index.memory_pages) * PAGE_BYTES,
        "changed_bytes": image.changed_bytes(),
        "blocks": index.numbers.len(),
        "distinct_blocks": index.distinct_blocks(),
        "globals": index.globals.len(),
        "directories": index.directories,
        "bound": index.bound.iter().map(|bound| bound.callable).collect::<Vec<_>>(),
        "runs": index.run.map(|run| run.callable),
        "regions": regions_json(&regions(image.blocks().map(|(number, ..)| number))),
    })
}

/// What was saved to a file before, if that can be read: what it has need not travel again.
pub(crate) fn saved_before(path: &Path) -> Option<Bundle> {
    let bundle = Bundle::open_with(path, &BUNDLE_LIMITS).ok()?;
    bundle.inner().image().is_some().then_some(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_follow_one_another_are_one_region() {
        let all = regions([0, 1, 5, 7, 8, 9].into_iter());
        assert_eq!(all, [(0, 8192), (20480, 4096), (28672, 12288)]);
        assert_eq!(largest(&all, 2), [(28672, 12288), (0, 8192)]);
    }
}
