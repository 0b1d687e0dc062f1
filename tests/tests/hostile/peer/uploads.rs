//! Uploads that are not what they are said to be.

use std::time::Duration;

use spore_client::RefusalCode;
use spore_tests::Local;
use spore_tests::module::{Raw, bundle_with};
use spore_tests::outcome::refused;
use spore_tests::peer::{Peer, call, id_of, ship};
use spore_transport::message::{Absent, Blob, BlobKind, Describe, Encoding, Message, MissingBlob};

use super::{MIB, bundle, id, part, serves, setup, start, until_asked};

const KINDS: [BlobKind; 3] = [BlobKind::Manifest, BlobKind::Code, BlobKind::State];

#[tokio::test]
async fn a_blob_whose_bytes_do_not_match_its_id() {
    let (local, connection) = start().await;
    let bundle = bundle();
    for kind in KINDS {
        let right = part(&bundle, kind);
        let mut wrong = right.to_vec();
        *wrong.last_mut().expect("it is not empty") ^= 1;
        for (encoding, wire) in [
            (Encoding::Raw, wrong.clone()),
            (
                Encoding::Zstd,
                zstd::bulk::compress(&wrong, 3).expect("compressed"),
            ),
        ] {
            let mut peer = until_asked(&connection, &bundle, kind).await;
            peer.blob(id_of(&right), encoding, wrong.len() as u64, &wire)
                .await;
            let refused = peer.refusal(RefusalCode::BlobMismatch).await;
            assert!(
                refused.message.contains(&id_of(&wrong).to_string()),
                "{refused}"
            );
        }
    }
    // Nothing of it was kept: the same bundle works once it comes as it is.
    let host = local.connect(0).await;
    assert_eq!(host.ship(&bundle).await.expect("as it is"), bundle.id());
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_zstd_bomb_on_the_way() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let code = part(&bundle, BlobKind::Code);
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).expect("compressed");
    assert!(
        bomb.len() < code.len(),
        "it is announced as less than it is"
    );
    let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
    peer.blob(id_of(&code), Encoding::Zstd, code.len() as u64, &bomb)
        .await;
    let refused = peer.refusal(RefusalCode::BlobEncoding).await;
    assert_eq!(refused.limit, Some(code.len() as u64));
    // It was not decompressed to its end.
    assert!(
        refused.actual.is_some_and(|actual| actual < MIB),
        "{refused}"
    );
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_zstd_frame_that_wants_a_large_window() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let code = part(&bundle, BlobKind::Code);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("zstd");
    encoder.window_log(27).expect("zstd has such windows");
    std::io::Write::write_all(&mut encoder, &code).expect("compressed");
    let frame = encoder.finish().expect("compressed");
    let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
    peer.blob(id_of(&code), Encoding::Zstd, code.len() as u64, &frame)
        .await;
    peer.refusal(RefusalCode::BlobEncoding).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn compressed_bytes_that_are_no_single_whole_frame() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let code = part(&bundle, BlobKind::Code);
    let frame = zstd::bulk::compress(&code, 3).expect("compressed");
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4],
        &frame[..],
    ]
    .concat();
    let halves = |at| zstd::bulk::compress(at, 3).expect("compressed");
    let two = [halves(&code[..9_000]), halves(&code[9_000..])].concat();
    for (what, wire) in [
        ("no zstd", vec![0xab; 1_000]),
        ("cut off", frame[..frame.len() - 1].to_vec()),
        ("empty", halves(&[])),
        ("something after it", [&frame[..], &[0]].concat()),
        ("two frames", two),
        (
            "a skippable frame after it",
            [&frame[..], &skippable[..12]].concat(),
        ),
        ("too little", halves(&code[1..])),
    ] {
        let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
        peer.blob(id_of(&code), Encoding::Zstd, code.len() as u64, &wire)
            .await;
        let refused = peer.refusal(RefusalCode::BlobEncoding).await;
        assert!(
            refused.message.contains(&id_of(&code).to_string()),
            "{what}: {refused}"
        );
    }
    serves(&local, &connection).await;
}

