//! Compiles the guest for Wasm and embeds its bundle.

fn main() {
    spore_build::embed("../guest");
}
