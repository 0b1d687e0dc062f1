// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
#[doc = " `x` times the captured factor."]
pub fn scale(factor: f64, x: f64) -> f64 {
    factor * x
}
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::scale")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<(f64,)>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::scale")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::start::<(f64,), (f64,)>(
            _handle,
            _ptr,
            _len,
            |_captures: &(f64,), _arguments: (f64,)| {
                ::spore_guest::__rt::Outcome::of_value(scale(_captures.0, _arguments.0))
            },
        )
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::scale")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new(
                "spore_guest_macros::scale",
                ::core::concat!("`x` times the captured factor."),
            )
            .capture::<f64>("factor")
            .parameter::<f64>("x")
            .returns::<f64>(),
        )
    }
};
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_scale = ::spore_guest::Handle<f64, (f64,), f64, ::core::convert::Infallible>;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_scale: __spore_handle_scale =
    ::spore_guest::Handle::new("spore_guest_macros::scale", || {
        ::spore_guest::__rt::Describing::new(
            "spore_guest_macros::scale",
            ::core::concat!("`x` times the captured factor."),
        )
        .capture::<f64>("factor")
        .parameter::<f64>("x")
        .returns::<f64>()
    });
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::scale`](fn@scale), for native programs."]
pub mod scale {
    #[doc = "`spore_guest_macros::scale` with its types."]
    pub const HANDLE: super::__spore_handle_scale = super::__spore_handle_scale;
}
