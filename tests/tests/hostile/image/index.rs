//! Indices that contradict themselves or their manifest, and bytes that are none.

use spore_bundle::image::{CLOCK_NS_MAX, GlobalValue, Index, RUN_ITEMS_MAX};
use spore_bundle::{BlockId, CodeId, StateKind};
use spore_client::RefusalCode;
use spore_tests::keeper;
use spore_tests::peer::Peer;
use spore_transport::message::BlobKind;

use super::{
    BLOCK_BYTES, STATE, bound, global, index_of, recalled, run, saved_session, serves, start,
};
use crate::asking::{Parts, refused};

#[tokio::test]
async fn an_index_that_contradicts_itself_is_refused_before_its_blocks_are_asked_for() {
    type Case = (&'static str, fn(&mut Index));
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    assert!(honest.read_index().numbers.len() > 8);
    let cases: &[Case] = &[
        ("the memory has", |index| {
            let beyond = index.memory_blocks();
            *index.numbers.last_mut().expect("it has blocks") = beyond;
        }),
        ("the memory has", |index| {
            *index.numbers.last_mut().expect("it has blocks") = u32::MAX;
        }),
        ("the memory has 16", |index| index.memory_pages = 1),
        ("the memory has 0", |index| index.memory_pages = 0),
        ("65537 pages", |index| index.memory_pages = 65_537),
        (" after ", |index| index.numbers[1] = index.numbers[0]),
        (" after ", |index| index.numbers.swap(0, 1)),
        ("bytes of ids for", |index| {
            index.ids.truncate(index.ids.len() - 1);
        }),
        ("bytes of ids for", |index| {
            let more = index.ids[0];
            index.ids.push(more);
        }),
        ("bytes of ids for", |index| index.numbers.clear()),
        ("a clock of", |index| index.clock_ns = CLOCK_NS_MAX + 1),
        ("a clock of", |index| index.clock_ns = u64::MAX),
        ("global 0 after 0", |index| {
            index.globals = vec![global(0, GlobalValue::I32(1)); 2];
        }),
        ("1025 globals", |index| {
            let globals = (0..1025).map(|number| global(number, GlobalValue::I32(1)));
            index.globals = globals.collect();
        }),
        ("a directory named \"..\"", |index| {
            index.directories.push("..".to_owned());
        }),
        ("a directory named \"data\"", |index| {
            index.directories = vec!["data".to_owned(); 2];
        }),
        ("65 directories", |index| {
            index.directories = (0..65).map(|number| format!("d{number}")).collect();
        }),
        ("is not in the bundle", |index| {
            index.bound = vec![bound(1_000, 8)];
        }),
        ("captures of callable 0 after 0", |index| {
            index.bound = vec![bound(0, 8); 2];
        }),
        ("1025 bound captures", |index| {
            index.bound = (0..1025).map(|callable| bound(callable, 8)).collect();
        }),
        ("which is not bound", |index| index.run = Some(run(0, 0))),
        ("items emitted", |index| {
            index.bound = vec![bound(0, 8)];
            index.run = Some(run(0, RUN_ITEMS_MAX + 1));
        }),
        ("the manifest says no such run", |index| {
            index.bound = vec![bound(0, 8)];
            index.run = Some(run(0, 0));
        }),
        ("image of an instance of other code", |index| {
            index.code = CodeId::of(b"another module");
        }),
    ];
    for (named, change) in cases {
        let forged = honest.clone().with_index(change);
        let (refusal, asked) = forged.answer(&liar, &forged.session()).await;
        let why = refused(refusal, RefusalCode::ImageMisfit, named);
        assert!(
            why.message.contains(named),
            "{named:?} is not in {}",
            why.message
        );
        assert_eq!(asked, 0, "{named}");
    }
    // One callable of the guest uses its captures up.
    let consume = index_of(keeper(), "consume");
    let forged = honest.clone().with_index(|index| {
        index.bound = vec![bound(consume, 8)];
    });
    let (refusal, _) = forged.answer(&liar, &forged.session()).await;
    let why = refused(refusal, RefusalCode::ImageMisfit, "captures used up");
    assert!(why.message.contains("uses its captures up"), "{why}");
    // Whatever the request is.
    let forged = honest.clone().with_index(|index| index.numbers.swap(0, 1));
    for request in forged.requests() {
        let (refusal, asked) = forged.answer(&liar, &request).await;
        refused(refusal, RefusalCode::ImageMisfit, request.name());
        assert_eq!(asked, 0, "{}", request.name());
    }
    // Nothing of it was kept: the image opens once it comes as it is.
    let opened = honest.opens(&liar).await;
    assert_eq!(recalled(&local.connect(1).await, opened).await, ["word"]);
    serves(&local, &liar).await;
}

#[tokio::test]
async fn bytes_that_are_no_index_are_refused() {
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    let bytes = honest.index.clone();
    // The pages of the memory come behind the id of the code, and are fewer than 251.
    let pages = 32;
    let longer = [
        &bytes[..pages],
        &[251, bytes[pages], 0],
        &bytes[pages + 1..],
    ]
    .concat();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("one byte", bytes[..1].to_vec()),
        ("a half", bytes[..bytes.len() / 2].to_vec()),
        ("all but one", bytes[..bytes.len() - 1].to_vec()),
        ("one more", [&bytes[..], &[0]].concat()),
        ("a longer form of a number", longer),
        ("noise", vec![0xff; 100]),
        // Of ids that would take more memory than there is.
        (
            "a length that lies",
            [&bytes[..32], &[17, 0, 253], &[0xff; 8]].concat(),
        ),
    ] {
        let forged = honest.clone().with_bytes(bytes);
        let (refusal, asked) = forged.answer(&liar, &forged.session()).await;
        let why = refused(refusal, RefusalCode::ImageMisfit, what);
        assert!(why.message.contains("unreadable index"), "{what}: {why}");
        assert_eq!(asked, 0, "{what}");
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn an_image_whose_size_is_another_than_its_manifest_says() {
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    for more in [1, u64::MAX] {
        let forged = honest.clone().with_state(|state| {
            state.bytes = state.bytes.wrapping_add(more);
        });
        let (refusal, _) = forged.answer(&liar, &forged.session()).await;
        let why = refused(refusal, RefusalCode::InvalidManifest, "a size that lies");
        assert!(why.message.contains("the manifest announces"), "{why}");
    }
    // Beyond the limit it is refused with the manifest.
    for bytes in [STATE + 1, u64::MAX] {
        let forged = honest.clone().with_state(|state| state.bytes = bytes);
        let mut peer = Peer::open(&liar).await;
        peer.say(&forged.session()).await;
        assert_eq!(peer.missing().await[0].kind, BlobKind::Manifest);
        peer.honest_blob(&forged.part(BlobKind::Manifest)).await;
        let why = refused(peer.message().await, RefusalCode::StateTooLarge, "a size");
        assert_eq!((why.limit, why.actual), (Some(STATE), Some(bytes)));
    }
    // Blocks count with their index, and are not asked for when they are too many.
    let blocks = STATE / BLOCK_BYTES + 1;
    let forged = honest.clone().with_index(|index| {
        index.memory_pages = 100;
        index.numbers = (0..blocks as u32).collect();
        let ids = (0..blocks as u32).map(|number| BlockId::of(&number.to_le_bytes()));
        index.ids = ids.collect();
    });
    let (refusal, asked) = forged.answer(&liar, &forged.session()).await;
    let why = refused(refusal, RefusalCode::StateTooLarge, "too many blocks");
    let actual = forged.index.len() as u64 + blocks * BLOCK_BYTES;
    assert_eq!((why.limit, why.actual), (Some(STATE), Some(actual)));
    assert_eq!(asked, 0);
    serves(&local, &liar).await;
}

#[tokio::test]
async fn an_image_of_a_later_layout_is_refused_as_that() {
    let (local, owner, liar) = start().await;
    let later = Parts::of(&saved_session(&owner).await).with_state(|state| {
        state.kind = StateKind::Image {
            layout: 2,
            job: None,
        };
    });
    for request in later.requests() {
        let (refusal, asked) = later.answer(&liar, &request).await;
        let why = refused(refusal, RefusalCode::UnsupportedVersion, request.name());
        assert!(why.message.contains("layout 2"), "{why}");
        assert_eq!(asked, 0, "{}", request.name());
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn an_image_of_a_later_layout_need_not_have_an_index_of_this_one() {
    let (local, owner, liar) = start().await;
    let later = Parts::of(&saved_session(&owner).await).with_state(|state| {
        state.kind = StateKind::Image {
            layout: 2,
            job: None,
        };
    });
    let bytes = [&later.index[..], b"what is new"].concat();
    let later = later.with_bytes(bytes);
    let (refusal, _) = later.answer(&liar, &later.session()).await;
    refused(refusal, RefusalCode::UnsupportedVersion, "a later index");
    serves(&local, &liar).await;
}
