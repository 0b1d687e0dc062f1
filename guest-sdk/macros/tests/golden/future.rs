// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
pub async fn wait(book: &Book, days: u32) -> Result<f64, Missing> {
    todo!()
}
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::wait")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<(Book,)>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::wait")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        let _captures = ::spore_guest::__rt::lent::<(Book,)>(_handle);
        let _arguments = ::spore_guest::__rt::arguments::<(u32,)>(_ptr, _len);
        ::spore_guest::__rt::resumable(async move {
            ::spore_guest::__rt::Outcome::of_result(wait(&_captures.0, _arguments.0).await)
        })
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::wait")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new("spore_guest_macros::wait", "")
                .capture::<Book>("book")
                .parameter::<u32>("days")
                .resumable()
                .returns_result::<f64, Missing>(),
        )
    }
};
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_wait =
    ::spore_guest::Handle<Book, (u32,), f64, Missing, ::spore_guest::Resumable>;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_wait: __spore_handle_wait =
    ::spore_guest::Handle::new("spore_guest_macros::wait", || {
        ::spore_guest::__rt::Describing::new("spore_guest_macros::wait", "")
            .capture::<Book>("book")
            .parameter::<u32>("days")
            .resumable()
            .returns_result::<f64, Missing>()
    });
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::wait`](fn@wait), for native programs."]
pub mod wait {
    #[doc = "`spore_guest_macros::wait` with its types."]
    pub const HANDLE: super::__spore_handle_wait = super::__spore_handle_wait;
}
