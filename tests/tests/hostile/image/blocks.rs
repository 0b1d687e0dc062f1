//! Blocks that are not those that were asked for, or do not come as they should.

use std::time::Duration;

use spore_client::{Host, RefusalCode};
use spore_tests::Local;
use spore_tests::peer::Peer;
use spore_transport::message::{Absent, BlobKind, Encoding, Message};
use spore_transport::session::Blocks;
use spore_transport::{BlobId, Connection};

use super::{BLOCK_BYTES, saved_session, serves, setup, start};
use crate::asking::Parts;

#[tokio::test]
async fn blocks_that_are_not_those_that_were_asked_for() {
    let (local, owner, liar) = start().await;
    let honest = Parts::of(&saved_session(&owner).await);
    let (_, missing) = honest.until_blocks(&liar).await;
    let right = honest.wanted(&missing);
    let bytes = right.len() as u64;
    assert_eq!(bytes, honest.blocks.len() as u64 * BLOCK_BYTES);
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).expect("compressed");
    let lie = async |index: Option<BlobId>, announced: (Encoding, u64, u64), wire: &[u8], code| {
        let (mut peer, missing) = honest.until_blocks(&liar).await;
        let (encoding, raw_bytes, wire_bytes) = announced;
        peer.say(&Message::Blocks(Blocks {
            index: index.unwrap_or(missing.index),
            encoding,
            raw_bytes,
            wire_bytes,
        }))
        .await;
        peer.pour(wire.to_vec()).await;
        peer.refusal(code).await
    };

    // Other bytes than the ids say: the last bit of one, and two in each other's place.
    let mut flipped = right.clone();
    *flipped.last_mut().expect("it is not empty") ^= 1;
    let block = BLOCK_BYTES as usize;
    let swapped = [
        &right[block..2 * block],
        &right[..block],
        &right[2 * block..],
    ]
    .concat();
    for wrong in [&flipped, &swapped] {
        let frame = packed(wrong);
        for (announced, wire) in [
            ((Encoding::Raw, bytes, bytes), wrong),
            ((Encoding::Zstd, bytes, frame.len() as u64), &frame),
        ] {
            let why = lie(None, announced, wire, RefusalCode::BlobMismatch).await;
            assert!(why.message.starts_with("block "), "{why}");
        }
    }
    // As many, of another index, and fewer or more.
    let raw = |bytes: u64| (Encoding::Raw, bytes, bytes);
    for (index, announced) in [
        (Some(BlobId([1; 32])), raw(bytes)),
        (None, raw(bytes - BLOCK_BYTES)),
        (None, raw(bytes + BLOCK_BYTES)),
        (None, raw(bytes - 1)),
        (None, raw(0)),
        (None, raw(u64::MAX)),
    ] {
        let why = lie(index, announced, &[], RefusalCode::OutOfOrder).await;
        assert!(why.message.contains("were not asked for"), "{why}");
    }
    // Lengths that contradict each other.
    for announced in [
        (Encoding::Raw, bytes, bytes - 1),
        (Encoding::Raw, bytes, bytes + 1),
        (Encoding::Zstd, bytes, bytes + 1),
        (Encoding::Zstd, bytes, u64::MAX),
    ] {
        lie(None, announced, &[], RefusalCode::BlobEncoding).await;
    }
    // Frames of another length, a frame and something behind it, and no frame at all.
    let bomb = packed(&vec![0; 64 << 20]);
    for wire in [
        packed(&right[1..]),
        packed(&[&right[..], &[0]].concat()),
        [&packed(&right)[..], &[0]].concat(),
        bomb,
        vec![0xab; 1_000],
    ] {
        let announced = (Encoding::Zstd, bytes, wire.len() as u64);
        lie(None, announced, &wire, RefusalCode::BlobEncoding).await;
    }
    // More than was announced, in one piece.
    let announced = (Encoding::Zstd, bytes, 10);
    lie(None, announced, &[0; 11], RefusalCode::OutOfOrder).await;

    // What is no answer to the question.
    let (mut peer, missing) = honest.until_blocks(&liar).await;
    peer.say(&Message::Absent(Absent { id: missing.index }))
        .await;
    peer.refusal(RefusalCode::OutOfOrder).await;
    let (mut peer, _) = honest.until_blocks(&liar).await;
    peer.honest_blob(&honest.part(BlobKind::State)).await;
    peer.refusal(RefusalCode::OutOfOrder).await;
    // An answer without a question: of one that the host has never seen it asks for the manifest.
    let new = honest.clone().with_index(|index| index.clock_ns += 1);
    let mut peer = Peer::open(&liar).await;
    peer.say(&new.session()).await;
    peer.missing().await;
    peer.say(&Message::Blocks(Blocks {
        index: missing.index,
        encoding: Encoding::Raw,
        raw_bytes: bytes,
        wire_bytes: bytes,
    }))
    .await;
    peer.refusal(RefusalCode::OutOfOrder).await;

    // Nothing of it was kept.
    let (opened, asked) = honest.answer(&liar, &honest.session()).await;
    assert!(matches!(opened, Message::SessionOpened(_)), "{opened:?}");
    assert_eq!(asked * BLOCK_BYTES, bytes);
    serves(&local, &liar).await;
}

/// A host on which an upload may not stand still for long.
async fn start_impatient(stall: Duration) -> (Local, Host, Connection) {
    let mut setup = setup();
    setup.limits.upload_stall = stall;
    let local = Local::start(setup, &["", ""]);
    let owner = local.connect(0).await;
    let liar = local.connection(1).await;
    (local, owner, liar)
}

#[tokio::test]
async fn blocks_that_stand_still() {
    const STALL: Duration = Duration::from_secs(1);
    let (local, owner, liar) = start_impatient(STALL).await;
    let honest = Parts::of(&saved_session(&owner).await);
    // Before they are announced, after that, and in the middle.
    for sent in [None, Some(0), Some(5_000)] {
        let (mut peer, missing) = honest.until_blocks(&liar).await;
        let mut right = honest.wanted(&missing);
        if let Some(sent) = sent {
            let bytes = right.len() as u64;
            peer.say(&Message::Blocks(Blocks {
                index: missing.index,
                encoding: Encoding::Raw,
                raw_bytes: bytes,
                wire_bytes: bytes,
            }))
            .await;
            right.truncate(sent);
            peer.pour(right).await;
        }
        let why = peer.refusal(RefusalCode::UploadStalled).await;
        assert_eq!(why.limit, Some(STALL.as_millis() as u64));
    }
    serves(&local, &liar).await;
}

#[tokio::test]
async fn blocks_that_come_as_no_bytes_are_refused_at_once() {
    let (local, owner, liar) = start_impatient(Duration::from_secs(5)).await;
    let honest = Parts::of(&saved_session(&owner).await);
    let (mut peer, missing) = honest.until_blocks(&liar).await;
    // What a frame of nothing would be, if there were such frames. No payload follows.
    peer.say(&Message::Blocks(Blocks {
        index: missing.index,
        encoding: Encoding::Zstd,
        raw_bytes: missing.missing.len() * BLOCK_BYTES,
        wire_bytes: 0,
    }))
    .await;
    peer.refusal(RefusalCode::BlobEncoding).await;
    serves(&local, &liar).await;
}
