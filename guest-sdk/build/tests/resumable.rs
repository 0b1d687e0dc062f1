//! Runs that are stopped, saved and continued, and streams of items, by docs/ABI.md.

mod common;
#[path = "common/host.rs"]
mod host;

use std::sync::OnceLock;
use std::time::Duration;

use host::{Guest, Outcome};
use spore_abi::{export, fault};
use spore_build::Built;
use spore_guest::native::{Items, block_on};
use spore_value::{Limits, Type, Value, codec};

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        spore_build::Guest::at(common::workspace().join("tests/guests/resumer"))
            .target_dir(common::target_dir())
            .build()
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

fn guest() -> Guest {
    Guest::new(built().bundle.code())
}

fn encoded<T: Value>(value: T) -> Vec<u8> {
    codec::encode(&value).expect("shallow")
}

fn decoded<T: Value>(bytes: &[u8]) -> T {
    codec::decode(bytes, &Limits::default()).expect("it is of this type")
}

/// A run of a callable.
struct Run {
    guest: Guest,
    handle: u32,
    task: u32,
}

impl Run {
    fn start(name: &str, captures: &[u8], arguments: &[u8]) -> Self {
        let mut guest = guest();
        let name = format!("resumer::{name}");
        let handle = guest.bind(&name, captures).expect("they decode");
        let task = guest.start(&name, handle, arguments).expect("they decode");
        Self {
            guest,
            handle,
            task,
        }
    }

    fn poll(&mut self) -> Outcome {
        self.guest.poll(self.task)
    }

    /// Polls to the end, as a host does that stops each `every` checkpoints and moves the run to
    /// another instance whenever it can. Returns the end and what was told before.
    fn finish(&mut self, every: u64) -> (Outcome, Vec<Outcome>) {
        self.guest.seen_mut().stop_every = every;
        let mut told = Vec::new();
        loop {
            match self.poll() {
                Outcome::Yield => {}
                Outcome::Wait(until) => {
                    told.push(Outcome::Wait(until));
                    let clock = &mut self.guest.seen_mut().clock;
                    *clock = until.max(*clock);
                }
                Outcome::Item(item) => told.push(Outcome::Item(item)),
                end => return (end, told),
            }
            if every > 0 {
                self.guest = self.guest.moved();
            }
        }
    }

    /// Ends it and what it was started from.
    fn drop(mut self) -> Guest {
        self.guest.call0(export::DROP, self.task);
        self.guest.call0(export::UNBIND, self.handle);
        self.guest
    }
}

#[test]
fn each_checkpoint_asks_once_and_goes_on() {
    let mut run = Run::start("rounds", &[], &encoded((7u32,)));
    assert_eq!(run.poll(), Outcome::Ready(encoded(7u32)));
    assert_eq!(run.guest.seen().checkpoints, 7);
    // The end stays told.
    assert_eq!(run.poll(), Outcome::Ready(encoded(7u32)));
    run.drop();
}

#[test]
fn a_checkpoint_stops_when_the_host_wants_it() {
    let mut run = Run::start("rounds", &[], &encoded((7u32,)));
    run.guest.seen_mut().stop_every = 2;
    for checkpoints in [2, 4, 6] {
        assert_eq!(run.poll(), Outcome::Yield);
        assert_eq!(run.guest.seen().checkpoints, checkpoints);
    }
    assert_eq!(run.poll(), Outcome::Ready(encoded(7u32)));
}

#[test]
fn runs_that_were_stopped_and_moved_end_like_others() {
    let weights: Vec<f64> = (0..30).map(f64::from).collect();
    let list = encoded((vec![9u8, 3, 5], 7u8));
    let cases = [
        (
            "entwined",
            encoded(weights.clone()),
            encoded((2026u64, 40u32)),
            encoded(block_on(resumer::entwined(&weights, 2026, 40)).expect("there are rounds")),
        ),
        (
            "by_futures",
            vec![],
            encoded((2026u64, 12u32)),
            encoded(block_on(resumer::by_futures(2026, 12))),
        ),
        (
            "sorted",
            list,
            encoded((vec![8u8, 1, 6],)),
            vec![7, 1, 3, 5, 6, 7, 8, 9],
        ),
    ];
    for (name, captures, arguments, result) in cases {
        let mut unstopped = Run::start(name, &captures, &arguments);
        let (end, _) = unstopped.finish(0);
        assert_eq!(end, Outcome::Ready(result), "{name}: as a native program");
        let checkpoints = unstopped.guest.seen().checkpoints;
        assert!(checkpoints > 2, "{name}");
        for every in [1, 2, 3, 7, checkpoints] {
            let mut run = Run::start(name, &captures, &arguments);
            assert_eq!(run.finish(every).0, end, "{name}, each {every}");
            // The same steps, and nothing of the answers left in memory.
            assert_eq!(run.guest.seen().checkpoints, checkpoints, "{name}");
            assert!(
                run.guest.memory() == unstopped.guest.memory(),
                "{name}, each {every}: the memory differs"
            );
        }
    }
}

