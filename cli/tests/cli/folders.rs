//! Where a user's files are when the environment does not put them into one folder.

use std::fs;
use std::path::Path;

use crate::common::{User, guests, text};

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("readable").file_name())
        .map(|name| name.into_string().expect("text"))
        .collect();
    names.sort();
    names
}

/// Uses all files that there are, and looks for them in these folders.
fn all_files_are_in(user: &User, config: &Path, data: &Path) {
    fs::create_dir_all(config).expect("it is ours");
    fs::write(config.join("spore.toml"), "[limits]\nwall = \"7s\"\n").expect("it is ours");
    let mut host = user.host();
    let hello = text(&guests().hello);
    let trusting = ["--trust", &host.key];
    let sent = user.spore(
        ["send", hello, "--to", &host.address]
            .iter()
            .chain(&trusting),
    );
    let id = sent.ok().trim_end().to_owned();
    let status = user.spore(["status", &host.address, "--json"]).json();
    assert_eq!(status["limits"]["wall_ms"], 7_000, "{status}");

    let files = names(config);
    for expected in [
        "authorized_keys",
        "host.pem",
        "identity.pem",
        "known_hosts",
        "spore.toml",
    ] {
        assert!(files.iter().any(|name| name == expected), "{files:?}");
    }
    let keys = fs::read_to_string(config.join("authorized_keys")).expect("it is there");
    assert!(keys.contains(&user.key()), "{keys}");
    assert_eq!(names(data), ["kept", "store"]);
    let blob = data.join("store/blobs").join(&id[..2]).join(&id);
    assert!(blob.is_file(), "{blob:?}");
    let listed = user.spore(["store", "ls"]).ok();
    assert!(listed.contains(&id), "{listed}");
    host.signal("TERM");
    assert_eq!(host.wait(), Some(0));
}

#[test]
fn keys_and_configuration_are_where_xdg_has_them_and_the_store_where_data_is() {
    let user = User::with_variables(&[
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
    ]);
    let [config, data] = ["config/spore", "data/spore"].map(|name| user.path(name));
    all_files_are_in(&user, &config, &data);
    assert!(!user.path("home").exists(), "nothing is put beside them");
    assert_eq!(names(&user.path("config")), ["spore"]);
    assert_eq!(names(&user.path("data")), ["spore"]);
}

#[test]
fn without_xdg_folders_they_are_in_the_usual_ones_of_the_home() {
    let user = User::with_variables(&[("HOME", "home")]);
    let [config, data] =
        [".config/spore", ".local/share/spore"].map(|name| user.path("home").join(name));
    all_files_are_in(&user, &config, &data);
    assert_eq!(names(&user.path("home")), [".config", ".local"]);
}

#[test]
fn one_folder_has_them_all_where_spore_home_names_it() {
    let user = User::with_variables(&[
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("SPORE_HOME", "spore"),
    ]);
    let shown = user.spore(["key", "show"]).ok();
    assert_eq!(names(&user.path("spore")), ["identity.pem"]);
    for other in ["home", "config", "data"] {
        assert!(!user.path(other).exists(), "{other}");
    }

    // Empty, it names none.
    let mut command = user.command();
    command.env("SPORE_HOME", "").args(["key", "show"]);
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{output:?}");
    assert_ne!(output.stdout, shown.as_bytes());
    assert_eq!(names(&user.path("config/spore")), ["identity.pem"]);
}
