//! Images that are sound, of another code, another job or another host.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use spore_bundle::image::{CLOCK_NS_MAX, GlobalValue, Index, RUN_ITEMS_MAX, Random, Run};
use spore_bundle::{State, StateId, StateKind};
use spore_client::RefusalCode;
use spore_tests::module::{Raw, bundle_with};
use spore_tests::peer::{self, call, ship};
use spore_tests::{keeper, resumer};
use spore_transport::job::JobStarted;
use spore_transport::message::{Call, CallLimits, Message};
use spore_transport::session::SessionOpen;
use spore_value::codec;

use super::{
    MEMORY, PAGE_BYTES, bound, call_in, close, ended, global, index_of, is_no_fault_of_the_host,
    recalled, saved_job, saved_session, serves, start,
};
use crate::asking::{Parts, refused};

#[tokio::test]
async fn globals_and_memory_that_the_code_does_not_have_are_refused() {
    type Case = (&'static str, fn(&mut Index));
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    // The first global of a guest in Rust is the pointer to its stack, an `i32`.
    let cases: &[Case] = &[
        ("global 0 is", |index| {
            index.globals = vec![global(0, GlobalValue::I64(1))];
        }),
        ("global 0 is", |index| {
            index.globals = vec![global(0, GlobalValue::F32(1))];
        }),
        ("global 0 is", |index| {
            index.globals = vec![global(0, GlobalValue::F64(1))];
        }),
        ("global 0 is", |index| {
            index.globals = vec![global(0, GlobalValue::V128(1))];
        }),
        ("global 1000 is none", |index| {
            index.globals = vec![global(1_000, GlobalValue::I32(1))];
        }),
        ("global 4294967295 is none", |index| {
            index.globals = vec![global(u32::MAX, GlobalValue::I32(1))];
        }),
        ("memory of 1 pages", |index| {
            index.numbers.clear();
            index.ids.clear();
            index.memory_pages = 1;
        }),
        ("memory of 0 pages", |index| {
            index.numbers.clear();
            index.ids.clear();
            index.memory_pages = 0;
        }),
    ];
    for (named, change) in cases {
        let forged = honest.clone().with_index(change);
        for request in [forged.session(), ship(forged.id()), call(forged.id(), 0)] {
            let (refusal, _) = forged.answer(&liar, &request).await;
            let why = refused(refusal, RefusalCode::ImageMisfit, request.name());
            assert!(
                why.message.contains(named),
                "{named:?} is not in {}",
                why.message
            );
        }
    }

    // The limit of the host, of which the memory begins one page beyond.
    let pages = (MEMORY / PAGE_BYTES) as u32;
    let large = |pages| {
        honest
            .clone()
            .with_index(|index| index.memory_pages = pages)
    };
    for pages in [pages + 1, 65_536] {
        let forged = large(pages);
        for request in [forged.session(), ship(forged.id()), call(forged.id(), 0)] {
            let (refusal, _) = forged.answer(&liar, &request).await;
            let why = refused(refusal, RefusalCode::Memory, request.name());
            let actual = u64::from(pages) * PAGE_BYTES;
            assert_eq!((why.limit, why.actual), (Some(MEMORY), Some(actual)));
        }
    }
    // The same of what its owner allows.
    let forged = large(pages);
    let open = Message::SessionOpen(SessionOpen {
        bundle: forged.id(),
        limits: CallLimits {
            memory_bytes: Some(MEMORY - 1),
            ..CallLimits::default()
        },
        idle_ms: None,
    });
    let (refusal, _) = forged.answer(&liar, &open).await;
    let why = refused(refusal, RefusalCode::Memory, "more than its owner allows");
    assert_eq!((why.limit, why.actual), (Some(MEMORY - 1), Some(MEMORY)));
    // As much as there may be is no offence.
    let opened = forged.opens(&liar).await;
    assert_eq!(recalled(&local.connect(1).await, opened).await, ["word"]);
    close(&liar, opened).await;

    // Code that says how far its memory grows.
    let bundle = Raw {
        memory: r#"(memory (export "memory") 1 2)"#.to_owned(),
        ..Raw::default()
    }
    .bundle();
    let session = owner.open_session(&bundle).await.expect("opened");
    let run = session.call("run", json!(["AQ=="])).expect("it is there");
    run.await.expect("it runs");
    let honest = Parts::of(&session.save().await.expect("saved"));
    assert!(!honest.blocks.is_empty());
    for (pages, fits) in [(1, true), (2, true), (3, false), (65_536, false)] {
        let forged = honest
            .clone()
            .with_index(|index| index.memory_pages = pages);
        if fits {
            let opened = forged.opens(&liar).await;
            let done = call_in(&liar, opened, 0, vec![0]).await;
            assert!(matches!(done, Message::Done(_)), "{done:?}");
            close(&liar, opened).await;
            continue;
        }
        let (refusal, _) = forged.answer(&liar, &forged.session()).await;
        let why = refused(refusal, RefusalCode::ImageMisfit, "beyond its maximum");
        assert!(why.message.contains("the code has 1 to 2"), "{why}");
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn an_image_with_the_code_of_another_bundle() {
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    // The index says of which code it is.
    let counter = spore_client::embedded_bundle!("counter");
    let forged = honest.clone().with_code(&counter);
    let code = honest.read_index().code;
    let plain = forged.clone().with_index(|index| index.code = code);
    let (refusal, _) = plain.answer(&liar, &plain.session()).await;
    let why = refused(refusal, RefusalCode::ImageMisfit, "of other code");
    assert!(why.message.contains("of other code"), "{why}");
    // A whole lie is one that nothing shows. The guest is left with memory of another.
    let opened = forged.opens(&liar).await;
    let history = call_in(&liar, opened, index_of(&counter, "history"), Vec::new()).await;
    is_no_fault_of_the_host(&history, "memory of another guest");
    close(&liar, opened).await;
    // Code with less memory, and code without images.
    let small = Raw {
        memory: r#"(memory (export "memory") 1 2)"#.to_owned(),
        ..Raw::default()
    };
    let tables = Raw {
        more: "(table 1 funcref) (func $change (table.set (i32.const 0) (ref.null func)))"
            .to_owned(),
        ..Raw::default()
    };
    for (raw, code) in [
        (small, RefusalCode::ImageMisfit),
        (tables, RefusalCode::NoImage),
    ] {
        let forged = honest.clone().with_code(&raw.bundle());
        for request in [forged.session(), ship(forged.id()), call(forged.id(), 0)] {
            let (refusal, _) = forged.answer(&liar, &request).await;
            refused(refusal, code, request.name());
        }
    }
    // The image of a job with code that has no such callable.
    let job = Parts::of(&saved_job(&owner).await).with_code(&Raw::default().bundle());
    let forged = job.with_state(|state| {
        state.kind = StateKind::Image {
            layout: 1,
            job: None,
        };
    });
    let (refusal, _) = forged.answer(&liar, &forged.job()).await;
    refused(refusal, RefusalCode::ImageMisfit, "a run of other code");
    serves(&local, &liar).await;
}

#[tokio::test]
async fn the_image_of_a_job_that_contradicts_its_bundle_is_refused() {
    type Case = (&'static str, fn(&mut Index));
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_job(&owner).await);
    fn of_run(index: &mut Index) -> &mut Run {
        index.run.as_mut().expect("it holds a run")
    }
    let cases: &[Case] = &[
        ("which is not bound", |index| of_run(index).handle ^= 1),
        ("which is not bound", |index| of_run(index).callable += 1),
        ("which is not bound", |index| index.bound.clear()),
        ("items emitted", |index| {
            of_run(index).items = RUN_ITEMS_MAX + 1;
        }),
        ("items emitted", |index| of_run(index).items = u64::MAX),
        ("the index holds no such run", |index| index.run = None),
        ("a clock of", |index| index.clock_ns = CLOCK_NS_MAX + 1),
    ];
    for (named, change) in cases {
        let forged = honest.clone().with_index(change);
        let (refusal, asked) = forged.answer(&liar, &forged.job()).await;
        let why = refused(refusal, RefusalCode::ImageMisfit, named);
        assert!(
            why.message.contains(named),
            "{named:?} is not in {}",
            why.message
        );
        assert_eq!(asked, 0, "{named}");
    }
    let told = index_of(resumer(), "told");
    for job in [None, Some(told)] {
        let forged = honest.clone().with_state(|state| {
            state.kind = StateKind::Image { layout: 1, job };
        });
        let (refusal, _) = forged.answer(&liar, &forged.job()).await;
        let why = refused(refusal, RefusalCode::ImageMisfit, "another manifest");
        assert!(why.message.contains("the manifest says"), "{why}");
    }
    // A run of what is not resumable.
    let plain = index_of(resumer(), "looked_up");
    let forged = honest
        .clone()
        .with_index(|index| {
            of_run(index).callable = plain;
            index.bound = vec![bound(plain, of_run(index).handle)];
        })
        .with_state(|state| {
            state.kind = StateKind::Image {
                layout: 1,
                job: Some(plain),
            };
        });
    let (refusal, _) = forged.answer(&liar, &forged.job()).await;
    refused(refusal, RefusalCode::NotResumable, "not resumable");
    // What the code does not have, and more memory than one may have.
    let forged = honest.clone().with_index(|index| {
        index.globals = vec![global(0, GlobalValue::F64(1))];
    });
    let (refusal, _) = forged.answer(&liar, &forged.job()).await;
    refused(refusal, RefusalCode::ImageMisfit, "a global");
    let forged = honest.clone().with_index(|index| index.memory_pages = 257);
    let (refusal, _) = forged.answer(&liar, &forged.job()).await;
    let why = refused(refusal, RefusalCode::Memory, "memory");
    assert_eq!((why.limit, why.actual), (Some(MEMORY), Some(257 << 16)));
    // A session's image holds no run, and a run goes on as nothing but a job.
    let session = Parts::of(&saved_session(&owner).await);
    let (refusal, _) = session.answer(&liar, &session.job()).await;
    refused(refusal, RefusalCode::NoImage, "no run");
    let [_, _, _, call, start, _] = honest.requests();
    for request in [call, start] {
        let (refusal, _) = honest.answer(&liar, &request).await;
        refused(refusal, RefusalCode::Unsupported, request.name());
    }
    // A task that there is not is the guest's own matter.
    for task in [0, 8, u32::MAX] {
        let forged = honest.clone().with_index(|index| of_run(index).task = task);
        let job = match forged.answer(&liar, &forged.job()).await {
            (Message::JobStarted(JobStarted { job, .. }), _) => job,
            other => panic!("expected a job, got {other:?}"),
        };
        is_no_fault_of_the_host(&ended(&liar, job).await, "a task that there is not");
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn a_directory_that_an_image_has_and_its_key_does_not() {
    let (local, owner, liar) = start().await;
    let session = Parts::of(&saved_session(&owner).await);
    let job = Parts::of(&saved_job(&owner).await);
    // One that a callable of the guest asks for, and one that none does.
    for name in ["data", "elsewhere"] {
        let open = |parts: &Parts| {
            let parts = parts.clone();
            parts.with_index(|index| index.directories = vec![name.to_owned()])
        };
        let (session, job) = (open(&session), open(&job));
        for (forged, request) in [
            (&session, session.session()),
            (&session, call(session.id(), 0)),
            (&job, job.job()),
        ] {
            let (refusal, _) = forged.answer(&liar, &request).await;
            let why = refused(refusal, RefusalCode::GrantNotGiven, request.name());
            assert!(why.message.contains(name), "{why}");
        }
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn a_clock_as_late_as_may_be_is_no_offence() {
    let (local, owner, liar) = start().await;
    let forged = Parts::of(&saved_session(&owner).await).with_index(|index| {
        index.clock_ns = CLOCK_NS_MAX;
        index.random = Some(Random {
            key: [0xff; 32],
            position: u64::MAX,
        });
    });
    let opened = forged.opens(&liar).await;
    let host = local.connect(1).await;
    assert_eq!(recalled(&host, opened).await, ["word"]);
    let session = host.session_of(opened, keeper());
    let draw = session.call(keeper::draw::HANDLE, ());
    draw.expect("it is there").await.expect("drawn");
    // It can be saved, and opened as it was saved.
    let saved = session.save().await.expect("saved");
    let image = saved.inner().image().expect("it has one");
    assert_eq!(image.index().clock_ns, CLOCK_NS_MAX);
    let again = host.open_session(&saved).await.expect("opened");
    assert_eq!(recalled(&host, again.id()).await, ["word"]);
    serves(&local, &liar).await;
}

#[tokio::test]
async fn what_a_guest_does_when_it_is_restored_counts_in_the_time_of_its_call() {
    /// Far more than the call may take.
    const PATIENCE: Duration = Duration::from_secs(10);
    let (local, _, liar) = start().await;
    let endless = Raw {
        more: "(func (export \"spore1:restored/raw::again\") (loop br 0))".to_owned(),
        ..Raw::default()
    };
    let bundle = bundle_with(endless.code(), |manifest| {
        manifest.restored = Some("spore1:restored/raw::again".to_owned());
    });
    let index = Index {
        memory_pages: 1,
        ..Index::of(bundle.inner().code_id())
    };
    let bytes = codec::encode_serde(&index).expect("it is flat");
    let mut manifest = bundle.inner().manifest().clone();
    manifest.state = Some(State {
        id: StateId::of(&bytes),
        bytes: bytes.len() as u64,
        kind: StateKind::Image {
            layout: 1,
            job: None,
        },
    });
    let forged = Parts {
        manifest,
        code: bundle.inner().code().clone(),
        index: bytes,
        blocks: HashMap::new(),
        items: Bytes::new(),
    };
    let opened = forged.opens(&liar).await;
    for _ in 0..2 {
        let called = tokio::time::timeout(PATIENCE, call_in(&liar, opened, 0, vec![0])).await;
        let refusal = called.expect("it ends when its time is over");
        refused(refusal, RefusalCode::WallTime, "a session");
    }
    close(&liar, opened).await;
    let call = Message::Call(Call {
        bundle: forged.id(),
        callable: 0,
        limits: peer::wall(100),
        seed: 0,
        args_bytes: 0,
    });
    let called = tokio::time::timeout(PATIENCE, forged.answer(&liar, &call)).await;
    let (refusal, _) = called.expect("it ends when its time is over");
    refused(refusal, RefusalCode::WallTime, "a call");
    serves(&local, &liar).await;
}
