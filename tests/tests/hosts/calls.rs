//! What goes into a call and what comes out, from an embedded host and over QUIC.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use plain::{Everything, NoHalf, Pair, Tree};
use serde_json::json;
use spore_client::{
    ArgumentsError, BindError, Bundle, CallError, CallLimits, FindError, Handle, Host, NoCaptures,
    RefusalCode,
};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of, wall};
use spore_tests::local::Both;
use spore_tests::outcome::{refused, until};
use spore_tests::peer::{Peer, ship};
use spore_tests::{Local, Process, hostile, plain as plain_bundle};
use spore_transport::BlobId;
use spore_transport::message::{self, BlobKind, Call, Message, Received};

const MIB: u64 = 1 << 20;

static BOTH: Both = Both::new(Setup::default);

async fn hosts() -> [Host; 2] {
    BOTH.hosts().await
}

/// A value with something in each of its fields.
fn everything() -> Everything {
    let leaf = || Box::new(Tree::Leaf);
    Everything {
        flag: true,
        naturals: (255, 65_535, 1 << 31, u64::MAX, u128::MAX),
        integers: (-128, -32_768, i32::MIN, i64::MIN, i128::MIN),
        size: u32::MAX as usize,
        reals: (-0.0, f64::MIN_POSITIVE),
        character: '🍄',
        text: "spore \0 \u{10ffff}".to_owned(),
        bytes: (0..=255).collect(),
        span: Duration::new(u64::MAX, 999_999_999),
        maybe: Some(Box::new(7)),
        lists: vec![vec![], vec![1, -1], vec![0; 300]],
        array: [1, 2, 3],
        ordered_set: BTreeSet::from(["b".to_owned(), "a".to_owned()]),
        set: HashSet::from([3, 1, 2, u64::MAX]),
        ordered_map: BTreeMap::from([(-1, "minus".to_owned()), (1, String::new())]),
        map: HashMap::from([("k".to_owned(), vec![1]), ("l".to_owned(), vec![])]),
        either: Err("or".to_owned()),
        unit: (),
        tree: Tree::Fork(leaf(), -5, Box::new(Tree::Fork(leaf(), 5, leaf()))),
        pair: Pair {
            first: 1,
            second: 'b',
        },
    }
}

#[tokio::test]
async fn every_kind_of_value_goes_there_and_back() {
    let echo = of(plain_bundle(), plain::echo::HANDLE);
    for host in hosts().await {
        assert_eq!(
            host.call(&echo, (everything(),)).await.expect("echoed"),
            everything()
        );
    }
}

#[tokio::test]
async fn typed_and_dynamic_calls_give_the_same_embedded_and_remote() {
    let echo = plain_bundle().callable("echo").expect("it is there");
    let signature = echo.signature();
    let bytes = spore_value::codec::encode(&(everything(),)).expect("shallow");
    let limits = spore_value::Limits::default();
    let ty = spore_value::Type::Tuple(signature.parameters.iter().map(|p| p.ty.clone()).collect());
    let arguments = spore_value::json::to_json(&ty, &signature.definitions, &bytes, &limits)
        .expect("it has JSON");
    for host in hosts().await {
        let echoed = host.call(&echo, arguments.clone()).await.expect("echoed");
        assert_eq!(json!([echoed]), arguments);
    }
}

#[tokio::test]
async fn captures_are_taken_over_or_looked_at() {
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    let append = append.capture(&vec![1, 2]).expect("bytes");
    let look_up = plain_bundle()
        .callable(plain::look_up::HANDLE)
        .expect("it is there");
    let table = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let look_up = look_up.capture(&(table, 99)).expect("a table");
    for host in hosts().await {
        // Each call binds anew, so what one has taken over the next has again.
        for _ in 0..2 {
            assert_eq!(
                host.call(&append, (vec![3],)).await.expect("appended"),
                [1, 2, 3]
            );
        }
        assert_eq!(
            host.call(&look_up, ("b".to_owned(),)).await.expect("found"),
            2
        );
        assert_eq!(
            host.call(&look_up, ("c".to_owned(),))
                .await
                .expect("not found"),
            99
        );
    }
}

#[tokio::test]
async fn a_bundle_keeps_what_it_has_captured() {
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    let bound = append.capture(&vec![9]).expect("bytes").bundle();
    let again = Bundle::from_bytes(bound.inner().encode()).expect("it was just written");
    assert_eq!(again.id(), bound.id());
    let append = again
        .callable(plain::append::HANDLE)
        .expect("it is there")
        .bound();
    let append = append.expect("the captures travel along");
    let dynamic = again.callable("append").expect("it is there");
    assert!(dynamic.is_bound());
    for host in hosts().await {
        assert_eq!(
            host.call(&append, (vec![1],)).await.expect("appended"),
            [9, 1]
        );
        assert_eq!(
            host.call(&dynamic, json!(["AQ=="]))
                .await
                .expect("appended"),
            json!("CQE=")
        );
    }
}

