//! Compiles a guest crate into a bundle.
