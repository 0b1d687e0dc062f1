// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
pub fn digits(text: &str) -> Result<impl Iterator<Item = u32>, String> {
    todo!()
}
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::digits")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<()>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::digits")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        let _captures = ::spore_guest::__rt::lent::<()>(_handle);
        let _arguments = ::spore_guest::__rt::arguments::<(::std::string::String,)>(_ptr, _len);
        ::spore_guest::__rt::streaming::<u32, _>(|_items| async move {
            ::spore_guest::__rt::Outcome::of_result(
                ::spore_guest::__rt::emit_all_of(digits(&_arguments.0), &_items).await,
            )
        })
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::digits")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new("spore_guest_macros::digits", "")
                .parameter::<::std::string::String>("text")
                .resumable()
                .streams()
                .returns_result::<u32, String>(),
        )
    }
};
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_digits = ::spore_guest::Handle<
    ::spore_guest::NoCaptures,
    (::std::string::String,),
    u32,
    String,
    ::spore_guest::Streaming,
>;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_digits: __spore_handle_digits =
    ::spore_guest::Handle::new("spore_guest_macros::digits", || {
        ::spore_guest::__rt::Describing::new("spore_guest_macros::digits", "")
            .parameter::<::std::string::String>("text")
            .resumable()
            .streams()
            .returns_result::<u32, String>()
    });
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::digits`](fn@digits), for native programs."]
pub mod digits {
    #[doc = "`spore_guest_macros::digits` with its types."]
    pub const HANDLE: super::__spore_handle_digits = super::__spore_handle_digits;
}
