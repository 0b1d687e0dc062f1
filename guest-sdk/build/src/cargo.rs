//! Runs cargo as if it were called from a terminal, whatever it is called from.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::guest::BuildError;

/// The target that guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip1";

/// How guests are compiled, whatever their workspace says: settings of the profile `release`.
///
/// Debug information goes, names stay: backtraces are made of them.
const PROFILE: [(&str, &str); 11] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("DEBUG", "0"),
    ("STRIP", "debuginfo"),
    ("INCREMENTAL", "false"),
    ("RPATH", "false"),
    ("OVERFLOW_CHECKS", "false"),
    ("DEBUG_ASSERTIONS", "false"),
    ("SPLIT_DEBUGINFO", "off"),
];

/// Cargo and rustc, run in the guest's folder with an environment of their own.
pub(crate) struct Cargo {
    /// The guest's folder, where rustup looks for the toolchain that the guest asks for
    folder: PathBuf,
    show_progress: bool,
}

/// What came of compiling a guest.
pub(crate) struct Compiled {
    pub(crate) wasm: PathBuf,
    /// As rendered by the compiler
    pub(crate) warnings: Vec<String>,
    /// Files of crates from paths that went into it
    pub(crate) sources: BTreeSet<PathBuf>,
}

/// The toolchain that a guest is compiled with.
pub(crate) struct Toolchain {
    pub(crate) sysroot: PathBuf,
    /// The commit that the compiler was built from, if it says
    pub(crate) commit: Option<String>,
}

impl Cargo {
    pub(crate) fn new(folder: PathBuf, show_progress: bool) -> Self {
        Self {
            folder,
            show_progress,
        }
    }

    /// `cargo SUBCOMMAND --manifest-path MANIFEST`
    pub(crate) fn command(&self, subcommand: &str, manifest: &Path) -> Command {
        // In a build script `CARGO` is the cargo that runs it.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.clean(&cargo);
        command.arg(subcommand).arg("--manifest-path").arg(manifest);
        command
    }

    /// A command without what an outer cargo, or a tool around it such as clippy, has set.
    fn clean(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| !is_kept(name)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command and collects what it prints.
    pub(crate) fn output(&self, mut command: Command) -> Result<Output, BuildError> {
        command.output().map_err(|source| BuildError::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })
    }

    /// The toolchain that cargo will use in the guest's folder.
    ///
    /// # Errors
    /// When it lacks the target.
    pub(crate) fn toolchain(&self) -> Result<Toolchain, BuildError> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = self.clean(&rustc);
        command.args([
            "--print",
            "sysroot",
            "--print",
            "target-libdir",
            "--target",
            TARGET,
        ]);
        let output = self.output(command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let (Some(sysroot), Some(libraries)) = (lines.next(), lines.next()) else {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(BuildError::Rustc { message });
        };
        if !Path::new(libraries).is_dir() {
            return Err(BuildError::NoTarget {
                sysroot: sysroot.into(),
            });
        }
        let mut command = self.clean(&rustc);
        command.arg("-vV");
        let version = self.output(command)?;
        let commit = String::from_utf8_lossy(&version.stdout)
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: "))
            .map(str::to_owned);
        Ok(Toolchain {
            sysroot: sysroot.into(),
            commit,
        })
    }

