//! The same bits on every host.
//!
//! `cargo xtask test --arch …` names a host of another architecture in `SPORE_UNLIKE_HOST`; without
//! that the other host is one that listens on this machine.

use spore_client::{CallLimits, Callee, Host, Setup};
use spore_tests::guests::{of, plain};
use spore_tests::lanes;
use spore_tests::local::Local;
use spore_tests::module::RUN;
use spore_value::{Value, codec};

/// Entries of a map whose order rests on its hasher's keys.
const ENTRIES: u32 = 1000;

async fn hosts() -> (Host, Host, Option<Local>) {
    let embedded = Host::embedded().expect("the engine starts");
    match std::env::var("SPORE_UNLIKE_HOST") {
        Ok(address) => {
            let other = Host::connect(&address).await.expect("the host is ready");
            (embedded, other, None)
        }
        Err(_) => {
            let local = Local::start(Setup::default(), &[""]);
            let other = local.connect(0).await;
            (embedded, other, Some(local))
        }
    }
}

/// Calls on both hosts and compares what comes back, by its encoding: two numbers that are equal may
/// differ in their bits, and one that is no number equals none.
async fn same<C>(
    hosts: &(Host, Host, Option<Local>),
    callable: &C,
    arguments: C::Arguments,
) -> C::Output
where
    C: Callee,
    C::Arguments: Clone,
    C::Output: Value,
{
    let limits = CallLimits::default();
    let one = hosts
        .0
        .call(callable, arguments.clone())
        .limits(limits)
        .seed(7)
        .completed()
        .await;
    let other = hosts
        .1
        .call(callable, arguments)
        .limits(limits)
        .seed(7)
        .completed()
        .await;
    let one = one.result.expect("the embedded host runs it");
    let other = other.result.expect("the other host runs it");
    let bytes = |output| codec::encode(output).expect("it was decoded");
    assert_eq!(bytes(&one), bytes(&other));
    one
}

#[tokio::test]
async fn not_a_number_has_the_same_bits() {
    let hosts = hosts().await;
    let nan_bits = of(plain(), plain::nan_bits::HANDLE);
    let bits = same(&hosts, &nan_bits, (0.0, -1.0)).await;
    assert_eq!(bits[0], f64::NAN.to_bits(), "canonical");
}

#[tokio::test]
async fn every_lane_of_a_vector_has_the_same_bits() {
    let hosts = hosts().await;
    for lanes in lanes::all() {
        let result = same(&hosts, &of(&lanes.bundle(), RUN), (vec![],)).await;
        assert_eq!(result, lanes.expected, "{lanes:?}");
    }
}

#[tokio::test]
async fn maps_are_walked_through_in_the_same_order() {
    let hosts = hosts().await;
    let map_order = of(plain(), plain::map_order::HANDLE);
    let order = same(&hosts, &map_order, (ENTRIES,)).await;
    assert!(!order.is_sorted(), "an order that rests on random keys");
}

#[tokio::test]
async fn mathematics_rounds_the_same_way() {
    let hosts = hosts().await;
    let iterate = of(plain(), plain::iterate::HANDLE);
    for seed in [0.1, 1e300, -3.5] {
        same(&hosts, &iterate, (seed, 10_000)).await;
    }
}

#[tokio::test]
async fn random_bytes_and_clocks_are_the_same() {
    let hosts = hosts().await;
    same(&hosts, &of(plain(), plain::random::HANDLE), ()).await;
    same(&hosts, &of(plain(), plain::clocks::HANDLE), ()).await;
    same(&hosts, &of(plain(), plain::environment::HANDLE), ()).await;
}