#[test]
fn errors_are_those_of_the_guest() {
    let mut run = Run::start("entwined", &encoded(vec![1.0f64]), &encoded((1u64, 0u32)));
    assert_eq!(
        run.finish(1).0,
        Outcome::Error(encoded("no rounds".to_owned()))
    );
}

#[test]
fn the_native_stack_is_empty_between_polls() {
    let stack = |guest: &mut Guest| guest.run("resumer::stack", &[], &[]);
    let begin = stack(&mut guest());
    let mut run = Run::start("entwined", &encoded(vec![1.0f64]), &encoded((1u64, 9u32)));
    run.guest.seen_mut().stop_every = 1;
    assert_eq!(run.poll(), Outcome::Yield);
    assert_eq!(stack(&mut run.guest), begin);
}

#[test]
fn a_run_that_sleeps_says_until_when() {
    let begin = guest().seen().clock;
    let at = |milliseconds: u64| {
        let nanoseconds = Duration::from_millis(milliseconds).as_nanos();
        Outcome::Wait(begin + nanoseconds as u64)
    };
    let naps = encoded((vec![30u64, 10, 0, 20, 10],));
    let ended = encoded(vec![(2u32, 0u64), (1, 10), (4, 10), (3, 20), (0, 30)]);
    for every in [0, 1] {
        let mut run = Run::start("naps", &[], &naps);
        let (end, told) = run.finish(every);
        assert_eq!(told, [at(10), at(20), at(30)]);
        assert_eq!(end, Outcome::Ready(ended.clone()));
        assert_eq!(run.guest.seen().checkpoints, 0);
    }

    // Polled too early it says so again.
    let mut run = Run::start("naps", &[], &encoded((vec![5u64],)));
    assert_eq!([run.poll(), run.poll()], [at(5), at(5)]);
    run.guest.seen_mut().clock += 4_999_999;
    assert_eq!(run.poll(), at(5));
    run.guest.seen_mut().clock += 1;
    assert_eq!(run.poll(), Outcome::Ready(encoded(vec![(0u32, 5u64)])));

    // Longer than the clock can show is for ever.
    let mut run = Run::start("naps", &[], &encoded((vec![u64::MAX],)));
    assert_eq!(run.poll(), Outcome::Wait(u64::MAX));
}

#[test]
fn who_can_go_on_does_not_wait() {
    let mut run = Run::start("nap_or_rounds", &[], &encoded((10u64, 5u32)));
    run.guest.seen_mut().stop_every = 1;
    for _ in 0..5 {
        assert_eq!(run.poll(), Outcome::Yield);
    }
    assert_eq!(run.poll(), Outcome::Ready(encoded(false)));

    // A clock that moves by itself, as a granted one does, ends it at the next checkpoint.
    let mut run = Run::start("nap_or_rounds", &[], &encoded((10u64, 5u32)));
    run.guest.seen_mut().stop_every = 1;
    assert_eq!(run.poll(), Outcome::Yield);
    run.guest.seen_mut().clock += 10_000_000;
    assert_eq!(run.poll(), Outcome::Ready(encoded(true)));
}

#[test]
fn branches_wake_each_other_without_the_host() {
    let mut run = Run::start("handed_over", &[], &encoded((5u32,)));
    assert_eq!(run.poll(), Outcome::Ready(encoded(5u32)));
    assert_eq!(run.guest.seen().checkpoints, 0);
}

#[test]
fn a_run_that_nothing_can_wake_is_a_panic() {
    let mut run = Run::start("stuck", &[], &[]);
    run.guest.seen_mut().stop_every = 1;
    assert_eq!(run.poll(), Outcome::Yield);
    let Outcome::Fault { kind, message, .. } = run.poll() else {
        panic!("it went on")
    };
    assert_eq!(kind, fault::PANIC);
    assert!(message.contains("can never go on"), "{message}");
    assert!(message.contains("no checkpoint, no sleep"), "{message}");
}

