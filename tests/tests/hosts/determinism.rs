//! The same bundle and inputs give the same bytes, whatever would differ elsewhere.

use spore_client::{CallError, Callee, Host};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::local::Both;
use spore_tests::module::RUN;
use spore_tests::{lanes, plain as plain_bundle};

static BOTH: Both = Both::new(Setup::default);

/// What a callable returns twice on both hosts, which must be the same.
async fn same<C>(callable: &C, arguments: C::Arguments, seed: u64) -> C::Output
where
    C: Callee,
    C::Arguments: Clone,
    C::Output: PartialEq + std::fmt::Debug,
{
    let mut results = Vec::new();
    for host in BOTH.hosts().await {
        for _ in 0..2 {
            results.push(once(&host, callable, arguments.clone(), seed).await);
        }
    }
    let first = results.pop().expect("four of them");
    assert!(
        results.iter().all(|result| *result == first),
        "{results:?} and {first:?}"
    );
    first
}

async fn once<C: Callee>(host: &Host, callable: &C, arguments: C::Arguments, seed: u64) -> C::Output
where
    C::Output: std::fmt::Debug,
{
    let result: Result<_, CallError<_>> = host
        .call(callable, arguments)
        .seed(seed)
        .completed()
        .await
        .result;
    result.expect("it returns")
}

#[tokio::test]
async fn numbers_that_are_none_have_one_form() {
    let bits = same(&of(plain_bundle(), plain::nan_bits::HANDLE), (0.0, -1.0), 0).await;
    let (narrow, wide) = bits.split_last().expect("eight of them");
    for bits in wide {
        // A change of sign is no arithmetic, and keeps the rest.
        assert_eq!(bits & !(1 << 63), f64::NAN.to_bits(), "{bits:#x}");
    }
    assert_eq!(
        narrow & !(1 << 31),
        u64::from(f32::NAN.to_bits()),
        "{narrow:#x}"
    );
}

#[tokio::test]
async fn every_lane_of_a_vector_has_one_result() {
    for lanes in lanes::all() {
        let result = same(&of(&lanes.bundle(), RUN), (vec![],), 0).await;
        assert_eq!(result, lanes.expected, "{lanes:?}");
    }
}

#[tokio::test]
async fn arithmetic_gives_the_same_bits() {
    let iterate = of(plain_bundle(), plain::iterate::HANDLE);
    assert!(same(&iterate, (0.25, 10_000), 0).await.is_finite());
    // The two do not differ because nothing is computed.
    assert_ne!(
        same(&iterate, (0.25, 2), 0).await,
        same(&iterate, (0.5, 2), 0).await
    );
}

#[tokio::test]
async fn maps_are_walked_through_in_an_order_that_rests_on_the_seed() {
    let map_order = of(plain_bundle(), plain::map_order::HANDLE);
    let order = same(&map_order, (100,), 0).await;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(order, sorted, "the keys of hashing are random");
    assert_ne!(order, same(&map_order, (100,), 1).await);
}

#[tokio::test]
async fn random_bytes_rest_on_the_call_and_its_seed() {
    let random = of(plain_bundle(), plain::random::HANDLE);
    let mut seen: Vec<_> = Vec::new();
    for seed in [0, 1, u64::MAX] {
        seen.push(same(&random, (), seed).await);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn clocks_stand_still() {
    let clocks = same(&of(plain_bundle(), plain::clocks::HANDLE), (), 0).await;
    // 2000-01-01, and no time between two looks.
    assert_eq!(clocks, (946_684_800_000_000_000, 0));
}

#[tokio::test]
async fn the_environment_is_empty() {
    let names = same(&of(plain_bundle(), plain::environment::HANDLE), (), 0).await;
    assert_eq!(names, Vec::<String>::new());
}
