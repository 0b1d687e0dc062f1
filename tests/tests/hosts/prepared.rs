//! Large captures that are used again and again: a host decodes them once for all calls, and nobody
//! can tell but by the time that it takes.

use std::time::Duration;

use spore_client::Host;
use spore_host::{Limits, Setup};
use spore_tests::local::{Both, Local};
use spore_tests::outcome::until;
use spore_tests::plain;

const MIB: usize = 1 << 20;

/// Calls that are more than enough for a host to think of it.
const CALLS: usize = 8;

/// Modules that a host has compiled.
async fn compiled(host: &Host) -> u64 {
    host.status().await.expect("it serves").cached_code.count
}

#[tokio::test]
async fn captures_that_are_decoded_once_are_what_they_were() {
    for host in Both::of(Setup::default()).hosts().await {
        let bytes: Vec<u8> = (0..2 * MIB).map(|at| (at % 251) as u8).collect();
        let sum = bytes.iter().copied().map(u64::from).sum();
        let weigh = plain().callable(plain::weigh::HANDLE).expect("it is there");
        let weigh = weigh.capture(&bytes).expect("bytes");
        // It takes its captures over, and each call has them whole.
        let append = plain()
            .callable(plain::append::HANDLE)
            .expect("it is there");
        let append = append.capture(&bytes).expect("bytes");
        let whole: Vec<u8> = bytes.iter().copied().chain([7]).collect();
        for _ in 0..CALLS {
            let weighed = host.call(&weigh, ()).await.expect("it runs");
            assert_eq!(weighed, (bytes.len() as u64, sum));
            let appended = host.call(&append, (vec![7],)).await.expect("it runs");
            assert!(appended == whole);
        }
        // The host is at one of them at a time, and comes back to the other after as many calls.
        until("both are decoded once", async || {
            host.call(&weigh, ()).await.expect("it runs");
            host.call(&append, (vec![7],)).await.expect("it runs");
            compiled(&host).await == 3
        })
        .await;
        for _ in 0..2 {
            let weighed = host.call(&weigh, ()).await.expect("it runs");
            assert_eq!(weighed, (bytes.len() as u64, sum));
            let appended = host.call(&append, (vec![7],)).await.expect("it runs");
            assert!(appended == whole);
        }
        // A session of the bundle is an instance of its code, of which images are taken.
        let session = host.open_session(&weigh.bundle()).await.expect("opened");
        let saved = session.save().await.expect("it has an image");
        assert_eq!(saved.inner().code_id(), weigh.bundle().inner().code_id());
        let copy = host.open_session(&saved).await.expect("opened");
        let call = copy.call(plain::weigh::HANDLE, ()).expect("it has it");
        assert_eq!(call.await.expect("it runs"), (bytes.len() as u64, sum));
    }
}

#[tokio::test]
async fn captures_that_nobody_uses_make_room_for_others() {
    let limits = Limits {
        // For one of them, which takes its encoded and its decoded bytes, and both twice.
        prepared: 12 << 20,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    for host in Both::of(setup).hosts().await {
        let mut before = host.status().await.expect("it serves").cached_code.bytes;
        // Each is larger than the one before, so that what is kept tells them apart.
        for (byte, len) in [
            (1u8, 2 * MIB),
            (2, 2 * MIB + MIB / 4),
            (3, 2 * MIB + MIB / 2),
        ] {
            let weigh = plain().callable(plain::weigh::HANDLE).expect("it is there");
            let weigh = weigh.capture(&vec![byte; len]).expect("bytes");
            let expected = (len as u64, len as u64 * u64::from(byte));
            for _ in 0..CALLS {
                let weighed = host.call(&weigh, ()).await.expect("it runs");
                assert_eq!(weighed, expected);
            }
            // The first takes room, and each other that of the one before.
            until("it is decoded once", async || {
                let weighed = host.call(&weigh, ()).await.expect("it runs");
                assert_eq!(weighed, expected);
                let code = host.status().await.expect("it serves").cached_code;
                assert!(code.count <= 2, "two have room");
                code.count == 2 && code.bytes > before
            })
            .await;
            before = host.status().await.expect("it serves").cached_code.bytes;
            assert_eq!(host.call(&weigh, ()).await.expect("it runs"), expected);
            assert_eq!(compiled(&host).await, 2);
        }
    }
}

#[tokio::test]
async fn captures_whose_decoding_each_call_sees_anew_are_decoded_in_each() {
    for host in Both::of(Setup::default()).hosts().await {
        let numbers = (0..300_000).map(|number| number * 3).collect();
        let is_among = plain()
            .callable(plain::is_among::HANDLE)
            .expect("it is there");
        let is_among = is_among.capture(&numbers).expect("numbers");
        for _ in 0..CALLS {
            assert!(host.call(&is_among, (299_997,)).await.expect("it runs"));
            assert!(!host.call(&is_among, (299_998,)).await.expect("it runs"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(compiled(&host).await, 1);
    }
}

#[tokio::test]
async fn a_host_may_have_none_decoded_once() {
    let limits = Limits {
        prepared: 0,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    for host in Both::of(setup).hosts().await {
        let weigh = plain().callable(plain::weigh::HANDLE).expect("it is there");
        let weigh = weigh.capture(&vec![1; 2 * MIB]).expect("bytes");
        for _ in 0..CALLS {
            let weighed = host.call(&weigh, ()).await.expect("it runs");
            assert_eq!(weighed, (2 * MIB as u64, 2 * MIB as u64));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(compiled(&host).await, 1);
    }
}

#[tokio::test]
async fn a_key_with_one_call_at_a_time_has_its_captures_decoded_once_too() {
    let local = Local::start(Setup::default(), &["queued=1"]);
    let host = local.connect(0).await;
    let weigh = plain().callable(plain::weigh::HANDLE).expect("it is there");
    let weigh = weigh.capture(&vec![1; 2 * MIB]).expect("bytes");
    until("it is decoded once", async || {
        let weighed = host.call(&weigh, ()).await.expect("it runs");
        assert_eq!(weighed, (2 * MIB as u64, 2 * MIB as u64));
        compiled(&host).await == 2
    })
    .await;
}
