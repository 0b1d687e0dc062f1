// What `#[init]` makes of the function at the top; see the tests in src/hook.rs.
#[cfg(feature = "prices")]
fn parse() {}
#[cfg(feature = "prices")]
const _: fn() = parse;
#[cfg(feature = "prices")]
#[cfg(target_family = "wasm")]
const _: () = {
    #[unsafe(export_name = "spore1:init/spore_guest_macros::parse")]
    extern "C" fn __spore_hook() {
        ::spore_guest::__rt::hook(parse)
    }
};
