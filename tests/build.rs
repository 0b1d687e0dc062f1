//! Compiles the guests for Wasm and embeds their bundles.

fn main() {
    for example in ["closure", "counter", "risk"] {
        spore_build::embed(format!("../examples/{example}/guest"));
    }
    spore_build::embed("guests/hostile");
    spore_build::embed("guests/keeper");
    spore_build::embed("guests/plain");
    spore_build::embed("guests/resumer");
}
