//! The built command, as a person or a script uses it.

mod common;
mod crates;
mod folders;
mod hosts;
mod jobs;
mod keys;
mod runs;
mod stores;
mod trust;
