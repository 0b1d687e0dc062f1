//! Guests that misbehave: each ends with its own refusal or failure, and the host serves on.

use std::time::{Duration, Instant};

use spore_client::{CallError, CallLimits, Failure, Host, OutputStream, RefusalCode, TrapCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of, wall};
use spore_tests::hostile;
use spore_tests::local::Both;
use spore_tests::module::{RUN, Raw, record};
use spore_tests::outcome::{failed, refused, soon};

const MIB: u64 = 1 << 20;

fn setup() -> Setup {
    let limits = Limits {
        memory: 16 * MIB,
        result: MIB,
        output: 64 << 10,
        ..Limits::default()
    };
    Setup {
        limits,
        ..Setup::default()
    }
}

static BOTH: Both = Both::new(setup);

async fn hosts() -> [Host; 2] {
    BOTH.hosts().await
}

#[tokio::test]
async fn an_infinite_loop_ends_at_its_wall_time() {
    let spin = of(hostile(), hostile::spin::HANDLE);
    for host in hosts().await {
        let began = Instant::now();
        let result = soon(
            "the loop",
            host.call(&spin, ()).limits(wall(100)).into_future(),
        )
        .await;
        let refused = refused(result, RefusalCode::WallTime);
        assert_eq!(refused.limit, Some(100));
        assert!(
            refused.actual.is_some_and(|actual| actual >= 100),
            "{refused}"
        );
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_sleeping_guest_ends_at_its_wall_time() {
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for host in hosts().await {
        let call = host.call(&sleep, (3_600_000,)).limits(wall(100));
        let refused = refused(
            soon("the sleeper", call.into_future()).await,
            RefusalCode::WallTime,
        );
        assert_eq!(refused.limit, Some(100));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_memory_bomb_meets_its_limit() {
    let hoard = of(hostile(), hostile::hoard::HANDLE);
    for host in hosts().await {
        let refused = refused(host.call(&hoard, ()).await, RefusalCode::Memory);
        assert_eq!(refused.limit, Some(16 * MIB));
        assert!(
            refused.actual.is_some_and(|asked| asked > 16 * MIB),
            "{refused}"
        );
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn memory_within_the_limit_is_given_and_one_page_more_is_not() {
    const PAGE: u64 = 64 << 10;
    // A guest of one page, which grows to so many bytes.
    let grown = |bytes: u64| {
        let more = bytes / PAGE - 1;
        let poll = format!(
            "(drop (memory.grow (i32.const {more}))) {}",
            record(0, 64, 1)
        );
        let raw = Raw {
            poll,
            ..Raw::default()
        };
        of(&raw.bundle(), RUN)
    };
    let lower = CallLimits {
        memory_bytes: Some(8 * MIB),
        ..CallLimits::default()
    };
    for host in hosts().await {
        for (limits, bytes) in [(CallLimits::default(), 16 * MIB), (lower, 8 * MIB)] {
            let call = host.call(&grown(bytes), (vec![],)).limits(limits);
            assert_eq!(
                call.await.expect("as much as there may be"),
                Vec::<u8>::new()
            );
            let call = host.call(&grown(bytes + PAGE), (vec![],)).limits(limits);
            let refused = refused(call.await, RefusalCode::Memory);
            let expected = (Some(bytes), Some(bytes + PAGE));
            assert_eq!((refused.limit, refused.actual), expected);
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn unbounded_recursion_is_a_stack_overflow_with_names() {
    let recurse = of(hostile(), hostile::recurse::HANDLE);
    for host in hosts().await {
        let Failure::Trap {
            code, backtrace, ..
        } = failed(host.call(&recurse, ()).await)
        else {
            panic!("it does not panic")
        };
        assert_eq!(code, TrapCode::StackOverflow);
        assert!(
            backtrace.iter().any(|name| name == "hostile::deeper"),
            "{backtrace:?}"
        );
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn endless_output_is_cut_and_the_guest_goes_on_to_its_wall_time() {
    let chatter = of(hostile(), hostile::chatter::HANDLE);
    for host in hosts().await {
        let (hear, heard) = std::sync::mpsc::channel();
        let call = host.call(&chatter, ()).limits(wall(2_000));
        let call = call.on_output(move |_, bytes| hear.send(bytes.len()).expect("the test hears"));
        refused(
            soon("the chatter", call.into_future()).await,
            RefusalCode::WallTime,
        );
        assert_eq!(heard.iter().sum::<usize>(), 64 << 10);
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn output_past_its_limit_is_cut_and_said_to_be_and_the_result_arrives() {
    let print = of(hostile(), hostile::print::HANDLE);
    for host in hosts().await {
        for (printed, cut) in [(64u32 << 10, false), ((64 << 10) + 2, true)] {
            let (hear, heard) = std::sync::mpsc::channel();
            let call = host.call(&print, (printed,));
            let call = call
                .on_output(move |stream, bytes| hear.send((stream, bytes.len())).expect("heard"));
            let completed = call.completed().await;
            assert_eq!(completed.result.expect("output is no error"), printed);
            assert_eq!(completed.output_cut, cut);
            let heard: Vec<_> = heard.iter().collect();
            assert_eq!(
                heard.iter().map(|(_, bytes)| bytes).sum::<usize>(),
                64 << 10
            );
            let errors = heard
                .iter()
                .filter(|(stream, _)| *stream == OutputStream::Stderr);
            assert!(errors.map(|(_, bytes)| bytes).sum::<usize>() >= 31 << 10);
        }
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_panic_arrives_with_message_file_and_line() {
    let panic_with = of(hostile(), hostile::panic_with::HANDLE);
    let source = include_str!("../../guests/hostile/src/lib.rs");
    let line = source
        .lines()
        .position(|line| line.contains("panic!("))
        .expect("there is one")
        + 1;
    for host in hosts().await {
        let failure = failed(host.call(&panic_with, ("oh dear".to_owned(),)).await);
        let Failure::Panic {
            message,
            file,
            line: found,
        } = failure
        else {
            panic!("it does not trap")
        };
        assert_eq!(message, "oh dear");
        assert!(file.ends_with("guests/hostile/src/lib.rs"), "{file}");
        assert!(
            !file.starts_with('/'),
            "a path of the machine that built it: {file}"
        );
        assert_eq!(found as usize, line);
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_long_panic_is_cut_and_not_refused() {
    let panic_with = of(hostile(), hostile::panic_with::HANDLE);
    for host in hosts().await {
        let failure = failed(host.call(&panic_with, ("é".repeat(100_000),)).await);
        let Failure::Panic { message, .. } = failure else {
            panic!("it does not trap")
        };
        assert_eq!(message.len(), spore_abi::fault::MESSAGE_BYTES_MAX);
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn reading_past_the_end_is_a_panic_of_the_guest() {
    let index = of(hostile(), hostile::index::HANDLE);
    for host in hosts().await {
        let failure = failed(host.call(&index, (vec![1, 2, 3], 3)).await);
        let Failure::Panic { message, .. } = failure else {
            panic!("it does not trap")
        };
        assert_eq!(
            message,
            "index out of bounds: the len is 3 but the index is 3"
        );
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_trap_arrives_with_the_names_of_the_functions_it_went_through() {
    let trap = of(hostile(), hostile::trap::HANDLE);
    for host in hosts().await {
        let Failure::Trap {
            code, backtrace, ..
        } = failed(host.call(&trap, ()).await)
        else {
            panic!("it does not panic")
        };
        assert_eq!(code, TrapCode::Unreachable);
        let at = |name: &str| backtrace.iter().position(|frame| frame == name);
        let (inner, outer) = (
            at("hostile::inner_of_the_trap"),
            at("hostile::outer_of_the_trap"),
        );
        assert!(inner.is_some() && inner < outer, "{backtrace:?}");
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_guest_that_exits_ends_only_itself() {
    let exit = of(hostile(), hostile::exit::HANDLE);
    for host in hosts().await {
        let Failure::Trap { code, message, .. } = failed(host.call(&exit, (3,)).await) else {
            panic!("it does not panic")
        };
        assert_eq!((code, message.as_str()), (TrapCode::Exit, "with status 3"));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_result_past_its_limit_is_refused_and_one_at_it_is_not() {
    let return_bytes = of(hostile(), hostile::return_bytes::HANDLE);
    // The encoding of so many bytes has five bytes of length before them.
    let fits = MIB as u32 - 5;
    for host in hosts().await {
        let bytes = host.call(&return_bytes, (fits,)).await.expect("it fits");
        assert_eq!(bytes.len(), fits as usize);
        let refused = refused(
            host.call(&return_bytes, (fits + 1,)).await,
            RefusalCode::ResultTooLarge,
        );
        assert_eq!((refused.limit, refused.actual), (Some(MIB), Some(MIB + 1)));
        assert_serves(&host).await;
    }
}

/// What a program hears of a flood of progress, and how long the flood lasted.
async fn flood(host: &Host) -> (Vec<(u64, u64)>, Duration) {
    const TIMES: u64 = 1_000_000;
    let report = of(hostile(), hostile::report::HANDLE);
    let (hear, heard) = std::sync::mpsc::channel();
    let began = Instant::now();
    let call = host.call(&report, (TIMES,));
    let call = call.on_progress(move |done, total| hear.send((done, total)).expect("heard"));
    assert_eq!(call.await.expect("progress is no error"), TIMES);
    let took = began.elapsed();
    let heard: Vec<_> = heard.iter().collect();
    assert_eq!(heard.last(), Some(&(TIMES, TIMES)));
    assert!(heard.is_sorted(), "progress went back");
    assert_serves(host).await;
    (heard, took)
}

#[tokio::test]
async fn a_flood_of_progress_arrives_thinned_and_the_last_one_stands() {
    // As docs/PROTOCOL.md has it.
    const INTERVAL: Duration = Duration::from_millis(20);
    let [embedded, remote] = hosts().await;
    flood(&embedded).await;
    let (heard, took) = flood(&remote).await;
    // The first at once, one after each interval, and the last with the result.
    let most = took.div_duration_f64(INTERVAL) as usize + 2;
    assert!(heard.len() <= most, "{} in {took:?}", heard.len());
}

#[tokio::test]
async fn memory_of_all_guests_together_is_bounded() {
    let limits = Limits {
        memory_total: 12 * MIB,
        ..setup().limits
    };
    let host = Host::embedded_with(Setup { limits, ..setup() }).expect("the engine starts");
    let take = of(hostile(), hostile::take::HANDLE);
    let result = host.call(&take, (13 * MIB as u32,)).await;
    let refused = refused(result, RefusalCode::Memory);
    assert_eq!(refused.limit, Some(12 * MIB));
    // What it had taken is given back before the caller has its result: as much fits again and
    // again, at once.
    for _ in 0..100 {
        assert_eq!(
            host.call(&take, (8 * MIB as u32,)).await.expect("it fits"),
            8 * MIB
        );
    }
    assert_serves(&host).await;
}

#[tokio::test]
async fn who_has_a_result_has_its_place_in_the_queue_back() {
    let limits = Limits {
        queue: 1,
        queue_per_key: 1,
        ..setup().limits
    };
    let both = Both::of(Setup { limits, ..setup() });
    for host in both.hosts().await {
        for _ in 0..100 {
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn an_error_where_the_callable_has_none_does_not_reach_the_program_as_a_value() {
    // The raw guest says that its record is an error, which its types do not have.
    let raw = Raw {
        poll: record(1, 64, 1),
        ..Default::default()
    };
    let run = raw.bundle().callable("run").expect("it has one");
    for host in hosts().await {
        let result = host.call(&run, serde_json::json!([""])).await;
        assert!(matches!(result, Err(CallError::Result(_))), "{result:?}");
        assert_serves(&host).await;
    }
}