#[tokio::test]
async fn as_many_parameters_as_a_tuple_has_members() {
    let weighted = of(plain_bundle(), plain::weighted::HANDLE);
    let ones = (
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, -1,
    );
    for host in hosts().await {
        // 1 + 2 + … + 31 − 32
        assert_eq!(
            host.call(&weighted, ones).await.expect("weighted"),
            31 * 32 / 2 - 32
        );
    }
}

#[tokio::test]
async fn more_captures_and_parameters_than_a_tuple_has_members() {
    let first = (
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30, 31,
    );
    let wide = plain_bundle()
        .callable(plain::wide::HANDLE)
        .expect("it is there");
    let wide = wide.capture(&(first, (32,))).expect("bytes");
    let dynamic = plain_bundle().callable("wide").expect("it is there");
    let captures = (0..=32).map(|n| (format!("c{n}"), json!(n))).collect();
    let dynamic = dynamic.capture(&captures).expect("bytes");
    let all: Vec<u8> = (0..=32).chain(0..=32).collect();
    for host in hosts().await {
        let called = host.call(&wide, (first, (32,))).await;
        assert_eq!(called.expect("in order"), all);
        let bytes = host.call(&dynamic, (0..=32).collect()).await;
        let same = spore_value::json::from_json(
            &spore_value::Type::Bytes,
            &[],
            &bytes.expect("in order"),
            &spore_value::Limits::default(),
        );
        let encoded = spore_value::codec::encode(&all).expect("shallow");
        assert_eq!(same.expect("it is base64"), encoded);
    }
}

#[tokio::test]
async fn nothing_in_and_nothing_out() {
    let nothing = of(plain_bundle(), plain::nothing::HANDLE);
    let dynamic = plain_bundle().callable("nothing").expect("it is there");
    for host in hosts().await {
        host.call(&nothing, ()).await.expect("nothing");
        assert_eq!(
            host.call(&dynamic, json!([])).await.expect("nothing"),
            json!(null)
        );
    }
}

