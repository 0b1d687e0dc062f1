//! Compiles a guest crate into a bundle.
//!
//! In the build script of a native program:
//!
//! ```no_run
//! spore_build::embed("../guest");
//! ```
//!
//! and in the program itself, for a guest crate named `closure`:
//!
//! ```ignore
//! const CLOSURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/closure.spore"));
//! ```
//!
//! Elsewhere, as `spore build` does it:
//!
//! ```no_run
//! let built = spore_build::Guest::at("../guest").build()?;
//! std::fs::write(format!("{}.spore", built.name), built.bundle.encode())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Compiling is a cargo inside the one that may be running already, with a target folder of its
//! own, so that neither waits for the other. The same source gives the same bytes in any folder and
//! on any machine with the same toolchain: see [`Guest::build`].

#![forbid(unsafe_code)]

mod cargo;
mod embed;
mod guest;
mod project;
mod remap;
mod sandbox;

pub use embed::{EmbedError, embed, try_embed};
pub use guest::{BuildError, Built, Guest};
pub use sandbox::{DescribeError, describe};
