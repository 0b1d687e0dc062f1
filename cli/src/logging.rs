//! Structured logs on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::exit::Failure;

/// The environment variable with the level, or a filter as `tracing` has them.
pub(crate) const VARIABLE: &str = "SPORE_LOG";

/// Logs of a client: none, unless the environment asks for them.
pub(crate) fn for_client() {
    if let Ok(filter) = EnvFilter::try_from_env(VARIABLE) {
        start(filter, false);
    }
}

/// Logs of a host, from `--log`, the environment, or else of the level `info`.
pub(crate) fn for_host(asked: Option<&str>, json: bool) -> Result<(), Failure> {
    let from_environment = std::env::var(VARIABLE).ok();
    let text = asked.or(from_environment.as_deref()).unwrap_or("info");
    let wrong = |why: &str| {
        Failure::usage(format!("{text:?} is no level for logs{why}"))
            .help("levels are error, warn, info, debug and trace; also TARGET=LEVEL,…")
    };
    // A word alone would be taken for the name of a target, and nothing else be logged.
    let is_word = !text.contains(['=', ',', '[', ':']);
    if is_word && text.parse::<LevelFilter>().is_err() {
        return Err(wrong(""));
    }
    let filter = EnvFilter::try_new(text).map_err(|error| wrong(&format!(": {error}")))?;
    start(filter, json);
    Ok(())
}

fn start(filter: EnvFilter, json: bool) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if json {
        builder.json().init()
    } else {
        builder.init()
    }
}
