//! `spore store`: what a host keeps on disk.

use serde_json::json;

use crate::common::{User, guests, text};

#[test]
fn blobs_are_listed_removed_and_shrunk() {
    let user = User::new();
    assert_eq!(user.spore(["store", "ls"]).ok(), "0 blobs, 0 bytes\n");

    let mut host = user.host();
    let id = user.spore([
        "send",
        text(&guests().hello),
        "--to",
        &host.address,
        "--trust",
        &host.key,
    ]);
    let id = id.ok().trim_end().to_owned();
    // Looking is allowed while the host runs, and changing is not.
    let listed = user.spore(["store", "ls", "--json"]).json();
    let blobs = listed.as_array().expect("a list");
    assert_eq!(blobs.len(), 2, "{listed}");
    let bundle = blobs
        .iter()
        .find(|blob| blob["id"] == *id)
        .expect("the manifest");
    assert_eq!(
        bundle["bundle"],
        json!({ "name": "hello", "version": "0.1.0" })
    );
    assert_eq!(bundle["owners"], json!([user.key()]));
    let said = user.spore(["store", "rm", &id]).failed(5);
    assert!(said.contains("in use by a running host"), "{said}");
    host.signal("TERM");
    assert_eq!(host.wait(), Some(0));

    user.spore(["store", "rm", &id]).ok();
    let said = user.spore(["store", "rm", &id]).failed(2);
    assert!(said.contains("has no blob"), "{said}");
    let shown = user.spore(["store", "ls"]).ok();
    assert!(
        shown.contains("1 blobs, ") && !shown.contains(&id),
        "{shown}"
    );
    let said = user.spore(["store", "gc"]).ok();
    assert!(said.starts_with("0 removed; 1 blobs left"), "{said}");
    let said = user.spore(["store", "gc", "--max", "1KiB"]).ok();
    assert!(
        said.ends_with("1 removed; 0 blobs left, 0 bytes\n"),
        "{said}"
    );
}