#[test]
fn a_run_that_is_cancelled_gives_everything_back() {
    let mut run = Run::start("endless", &[], &encoded((1u64,)));
    run.guest.seen_mut().stop_every = 1;
    assert_eq!([run.poll(), run.poll()], [Outcome::Yield, Outcome::Yield]);
    assert_eq!(run.guest.seen().progress, [(2, 0)]);
    run.guest.call0(export::CANCEL, run.task);
    assert_eq!(run.guest.seen().progress, [(2, 0)], "a poll ends it");
    assert_eq!(run.poll(), Outcome::Cancelled);
    assert_eq!(run.guest.seen().progress, [(2, 0), (2, 0), (1, 0)]);
    assert_eq!(run.poll(), Outcome::Cancelled, "it stays told");
    assert_eq!(run.drop().seen().progress.len(), 3);

    // Before the first poll nothing of it has run.
    let mut run = Run::start("endless", &[], &encoded((1u64,)));
    run.guest.call0(export::CANCEL, run.task);
    assert_eq!(run.poll(), Outcome::Cancelled);
    assert!(run.drop().seen().progress.is_empty());

    // What has ended is not cancelled any more.
    let mut run = Run::start("rounds", &[], &encoded((1u32,)));
    assert_eq!(run.poll(), Outcome::Ready(vec![1]));
    run.guest.call0(export::CANCEL, run.task);
    assert_eq!(run.poll(), Outcome::Ready(vec![1]));
}

#[test]
fn a_run_that_is_dropped_gives_everything_back() {
    let mut run = Run::start("endless", &[], &encoded((1u64,)));
    run.guest.seen_mut().stop_every = 1;
    assert_eq!(run.poll(), Outcome::Yield);
    assert_eq!(run.drop().seen().progress, [(2, 0), (1, 0)]);
}

/// The items told, and nothing else.
fn items<T: Value>(told: &[Outcome]) -> Vec<T> {
    let item = |outcome: &Outcome| match outcome {
        Outcome::Item(item) => decoded(item),
        other => panic!("{other:?}"),
    };
    told.iter().map(item).collect()
}

#[test]
fn items_come_one_by_one_and_in_order() {
    let mut run = Run::start("primes", &[], &encoded((10u64,)));
    let mut primes = Vec::new();
    for _ in 0..6 {
        let polled = run.poll();
        primes.extend(items::<u64>(&[polled]));
        // Nothing runs ahead: a checkpoint for each number so far.
        let numbers = primes.last().expect("one came") - 9;
        assert_eq!(run.guest.seen().checkpoints, numbers);
        run.guest = run.guest.moved();
    }
    assert_eq!(primes, [11, 13, 17, 19, 23, 29]);
    let native: Vec<_> = Items::of(|items| resumer::primes(10, items))
        .take(6)
        .collect();
    assert_eq!(native, primes);
}

#[test]
fn items_of_several_branches_queue() {
    let names = vec!["a".to_owned(), "b".to_owned()];
    let mut native = Items::of(|items| {
        let names = names.clone();
        async move { resumer::pairs(&names, 3, &items).await }
    });
    let expected: Vec<_> = native.by_ref().collect();
    assert_eq!(native.output(), Some(()));
    assert_eq!(expected.len(), 6);
    assert_eq!(expected[..2], [("a".to_owned(), 0), ("b".to_owned(), 0)]);
    for every in [0, 1] {
        let mut run = Run::start("pairs", &encoded(names.clone()), &encoded((3u32,)));
        let (end, told) = run.finish(every);
        assert_eq!(items::<(String, u32)>(&told), expected);
        assert_eq!(end, Outcome::Ready(vec![]));
    }
}

#[test]
fn a_stream_may_fail_after_items_and_before() {
    let mut run = Run::start("halves", &[], &encoded((12u32,)));
    let (end, told) = run.finish(1);
    assert_eq!(items::<u32>(&told), [6, 3]);
    assert_eq!(end, Outcome::Error(encoded("3 is odd".to_owned())));

    let mut native = Items::of(|items| resumer::halves(12, items));
    assert_eq!(native.by_ref().collect::<Vec<_>>(), [6, 3]);
    assert_eq!(native.output(), Some(Err("3 is odd".to_owned())));

    let mut run = Run::start("digits", &[], &encoded(("407".to_owned(),)));
    let (end, told) = run.finish(1);
    assert_eq!(items::<u32>(&told), [4, 0, 7]);
    assert_eq!(end, Outcome::Ready(vec![]));
    let mut run = Run::start("digits", &[], &encoded(("4x".to_owned(),)));
    let (end, told) = run.finish(1);
    assert_eq!(end, Outcome::Error(encoded("'x' is no digit".to_owned())));
    assert!(told.is_empty());
}

