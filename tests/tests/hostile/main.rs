//! What hostile files, guests, peers and users are answered.

mod asking;
mod file;
mod guest;
mod host;
mod image;
mod module;
mod other_keys;
mod peer;
mod requests;
mod strangers;
mod wasi;
