//! What travels: code, state and manifest in one Wasm binary.
