//! Compiles the guests for Wasm and embeds their bundles.

fn main() {
    spore_build::embed("guests/hostile");
    spore_build::embed("guests/keeper");
    spore_build::embed("guests/plain");
}
