// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
pub async fn count(from: u64, items: &Emitter<u64>) {
    todo!()
}
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::count")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<(u64,)>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::count")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        let _captures = ::spore_guest::__rt::lent::<(u64,)>(_handle);
        let _arguments = ::spore_guest::__rt::arguments::<()>(_ptr, _len);
        ::spore_guest::__rt::streaming::<u64, _>(|_items| async move {
            ::spore_guest::__rt::Outcome::of_value(count(_captures.0, &_items).await)
        })
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::count")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new("spore_guest_macros::count", "")
                .capture::<u64>("from")
                .resumable()
                .streams()
                .returns::<u64>(),
        )
    }
};
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_count =
    ::spore_guest::Handle<u64, (), u64, ::core::convert::Infallible, ::spore_guest::Streaming>;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_count: __spore_handle_count =
    ::spore_guest::Handle::new("spore_guest_macros::count", || {
        ::spore_guest::__rt::Describing::new("spore_guest_macros::count", "")
            .capture::<u64>("from")
            .resumable()
            .streams()
            .returns::<u64>()
    });
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::count`](fn@count), for native programs."]
pub mod count {
    #[doc = "`spore_guest_macros::count` with its types."]
    pub const HANDLE: super::__spore_handle_count = super::__spore_handle_count;
}
