//! The same bits on every host.
//!
//! `cargo xtask test --arch …` names a host of another architecture in `SPORE_UNLIKE_HOST`; without
//! that the other host is one that listens on this machine.

use spore_client::{Bundle, CallLimits, Callee, Host, Session, Setup, embedded_bundle};
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
    assert_eq!(bits(&one), bits(&other));
    one
}

/// A value as its encoding, in which no two numbers are the same.
fn bits<T: Value>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("it can be encoded")
}

/// A session of an example's bundle on the embedded host.
async fn open(hosts: &(Host, Host, Option<Local>), bundle: &Bundle) -> Session {
    let session = hosts.0.open_session(bundle).await;
    session.expect("the embedded host opens it")
}

/// The session as its image, opened on another host in its place.
async fn carried(session: Session, to: &Host) -> Session {
    let image = session.save().await.expect("it has an image");
    session.close().await.expect("it is open");
    let opened = to.open_session(&image).await;
    opened.expect("an image opens on any host")
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

#[tokio::test]
async fn a_closure_has_what_it_captured_from_its_image_on_the_other_host_and_back() {
    let hosts = hosts().await;
    let scale = embedded_bundle!("closure").callable(closure::scale::HANDLE);
    let triple = scale.expect("it is there").capture(&3.0);
    let mut session = open(&hosts, &triple.expect("a number").bundle()).await;
    for (x, next) in [(14.0, &hosts.1), (0.1, &hosts.0)] {
        session = carried(session, next).await;
        let scaled = session.call(closure::scale::HANDLE, (x,));
        let scaled = scaled.expect("it is there").await.expect("scaled");
        assert_eq!(bits(&scaled), bits(&closure::scale(3.0, x)));
    }
    session.close().await.expect("it is open");
}

#[tokio::test]
async fn a_counter_goes_on_from_its_image_on_the_other_host_and_back() {
    let hosts = hosts().await;
    let mut session = open(&hosts, &embedded_bundle!("counter")).await;
    for (number, next) in [(1, &hosts.1), (2, &hosts.0), (3, &hosts.1)] {
        let add = session.call(counter::add::HANDLE, (number,));
        add.expect("it is there").await.expect("added");
        session = carried(session, next).await;
    }
    let history = session.call(counter::history::HANDLE, ());
    let history = history.expect("it is there").await.expect("recalled");
    assert_eq!(history, [1, 2, 3]);
    session.close().await.expect("it is open");
}

#[tokio::test]
async fn risk_has_the_same_figures_from_its_image_on_the_other_host_and_back() {
    let hosts = hosts().await;
    let stocks = include_str!("../../examples/risk/data/stocks.csv");
    let history = risk::Prices::parse(stocks).and_then(|prices| prices.history());
    let captures = (risk::Portfolio::example(), history.expect("it is whole"));
    let bundle = embedded_bundle!("risk");
    let simulation = bundle.callable(risk::monte_carlo::HANDLE);
    let simulation = simulation.expect("it is there");
    let simulation = simulation.capture(&captures).expect("captured").bundle();
    let expected = risk::monte_carlo(&captures.0, &captures.1, 10_000, 7).expect("measured");
    let mut session = open(&hosts, &simulation).await;
    for next in [&hosts.1, &hosts.0] {
        session = carried(session, next).await;
        let measures = session.call(risk::monte_carlo::HANDLE, (10_000, 7));
        let measures = measures.expect("it is there").await.expect("measured");
        assert_eq!(bits(&measures), bits(&expected));
    }
    session.close().await.expect("it is open");
}
