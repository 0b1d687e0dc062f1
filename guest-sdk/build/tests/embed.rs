//! A guest embedded from a build script, in the environment that cargo and clippy give those.

mod common;

use std::path::Path;
use std::process::Command;

const GUEST: &str = "SPORE_BUILD_TEST_GUEST";

#[test]
fn a_build_script_embeds_a_guest() {
    let target = common::scratch("embed");
    common::write(&target.join("CACHEDIR.TAG"), "");
    let out_dir = target.join("debug/build/program-0123/out");
    std::fs::create_dir_all(&out_dir).expect("it is ours");
    let guest = common::workspace().join("examples/closure/guest");

    let output = Command::new(std::env::current_exe().expect("this test is a file"))
        .args([
            "as_a_build_script",
            "--exact",
            "--include-ignored",
            "--nocapture",
        ])
        .env(GUEST, &guest)
        .env("OUT_DIR", &out_dir)
        .env("TARGET", "x86_64-unknown-linux-gnu")
        // Any of these would break the inner build, or change its result.
        .env("RUSTFLAGS", "--no-such-flag")
        .env("CARGO_ENCODED_RUSTFLAGS", "--no-such-flag")
        .env("CARGO_BUILD_RUSTFLAGS", "--no-such-flag")
        .env("CARGO_TARGET_DIR", "/proc/nowhere")
        .env("RUSTC_WRAPPER", "/no/such/wrapper")
        .env("RUSTC_WORKSPACE_WRAPPER", "/no/such/wrapper")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_MAKEFLAGS", "--jobserver-auth=fifo:/no/such/fifo")
        .output()
        .expect("this test can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    for source in [
        &guest,
        &common::workspace().join("value"),
        &common::workspace().join("guest-sdk"),
    ] {
        let line = format!("cargo::rerun-if-changed={}", source.join("src").display());
        assert!(said.contains(&line), "{line} is not in\n{said}");
    }
    assert!(!said.contains("cargo::warning"), "{said}");
    let embedded = std::fs::read(out_dir.join("closure.spore")).expect("it was written");
    // What was set around it made no difference.
    let built = spore_build::Guest::at(&guest)
        .target_dir(common::target_dir())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(embedded, built.bundle.encode());
    // It was compiled where the outer cargo's `clean` removes it, and not in its way.
    assert!(target.join("spore-guests").is_dir());
}

#[cfg(unix)]
#[test]
fn a_toolchain_without_the_target_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = common::scratch("no-target");
    let rustc = folder.join("rustc");
    common::write(
        &rustc,
        "#!/bin/sh\necho /the/toolchain\necho /the/toolchain/lib/wasm\n",
    );
    std::fs::set_permissions(&rustc, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let output = Command::new(std::env::current_exe().expect("this test is a file"))
        .args([
            "as_a_build_script",
            "--exact",
            "--include-ignored",
            "--nocapture",
        ])
        .env(GUEST, common::workspace().join("examples/closure/guest"))
        .env("OUT_DIR", &folder)
        .env("RUSTC", &rustc)
        .output()
        .expect("this test can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    let error = said
        .lines()
        .find(|line| line.starts_with("cargo::error="))
        .unwrap_or(&said);
    assert!(error.contains("/the/toolchain "), "{error}");
    assert!(
        error.contains("`rustup target add wasm32-wasip1`"),
        "{error}"
    );
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn as_a_build_script() {
    let guest = std::env::var_os(GUEST).expect("the test above sets it");
    spore_build::embed(Path::new(&guest));
}

#[test]
fn only_build_scripts_embed() {
    let refusal = spore_build::try_embed("nowhere").expect_err("this is a test");
    assert!(
        matches!(refusal, spore_build::EmbedError::NoOutDir),
        "{refusal:?}"
    );
}