#[tokio::test]
async fn an_err_is_the_guests_own_typed_error() {
    let half = of(plain_bundle(), plain::half::HANDLE);
    let dynamic = plain_bundle().callable("half").expect("it is there");
    for host in hosts().await {
        assert_eq!(host.call(&half, (8,)).await.expect("even"), 4);
        let completed = host.call(&half, (7,)).completed().await;
        match completed.result {
            Err(CallError::Guest(error)) => assert_eq!(
                error,
                NoHalf::Odd {
                    number: 7,
                    left: 0.5
                }
            ),
            other => panic!("{other:?}"),
        }
        assert!(completed.timing.is_some_and(|timing| timing.run_ns > 0));
        match host.call(&dynamic, json!([0])).await {
            Err(CallError::Guest(error)) => assert_eq!(error, json!("Zero")),
            other => panic!("{other:?}"),
        }
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_caller_lowers_limits_and_raises_none() {
    let return_bytes = of(hostile(), hostile::return_bytes::HANDLE);
    let print = of(hostile(), hostile::print::HANDLE);
    let limits = Limits {
        result: MIB,
        memory: 16 * MIB,
        ..Limits::default()
    };
    let both = Both::of(Setup {
        limits,
        ..Setup::default()
    });
    let hosts = both.hosts().await;
    for host in hosts {
        let lower = CallLimits {
            result_bytes: Some(100),
            ..CallLimits::default()
        };
        let refused_at = |result| refused(result, RefusalCode::ResultTooLarge).limit;
        assert_eq!(
            refused_at(host.call(&return_bytes, (200,)).limits(lower).await),
            Some(100)
        );
        let higher = CallLimits {
            result_bytes: Some(u64::MAX),
            wall_ms: Some(u64::MAX),
            memory_bytes: Some(u64::MAX),
            output_bytes: Some(u64::MAX),
            code_bytes: Some(u64::MAX),
            state_bytes: Some(u64::MAX),
        };
        let result = host.call(&return_bytes, (2 << 20,)).limits(higher).await;
        assert_eq!(refused_at(result), Some(MIB));
        let silent = CallLimits {
            output_bytes: Some(0),
            ..CallLimits::default()
        };
        let call = host
            .call(&print, (10,))
            .limits(silent)
            .on_output(|_, _| panic!("nothing"));
        assert!(call.completed().await.output_cut);
    }
}

#[tokio::test]
async fn a_caller_that_allows_less_code_or_state_sends_nothing() {
    let both = Both::of(Setup::default());
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there")
        .capture(&vec![1; 1000])
        .expect("it fits");
    let shipped = append.bundle();
    let manifest = shipped.inner().manifest();
    let code = manifest.code.bytes;
    let state = manifest.state.expect("the capture").bytes;
    for host in both.hosts().await {
        let less_code = CallLimits {
            code_bytes: Some(code - 1),
            ..CallLimits::default()
        };
        let less_state = CallLimits {
            state_bytes: Some(state - 1),
            ..CallLimits::default()
        };
        for (limits, refusal, limit, actual) in [
            (less_code, RefusalCode::CodeTooLarge, code - 1, code),
            (less_state, RefusalCode::StateTooLarge, state - 1, state),
        ] {
            let call = host.call(&append, (vec![2],)).limits(limits);
            let refused = refused(call.await, refusal);
            assert_eq!((refused.limit, refused.actual), (Some(limit), Some(actual)));
        }
        refused(host.shipped(shipped.id()).await, RefusalCode::UnknownBundle);
        let exact = CallLimits {
            code_bytes: Some(code),
            state_bytes: Some(state),
            ..CallLimits::default()
        };
        let appended = host.call(&append, (vec![2],)).limits(exact).await;
        assert_eq!(appended.expect("it is allowed").len(), 1001);
    }
}

/// How many modules the host has compiled.
fn compiled(process: &Process) -> usize {
    let log = process.log();
    log.lines().filter(|line| line.contains("compiled")).count()
}

/// Of which kinds the blobs are that the host asks for now.
async fn asked(peer: &mut Peer) -> Vec<BlobKind> {
    let missing = peer.missing().await;
    missing.iter().map(|blob| blob.kind).collect()
}

#[tokio::test]
async fn code_is_sent_and_compiled_once_for_many_captures() {
    let process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    for captured in 0..20u8 {
        let append = append.capture(&vec![captured]).expect("a byte");
        assert_eq!(
            host.call(&append, (vec![],)).await.expect("appended"),
            [captured]
        );
    }
    until("all is stored", || async {
        // A manifest and a state for each, and the code once.
        host.status().await.expect("it serves").stored_blobs.count == 41
    })
    .await;
    // One more, by hand: the host asks for all but the code.
    let bundle = append.capture(&vec![20]).expect("a byte").bundle();
    let parts = bundle.inner();
    let (callable, _) = parts.callable("append").expect("it is there");
    let mut peer = Peer::open(&process.connection(0).await).await;
    peer.say(&Message::Call(Call {
        bundle: BlobId(*bundle.id().as_bytes()),
        callable,
        limits: message::CallLimits::default(),
        seed: 0,
        args_bytes: 1,
    }))
    .await;
    peer.pour(vec![0]).await;
    assert_eq!(asked(&mut peer).await, [BlobKind::Manifest]);
    peer.honest_blob(parts.manifest_bytes()).await;
    assert_eq!(asked(&mut peer).await, [BlobKind::State]);
    peer.honest_blob(parts.state().expect("it has captures"))
        .await;
    let done = peer.message().await;
    assert!(matches!(done, Message::Done(_)), "{done:?}");
    assert!(matches!(peer.hear().await, Ok(Received::Data(list)) if list[..] == [1, 20]));

    let status = host.status().await.expect("it serves");
    assert_eq!((status.cached_code.count, status.finished.ok), (1, 21));
    assert_eq!(compiled(&process), 1, "{}", process.log());
}

#[tokio::test]
async fn many_callers_of_the_same_missing_blob_share_one_compilation() {
    let process = Process::start("workers = 2", &["", ""]);
    let weigh = plain_bundle()
        .callable(plain::weigh::HANDLE)
        .expect("it is there");
    let weigh = weigh.capture(&vec![1; 1 << 20]).expect("bytes");
    let mut calls = Vec::new();
    // Two connections of one key and one of another, each with several calls at a time.
    for client in [0, 0, 1] {
        let host = process.connect(client).await;
        for _ in 0..4 {
            calls.push(tokio::spawn(host.call(&weigh, ()).into_future()));
        }
    }
    for call in calls {
        let weighed = call.await.expect("no panic");
        assert_eq!(weighed.expect("weighed"), (1 << 20, 1 << 20));
    }
    let status = process.connect(0).await.status().await.expect("it serves");
    assert_eq!((status.cached_code.count, status.finished.ok), (1, 12));
    assert_eq!(compiled(&process), 1, "{}", process.log());
}

#[tokio::test]
async fn shipping_ahead_stores_and_compiles_and_the_id_alone_then_suffices() {
    let both = Both::of(Setup::default());
    let hosts = both.hosts().await;
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    let bundle = append.capture(&vec![5]).expect("bytes").bundle();
    for (host, remote) in hosts.iter().zip([false, true]) {
        let unknown = host.shipped(bundle.id()).await;
        refused(unknown.map(|_| ()), RefusalCode::UnknownBundle);
        assert_eq!(host.ship(&bundle).await.expect("shipped"), bundle.id());
        let status = host.status().await.expect("it serves");
        assert_eq!(status.cached_code.count, 1);
        if remote {
            assert_eq!(status.stored_blobs.count, 3);
        }
        let shipped = host.shipped(bundle.id()).await.expect("it was shipped");
        assert_eq!(shipped.manifest(), bundle.inner().manifest());
        let append = shipped.callable("append").expect("it is there");
        let completed = host.call(&append, json!([""])).completed().await;
        assert_eq!(completed.result.expect("appended"), json!("BQ=="));
        assert_eq!(completed.timing.expect("it ran").compile_ns, 0);
        // Only an embedded host shares the whole bundle with the program.
        let captured = append.capture(&json!({"list": ""}));
        assert_eq!(matches!(captured, Err(BindError::NotHere)), remote);
    }
}

#[tokio::test]
async fn callables_that_a_bundle_does_not_have_are_not_found_in_it() {
    let bundle = plain_bundle();
    assert!(matches!(bundle.callable("treble"), Err(FindError::Name(_))));
    // A handle of another guest.
    assert!(matches!(
        bundle.callable(hostile::spin::HANDLE),
        Err(FindError::Name(_))
    ));
    // A handle of this name with other types.
    let other: Handle<NoCaptures, (u64,), u64, NoHalf> =
        Handle::new("plain::double", || plain::half::HANDLE.description());
    let found = bundle.callable(other);
    assert!(matches!(found, Err(FindError::Types { .. })), "{found:?}");
    // The same for what a host says of it.
    for host in hosts().await {
        host.ship(bundle).await.expect("shipped");
        let shipped = host.shipped(bundle.id()).await.expect("it was shipped");
        assert!(shipped.callable("double").is_ok());
        for name in ["treble", "hostile::spin"] {
            assert!(matches!(shipped.callable(name), Err(FindError::Name(_))));
        }
    }
}

#[tokio::test]
async fn wrong_captures_are_named() {
    let append = plain_bundle().callable("append").expect("it is there");
    for (captures, named) in [
        (json!({}), "list"),
        (json!({"list": "", "more": ""}), "more"),
        (json!({"list": 7}), "list"),
        (json!([""]), "object"),
    ] {
        match append.capture(&captures) {
            Err(BindError::Json(error)) => {
                assert!(
                    error.to_string().contains(named),
                    "{named:?} is not in {error}"
                );
            }
            other => panic!("{captures}: {other:?}"),
        }
    }
    let double = plain_bundle().callable("double").expect("it is there");
    assert!(
        double.capture(&json!({})).is_err(),
        "there is nothing to capture"
    );
    for host in hosts().await {
        // Nothing bound at all, and bound to another callable.
        refused(
            host.call(&append, json!([""])).await,
            RefusalCode::WrongCaptures,
        );
        let other = append
            .capture(&json!({"list": ""}))
            .expect("bytes")
            .bundle()
            .expect("here");
        let look_up = other.callable("look_up").expect("it is there");
        assert!(!look_up.is_bound());
        refused(
            host.call(&look_up, json!(["a"])).await,
            RefusalCode::WrongCaptures,
        );
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn captures_that_are_no_values_of_their_types_are_refused_by_the_guest() {
    // A table that claims 2⁶⁰ entries, one that ends early, and one with something after it.
    let claims = [&[0xfd_u8][..], &(1u64 << 60).to_le_bytes()].concat();
    for captures in [claims, vec![3, 1], vec![0, 5, 5]] {
        let (index, _) = plain_bundle()
            .inner()
            .callable("look_up")
            .expect("it is there");
        let bundle = plain_bundle()
            .inner()
            .with_captures(index, captures)
            .expect("any bytes");
        let look_up = Bundle::from(bundle)
            .callable("look_up")
            .expect("it is there");
        for host in hosts().await {
            refused(
                host.call(&look_up, json!(["a"])).await,
                RefusalCode::WrongCaptures,
            );
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn json_of_the_wrong_type_is_refused_with_path_and_type() {
    let echo = plain_bundle().callable("echo").expect("it is there");
    let half = plain_bundle().callable("half").expect("it is there");
    for host in hosts().await {
        for (callable, arguments, path, expected) in [
            (&half, json!(["eight"]), "x", "u32"),
            (&half, json!([-1]), "x", "u32"),
            (&half, json!([8, 9]), "", "1"),
            (&half, json!({"x": 8}), "", "array"),
            (&echo, json!([{"flag": 1}]), "everything.flag", "bool"),
        ] {
            let error = match host.call(callable, arguments.clone()).await {
                Err(CallError::Arguments(ArgumentsError::Json(error))) => error,
                other => panic!("{arguments}: {other:?}"),
            };
            assert_eq!(error.path, path, "{error}");
            assert!(
                error.to_string().contains(expected),
                "{expected:?} is not in {error}"
            );
        }
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn arguments_beyond_the_limit_are_refused_with_the_limit() {
    let limits = Limits {
        arguments: 1_000,
        ..Limits::default()
    };
    let both = Both::of(Setup {
        limits,
        ..Setup::default()
    });
    let hosts = both.hosts().await;
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    let append = append.capture(&vec![]).expect("bytes");
    for host in hosts {
        // A list of so many bytes has three bytes of length before them.
        let fits = host.call(&append, (vec![0; 997],)).await;
        assert_eq!(fits.expect("it fits").len(), 997);
        let result = host.call(&append, (vec![0; 998],)).await;
        let refused = refused(result, RefusalCode::ArgumentsTooLarge);
        assert_eq!((refused.limit, refused.actual), (Some(1_000), Some(1_001)));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn state_and_code_beyond_the_limit_are_refused_before_they_are_sent() {
    let weigh = plain_bundle()
        .callable(plain::weigh::HANDLE)
        .expect("it is there");
    // A list of so many bytes has three bytes of length before them.
    let (fits, large) = (vec![1; 997], vec![1; 998]);
    let (fits, large) = (
        weigh.capture(&fits).expect("bytes"),
        weigh.capture(&large).expect("bytes"),
    );
    let default = Limits::default;
    let (state, code) = (
        Limits {
            state: 1_000,
            ..default()
        },
        Limits {
            code: 1_000,
            ..default()
        },
    );
    let code_bytes = plain_bundle().inner().code().len() as u64;
    for (limits, past, refusal, bytes) in [
        (state, &large, RefusalCode::StateTooLarge, 1_001),
        (code, &fits, RefusalCode::CodeTooLarge, code_bytes),
    ] {
        let setup = Setup {
            limits,
            ..Setup::default()
        };
        let local = Local::start(setup.clone(), &["", ""]);
        let embedded = Host::embedded_with(setup).expect("the engine starts");
        for host in [embedded, local.connect(0).await] {
            if refusal == RefusalCode::StateTooLarge {
                assert_eq!(host.call(&fits, ()).await.expect("it fits"), (997, 997));
            }
            let refused = refused(host.call(past, ()).await, refusal);
            assert_eq!((refused.limit, refused.actual), (Some(1_000), Some(bytes)));
        }
        // A client that has sent the manifest is asked for nothing more.
        let bundle = past.bundle();
        let mut peer = Peer::open(&local.connection(1).await).await;
        peer.say(&ship(BlobId(*bundle.id().as_bytes()))).await;
        assert_eq!(asked(&mut peer).await, [BlobKind::Manifest]);
        peer.honest_blob(bundle.inner().manifest_bytes()).await;
        match peer.message().await {
            Message::Refused(refused) => assert_eq!(refused.code, refusal),
            other => panic!("{other:?}"),
        }
        assert!(local.connect(1).await.status().await.is_ok());
    }
}

#[tokio::test]
async fn a_large_capture_arrives_whole() {
    let weigh = plain_bundle()
        .callable(plain::weigh::HANDLE)
        .expect("it is there");
    let bytes: Vec<u8> = (0..16u32 << 20).map(|index| (index % 251) as u8).collect();
    let sum = bytes.iter().copied().map(u64::from).sum();
    let weigh = weigh.capture(&bytes).expect("bytes");
    for host in hosts().await {
        for _ in 0..2 {
            let result = host.call(&weigh, ()).limits(wall(20_000)).await;
            assert_eq!(result.expect("weighed"), (bytes.len() as u64, sum));
        }
    }
}
