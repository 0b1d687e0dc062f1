//! Runs bundles in wasmtime.
