// What `#[callable]` makes of the function at the top; see the tests in src/expand.rs.
#[doc = " The mean price"]
#[doc = include_str!("mean.md")]
#[cfg(feature = "prices")]
pub fn mean(
    days: &[u32],
    book: &super::Book,
    market: &str,
    rates: &Vec<f64>,
) -> Result<f64, self::Missing> {
    todo!()
}
#[cfg(feature = "prices")]
#[cfg(target_family = "wasm")]
#[allow(deprecated)]
const _: () = {
    #[unsafe(export_name = "spore1:bind/spore_guest_macros::prices::mean")]
    extern "C" fn __spore_bind(_ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::bind::<(super::Book, Vec<f64>)>(_ptr, _len)
    }
    #[unsafe(export_name = "spore1:start/spore_guest_macros::prices::mean")]
    extern "C" fn __spore_start(_handle: u32, _ptr: u32, _len: u32) -> u32 {
        ::spore_guest::__rt::start::<
            (super::Book, Vec<f64>),
            (::std::vec::Vec<u32>, ::std::string::String),
        >(
            _handle,
            _ptr,
            _len,
            |_captures: &(super::Book, Vec<f64>),
             _arguments: (::std::vec::Vec<u32>, ::std::string::String)| {
                ::spore_guest::__rt::Outcome::of_result(mean(
                    &_arguments.0,
                    &_captures.0,
                    &_arguments.1,
                    &_captures.1,
                ))
            },
        )
    }
    #[unsafe(export_name = "spore1:describe/spore_guest_macros::prices::mean")]
    extern "C" fn __spore_describe() -> u32 {
        ::spore_guest::__rt::describe(
            ::spore_guest::__rt::Describing::new(
                "spore_guest_macros::prices::mean",
                ::core::concat!("The mean price", "\n", include_str!("mean.md")),
            )
            .capture::<super::Book>("book")
            .capture::<Vec<f64>>("rates")
            .parameter::<::std::vec::Vec<u32>>("days")
            .parameter::<::std::string::String>("market")
            .directory("data")
            .directory("more")
            .returns_result::<f64, self::Missing>(),
        )
    }
};
#[cfg(feature = "prices")]
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_camel_case_types, clippy::type_complexity)]
type __spore_handle_mean = ::spore_guest::Handle<
    (super::Book, Vec<f64>),
    (::std::vec::Vec<u32>, ::std::string::String),
    f64,
    self::Missing,
>;
#[cfg(feature = "prices")]
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(non_upper_case_globals)]
const __spore_handle_mean: __spore_handle_mean =
    ::spore_guest::Handle::new("spore_guest_macros::prices::mean", || {
        ::spore_guest::__rt::Describing::new(
            "spore_guest_macros::prices::mean",
            ::core::concat!("The mean price", "\n", include_str!("mean.md")),
        )
        .capture::<super::Book>("book")
        .capture::<Vec<f64>>("rates")
        .parameter::<::std::vec::Vec<u32>>("days")
        .parameter::<::std::string::String>("market")
        .directory("data")
        .directory("more")
        .returns_result::<f64, self::Missing>()
    });
#[cfg(feature = "prices")]
#[cfg(not(target_family = "wasm"))]
#[doc = "The handle of [`spore_guest_macros::prices::mean`](fn@mean), for native programs."]
pub mod mean {
    #[doc = "`spore_guest_macros::prices::mean` with its types."]
    pub const HANDLE: super::__spore_handle_mean = super::__spore_handle_mean;
}
