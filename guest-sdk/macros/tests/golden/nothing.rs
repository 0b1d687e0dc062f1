// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
pub fn ping() {}
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::ping")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<()>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::ping")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::start::<(), ()>(_handle, _ptr, _len, |_captures: &(), _arguments: ()| {
            ::spore_guest::__rt::Outcome::of_value(ping())
        })
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::ping")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new("spore_guest_macros::ping", "").returns::<()>(),
        )
    }
};
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_ping =
    ::spore_guest::Handle<::spore_guest::NoCaptures, (), (), ::core::convert::Infallible>;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_ping: __spore_handle_ping =
    ::spore_guest::Handle::new("spore_guest_macros::ping", || {
        ::spore_guest::__rt::Describing::new("spore_guest_macros::ping", "").returns::<()>()
    });
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::ping`](fn@ping), for native programs."]
pub mod ping {
    #[doc = "`spore_guest_macros::ping` with its types."]
    pub const HANDLE: super::__spore_handle_ping = super::__spore_handle_ping;
}