    /// Compiles the library of the crate at `manifest` to a module.
    pub(crate) fn compile(
        &self,
        manifest: &Path,
        target_dir: &Path,
        rustflags: &str,
    ) -> Result<Compiled, BuildError> {
        // The type is given here, so that the crate need not be a `cdylib` for native programs
        // too, and so that cargo optimises across crates, which it does for no mixture of types.
        let mut command = self.command("rustc", manifest);
        command
            .args([
                "--lib",
                "--crate-type",
                "cdylib",
                "--release",
                "--target",
                TARGET,
            ])
            .args(["--message-format", "json"])
            .arg("--target-dir")
            .arg(target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags);
        for (setting, value) in PROFILE {
            command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        if self.show_progress {
            command.stderr(Stdio::inherit());
        } else {
            command.stderr(Stdio::piped());
        }
        let output = self.output(command)?;
        let mut warnings = Vec::new();
        let mut errors = Vec::new();
        let mut wasm = None;
        for line in output.stdout.split(|&byte| byte == b'\n') {
            // A build script or macro may print what is no message.
            let Ok(message) = serde_json::from_slice::<Message>(line) else {
                continue;
            };
            match message {
                Message::Diagnostic {
                    message: Diagnostic { level, rendered },
                } => {
                    let rendered = rendered.unwrap_or_default();
                    if level == "warning" {
                        warnings.push(rendered);
                    } else if level.starts_with("error") {
                        errors.push(rendered);
                    }
                }
                Message::Artifact {
                    manifest_path,
                    filenames,
                } => {
                    if manifest_path == manifest {
                        let is_wasm = |file: &PathBuf| file.extension() == Some("wasm".as_ref());
                        wasm = filenames.into_iter().find(is_wasm).or(wasm);
                    }
                }
                Message::Other => {}
            }
        }
        match wasm {
            Some(wasm) if output.status.success() => {
                let sources = sources(&wasm.with_extension("d"));
                Ok(Compiled {
                    wasm,
                    warnings,
                    sources,
                })
            }
            _ => {
                if errors.is_empty() && self.show_progress {
                    errors.push("cargo has said why above".to_owned());
                } else if errors.is_empty() {
                    errors.push(String::from_utf8_lossy(&output.stderr).into_owned());
                }
                Err(BuildError::Compile {
                    messages: errors.concat().trim_end().to_owned(),
                })
            }
        }
    }
}

/// Whether a variable of the environment stays for an inner cargo.
///
/// Those of an outer build go, and so do those that would change what is compiled. How cargo
/// reaches registries, and which toolchain is used, stays.
fn is_kept(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "HOME",
        "HTTP_",
        "NET_",
        "REGISTRIES_",
        "REGISTRY_",
        "SOURCE_",
        "TERM_",
    ];
    const DROPPED: [&str; 15] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "RUSTC_LINKER",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "NUM_JOBS",
        "PROFILE",
        "MAKEFLAGS",
        "SOURCE_DATE_EPOCH",
    ];
    match name.strip_prefix("CARGO_") {
        Some(rest) => KEPT.iter().any(|kept| rest.starts_with(kept)),
        None => !DROPPED.contains(&name),
    }
}

#[derive(Deserialize)]
#[serde(tag = "reason")]
enum Message {
    #[serde(rename = "compiler-message")]
    Diagnostic { message: Diagnostic },
    #[serde(rename = "compiler-artifact")]
    Artifact {
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

/// The files that cargo's dependency file beside an artifact names. Without it there are none,
/// and the folders of the crates' sources have to do.
fn sources(file: &Path) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, names)| names_of(names))
        .collect()
}

/// Splits names at blanks; a blank within one follows a `\`.
fn names_of(list: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next_if_eq(&' ').is_some() => name.push(' '),
            ' ' => names.push(std::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    names.push(name);
    names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_build_leaves_no_trace() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
        ] {
            assert!(!is_kept(name), "{name}");
        }
        for name in [
            "CARGO_MAKEFLAGS",
            "CARGO_PKG_NAME",
            "RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(!is_kept(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
            "PATH",
            "RUSTC",
        ] {
            assert!(is_kept(name), "{name}");
        }
    }

    #[test]
    fn blanks_in_names_are_escaped() {
        let names = names_of(r"/a/lib.rs /a\ b/c.csv C:\x");
        assert_eq!(
            names,
            ["/a/lib.rs", "/a b/c.csv", r"C:\x"].map(PathBuf::from)
        );
    }
}