#[tokio::test]
async fn lengths_that_contradict_each_other() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let blob = |encoding, raw_bytes, wire_bytes| {
        let id = id(&bundle);
        Message::Blob(Blob {
            id,
            encoding,
            raw_bytes,
            wire_bytes,
        })
    };
    for message in [
        blob(Encoding::Raw, 100, 99),
        blob(Encoding::Raw, 100, 101),
        blob(Encoding::Zstd, 100, 101),
        blob(Encoding::Raw, 0, u64::MAX),
    ] {
        let mut peer = until_asked(&connection, &bundle, BlobKind::Manifest).await;
        peer.say(&message).await;
        peer.refusal(RefusalCode::BlobEncoding).await;
    }
    // More bytes than were announced.
    let mut peer = until_asked(&connection, &bundle, BlobKind::Manifest).await;
    peer.say(&blob(Encoding::Raw, 10, 10)).await;
    peer.pour(vec![0; 11]).await;
    peer.refusal(RefusalCode::OutOfOrder).await;
    // A length that is right for other bytes, less than the manifest says.
    let code = part(&bundle, BlobKind::Code);
    let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
    peer.blob(id_of(&code), Encoding::Raw, 100, &code[..100])
        .await;
    peer.refusal(RefusalCode::BlobMismatch).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn announcements_beyond_a_limit_are_refused_before_the_bytes() {
    let (local, connection) = start().await;
    let bundle = bundle();
    for (kind, code, limit) in [
        (BlobKind::Manifest, RefusalCode::ManifestTooLarge, MIB),
        (BlobKind::Code, RefusalCode::CodeTooLarge, MIB),
        (BlobKind::State, RefusalCode::StateTooLarge, 2 * MIB),
    ] {
        for bytes in [limit + 1, u64::MAX] {
            let mut peer = until_asked(&connection, &bundle, kind).await;
            let blob = Blob {
                id: id_of(&part(&bundle, kind)),
                encoding: Encoding::Raw,
                raw_bytes: bytes,
                wire_bytes: bytes,
            };
            peer.say(&Message::Blob(blob)).await;
            let refused = peer.refusal(code).await;
            assert_eq!((refused.limit, refused.actual), (Some(limit), Some(bytes)));
        }
    }
    for bytes in [1_001, u64::MAX] {
        let mut peer = Peer::open(&connection).await;
        peer.say(&call(id(&bundle), bytes)).await;
        let refused = peer.refusal(RefusalCode::ArgumentsTooLarge).await;
        assert_eq!((refused.limit, refused.actual), (Some(1_000), Some(bytes)));
    }
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_manifest_that_names_more_than_may_be() {
    let (local, connection) = start().await;
    let large = Raw {
        more: format!(r#"(@custom "x" "{}")"#, "x".repeat(1 << 20)),
        ..Raw::default()
    };
    let bundle = large.bundle();
    let mut peer = Peer::open(&connection).await;
    peer.say(&ship(id(&bundle))).await;
    assert_eq!(peer.missing().await[0].kind, BlobKind::Manifest);
    peer.honest_blob(bundle.inner().manifest_bytes()).await;
    let refused = peer.refusal(RefusalCode::CodeTooLarge).await;
    assert_eq!(
        (refused.limit, refused.actual),
        (Some(MIB), Some(bundle.inner().code().len() as u64))
    );
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_manifest_that_is_none_or_of_another_version() {
    let (local, connection) = start().await;
    let manifest = bundle().inner().manifest_bytes().to_vec();
    let mut later = manifest.clone();
    later[0] = 9;
    for (bytes, code) in [
        (vec![], RefusalCode::InvalidManifest),
        (vec![0xff; 100], RefusalCode::UnsupportedVersion),
        (later, RefusalCode::UnsupportedVersion),
        (
            manifest[..manifest.len() - 1].to_vec(),
            RefusalCode::InvalidManifest,
        ),
        ([&manifest[..], &[0]].concat(), RefusalCode::InvalidManifest),
    ] {
        let mut peer = Peer::open(&connection).await;
        peer.say(&ship(id_of(&bytes))).await;
        peer.missing().await;
        peer.honest_blob(&bytes).await;
        peer.refusal(code).await;
    }
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_manifest_that_says_other_lengths_than_its_parts_have() {
    let (local, connection) = start().await;
    // The code's own length and id are right in this one, until they are changed below.
    let honest = bundle_with(Raw::default().code(), |_| {});
    let mut manifest = honest.inner().manifest().clone();
    manifest.code.bytes += 1;
    let manifest = manifest.encode().expect("it is sound by itself");
    let mut peer = Peer::open(&connection).await;
    peer.say(&ship(id_of(&manifest))).await;
    peer.missing().await;
    peer.honest_blob(&manifest).await;
    peer.missing().await;
    peer.honest_blob(honest.inner().code()).await;
    let refused = peer.refusal(RefusalCode::InvalidModule).await;
    assert!(
        refused.message.contains("the manifest announces"),
        "{refused}"
    );
    serves(&local, &connection).await;
}

#[tokio::test]
async fn manifests_that_use_what_is_not_run_yet_are_refused_before_more_is_asked_for() {
    let (local, connection) = start().await;
    type Change = fn(&mut spore_bundle::Manifest);
    let kinds: [(&str, Change); 1] = [("component", |manifest| {
        manifest.code.kind = spore_bundle::CodeKind::Component;
    })];
    for (named, change) in kinds {
        let mut manifest = Raw::default().bundle().inner().manifest().clone();
        change(&mut manifest);
        let manifest = manifest.encode().expect("sound");
        for request in [ship(id_of(&manifest)), call(id_of(&manifest), 0)] {
            let mut peer = Peer::open(&connection).await;
            peer.say(&request).await;
            // Whoever has uploaded it once is not asked again.
            if let Message::Ship(_) = request {
                assert_eq!(peer.missing().await.len(), 1);
                peer.honest_blob(&manifest).await;
            }
            let refused = match peer.message().await {
                Message::Refused(refused) => refused,
                other => panic!("{named}: {other:?}"),
            };
            assert_eq!(refused.code, RefusalCode::UnsupportedVersion, "{named}");
            assert!(refused.message.contains(named), "{named}: {refused}");
        }
    }
    serves(&local, &connection).await;
}

#[tokio::test]
async fn an_id_that_another_key_uploaded_is_no_right_to_it() {
    let (local, first) = start().await;
    let bundle = bundle();
    local.connect(0).await.ship(&bundle).await.expect("shipped");
    let second = local.connection(1).await;
    let id = id(&bundle);

    // Neither to its description,
    let mut peer = Peer::open(&second).await;
    peer.say(&Message::Describe(Describe { bundle: id })).await;
    peer.refusal(RefusalCode::UnknownBundle).await;
    // nor to a call of it: the host asks for what it has.
    let mut peer = Peer::open(&second).await;
    peer.say(&call(id, 0)).await;
    assert_eq!(
        peer.missing().await,
        [MissingBlob {
            id,
            kind: BlobKind::Manifest
        }]
    );
    peer.say(&Message::Absent(Absent { id })).await;
    peer.refusal(RefusalCode::UnknownBundle).await;
    // Who knows the manifest too has still to bring code and state.
    let mut peer = Peer::open(&second).await;
    peer.say(&call(id, 0)).await;
    peer.missing().await;
    peer.honest_blob(&part(&bundle, BlobKind::Manifest)).await;
    let asked = peer.missing().await;
    assert_eq!(asked.len(), 2, "{asked:?}");
    peer.say(&Message::Absent(Absent { id: asked[0].id })).await;
    peer.refusal(RefusalCode::BlobAbsent).await;
    // The manifest is its own now, and of no use without them.
    let host = local.connect(1).await;
    let shipped = host
        .shipped(bundle.id())
        .await
        .expect("it has uploaded the manifest");
    let weigh = shipped.callable("weigh").expect("it is there");
    refused(
        host.call(&weigh, serde_json::json!([])).await,
        RefusalCode::BlobAbsent,
    );
    // With all of it the second key may, and the first still may.
    host.ship(&bundle).await.expect("it has all of it");
    assert!(host.shipped(bundle.id()).await.is_ok());
    serves(&local, &first).await;
}

#[tokio::test]
async fn an_upload_that_stands_still() {
    /// How long one may. On a busy machine those that do not stand still are late at times.
    const STALL: Duration = Duration::from_secs(1);
    let mut setup = setup();
    setup.limits.upload_stall = STALL;
    let local = Local::start(setup, &["", ""]);
    let connection = local.connection(0).await;
    let bundle = bundle();
    let stalled = |refused: spore_client::Refused| {
        assert_eq!(refused.limit, Some(STALL.as_millis() as u64));
    };
    // Before an answer at all, after its announcement, and in the middle.
    let mut peer = until_asked(&connection, &bundle, BlobKind::Manifest).await;
    stalled(peer.refusal(RefusalCode::UploadStalled).await);

    let code = part(&bundle, BlobKind::Code);
    let (raw_bytes, id) = (code.len() as u64, id_of(&code));
    let blob = Blob {
        id,
        encoding: Encoding::Raw,
        raw_bytes,
        wire_bytes: raw_bytes,
    };
    for sent in [0, 100] {
        let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
        peer.say(&Message::Blob(blob)).await;
        if sent > 0 {
            peer.pour(code.slice(..sent)).await;
        }
        stalled(peer.refusal(RefusalCode::UploadStalled).await);
    }

    let mut peer = Peer::open(&connection).await;
    peer.say(&call(self::id(&bundle), 100)).await;
    peer.pour(vec![0; 99]).await;
    stalled(peer.refusal(RefusalCode::UploadStalled).await);
    serves(&local, &connection).await;
}
