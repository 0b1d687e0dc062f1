//! Compiles the guests for Wasm and embeds their bundles.

fn main() {
    spore_build::embed("guest");
    spore_build::embed("table");
}