#[test]
fn an_iterator_that_borrows_is_moved_with_what_it_borrows() {
    let mut run = Run::start("multiples", &encoded(7u64), &encoded((3u64, 4u32)));
    let (end, told) = run.finish(1);
    assert_eq!(items::<u64>(&told), [21, 28, 35, 42]);
    assert_eq!(end, Outcome::Ready(vec![]));
    assert!(resumer::multiples(&7, 3, 4).eq(items::<u64>(&told)));
}

#[test]
fn an_item_that_waits_is_lost_with_a_cancelled_run() {
    let names = vec!["a".to_owned(), "b".to_owned()];
    let mut run = Run::start("pairs", &encoded(names), &encoded((3u32,)));
    assert!(matches!(run.poll(), Outcome::Item(_)));
    run.guest.call0(export::CANCEL, run.task);
    assert_eq!(run.poll(), Outcome::Cancelled);
    run.drop();
}

#[test]
fn initialisers_and_what_restores_are_in_the_manifest() {
    let manifest = built().bundle.manifest();
    let init = manifest.init.as_deref().expect("the guest has one");
    let restored = manifest.restored.as_deref().expect("the guest has one");
    assert_eq!(init, "spore1:init/resumer::make_table");
    assert_eq!(restored, "spore1:restored/resumer::count_restored");

    let look_up = |guest: &mut Guest| guest.run("resumer::looked_up", &[], &encoded((5u32,)));
    let mut guest = guest();
    let found = |table: Option<u32>, restored: u32| Outcome::Ready(encoded((table, restored)));
    assert_eq!(look_up(&mut guest), found(None, 0));
    guest.call0(init, ());
    assert_eq!(guest.seen().output, "a table", "nothing is held back");
    let mut guest = guest.moved();
    guest.call0(restored, ());
    assert_eq!(look_up(&mut guest), found(Some(25), 1));
}

#[test]
fn two_initialisers_are_refused() {
    let inner = "#[spore_guest::init] fn first() {}
                 #[spore_guest::callable] pub fn nothing() {}";
    let outer = "use inner as _; #[spore_guest::init] fn second() {}";
    let members = [
        ("inner", "", inner),
        ("outer", "inner = { path = \"../inner\" }", outer),
    ];
    let root = common::guests("two-initialisers", &members);
    let refusal = spore_build::Guest::at(root.join("outer"))
        .target_dir(common::target_dir())
        .build()
        .expect_err("there are two");
    let cause = std::error::Error::source(&refusal).expect("packing failed");
    let cause = cause.to_string();
    assert!(cause.contains("spore1:init/inner::first"), "{cause}");
    assert!(cause.contains("spore1:init/outer::second"), "{cause}");
}

#[test]
fn manifests_say_what_is_resumable_and_what_streams() {
    let described = spore_build::describe(built().bundle.code()).expect("it is what build did");
    let find = |name: &str| {
        let name = format!("resumer::{name}");
        let found = described.iter().find(|each| each.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let kind = |name: &str| (find(name).resumable, find(name).streams);
    assert_eq!(kind("stack"), (false, false));
    assert_eq!(kind("entwined"), (true, false));
    assert_eq!(kind("primes"), (true, true));
    assert_eq!(kind("multiples"), (true, true));

    let primes = &find("primes").signature;
    assert_eq!(primes.parameters.len(), 1, "an emitter is no parameter");
    assert_eq!((&primes.returns, &primes.error), (&Type::U64, &None));
    let digits = &find("digits").signature;
    assert_eq!(
        (&digits.returns, &digits.error),
        (&Type::U32, &Some(Type::String))
    );
    for (name, native) in [
        ("entwined", resumer::entwined::HANDLE.description()),
        ("primes", resumer::primes::HANDLE.description()),
        ("digits", resumer::digits::HANDLE.description()),
    ] {
        assert_eq!(*find(name), native);
    }
}

#[test]
fn a_guest_without_resumable_callables_asks_for_no_more_than_before() {
    let closure = spore_build::Guest::at(common::workspace().join("examples/closure/guest"))
        .target_dir(common::target_dir())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let name = spore_abi::import::STOP_WANTED.as_bytes();
    let has = |built: &Built| {
        let code = built.bundle.code();
        code.windows(name.len()).any(|window| window == name)
    };
    assert!(has(built()) && !has(&closure));
}
