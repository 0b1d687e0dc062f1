//! The built command, as a person or a script uses it.

mod common;
mod controls;
mod crates;
mod diffs;
mod folders;
mod hosts;
mod images;
mod jobs;
mod keys;
mod moves;
mod runs;
mod sessions;
mod stores;
mod trust;
