//! Jobs that arrive without an offer, or with parts that are not right.

use resumer::told;
use spore_client::{MoveId, RefusalCode};
use spore_tests::guests::of;
use spore_tests::peer::{Peer, id_of};
use spore_tests::{keeper, resumer};
use spore_transport::BlobId;
use spore_transport::job::{HeldItems, JobArrive, JobOffer, MoveStep, Place, Release};
use spore_transport::message::{Absent, Blob, BlobKind, Encoding, Message, Missing, MissingBlob};

use super::{
    ARRIVING, NOWHERE, arrive, ends_refused, moved, offered, saved_job, serves, start, step,
};
use crate::asking::{Parts, ask, refused};

#[tokio::test]
async fn an_arrival_that_was_not_offered_or_not_so() {
    let (local, host, connection) = start().await;
    let parts = saved_job(&host).await;
    let lock = Release([1; 16]).lock(ARRIVING, MoveId([3; 16]));
    let arrives = async |move_id, lock| {
        let request = arrive(move_id, lock, parts.id(), None);
        parts.answer(&connection, &request).await.0
    };
    // A lock without an offer.
    let refusal = arrives(MoveId([3; 16]), lock).await;
    refused(refusal, RefusalCode::MoveUnknown, "no offer");
    // An offer of another move.
    let move_id = offered(&connection).await;
    let refusal = arrives(MoveId([3; 16]), lock).await;
    refused(refusal, RefusalCode::MoveUnknown, "another move");
    // One that was taken back.
    let drop_it = step(ARRIVING, move_id, MoveStep::Drop { lock: None });
    assert_eq!(moved(ask(&connection, &drop_it).await).place, None);
    let refusal = arrives(move_id, lock).await;
    refused(refusal, RefusalCode::MoveUnknown, "an offer taken back");
    assert!(host.jobs().await.expect("listed").is_empty());

    // A job of the same id that is here.
    let here = host.start(&of(resumer(), told::HANDLE), (100,));
    let here = here.await.expect("started");
    let request = match arrive(move_id, lock, parts.id(), None) {
        Message::JobArrive(arrive) => Message::JobArrive(JobArrive {
            job: here.id(),
            ..arrive
        }),
        other => unreachable!("{other:?}"),
    };
    let (refusal, _) = parts.answer(&connection, &request).await;
    refused(refusal, RefusalCode::JobHere, "a job that is here");
    let offer = Message::JobOffer(JobOffer {
        job: here.id(),
        from: NOWHERE,
        bundle: None,
    });
    let refusal = ask(&connection, &offer).await;
    refused(refusal, RefusalCode::JobHere, "a job that is here");
    assert_eq!(here.result().await.expect("a value"), 100);
    serves(&local, &connection).await;
}

#[tokio::test]
async fn an_arrival_whose_parts_are_not_right() {
    let (local, host, connection) = start().await;
    let mut parts = saved_job(&host).await;
    let session = host.open_session(keeper()).await.expect("opened");
    let no_run = Parts::of(&session.save().await.expect("saved"));
    let move_id = offered(&connection).await;
    let lock = Release([1; 16]).lock(ARRIVING, move_id);
    let is_offered = async || {
        assert!(host.jobs().await.expect("listed").is_empty());
        assert_eq!(offered(&connection).await, move_id);
    };
    let arrive = |bundle, items| arrive(move_id, lock, bundle, items);

    let (refusal, _) = no_run.answer(&connection, &arrive(no_run.id(), None)).await;
    refused(refusal, RefusalCode::NoImage, "a session");
    is_offered().await;
    // Items that are none, or others than those that the run has emitted, which are none.
    let one = HeldItems::new(0, ["item".into()]).encode();
    let ahead = HeldItems::new(1, []).encode();
    let endless = HeldItems::new(u64::MAX, ["item".into()]).encode();
    let many = HeldItems::new(0, vec!["".into(); 1_000]).encode();
    for (what, items) in [
        ("nothing", Vec::new()),
        ("noise", vec![0xff; 100]),
        ("an item too many", one),
        ("a number too high", ahead),
        ("numbers without an end", endless),
        ("many items", many),
    ] {
        parts.items = items.into();
        let request = arrive(parts.id(), Some(id_of(&parts.items)));
        let (refusal, _) = parts.answer(&connection, &request).await;
        refused(refusal, RefusalCode::Malformed, what);
        is_offered().await;
    }
    // Items that its owner does not have, and more than any host takes.
    for larger in [false, true] {
        let id = BlobId([0xbb; 32]);
        let mut peer = Peer::open(&connection).await;
        peer.say(&arrive(parts.id(), Some(id))).await;
        let kind = BlobKind::Items;
        let asked = loop {
            match peer.message().await {
                Message::BlocksMissing(missing) => parts.bring_blocks(&mut peer, &missing).await,
                Message::Missing(Missing { blobs }) if blobs[0].kind == kind => break blobs,
                // Of what came before nothing but the code is kept.
                Message::Missing(Missing { blobs }) => {
                    for MissingBlob { kind, .. } in blobs {
                        assert_ne!(kind, BlobKind::Code);
                        peer.honest_blob(&parts.part(kind)).await;
                    }
                }
                other => panic!("expected to be asked for items, got {other:?}"),
            }
        };
        assert_eq!(asked, [MissingBlob { id, kind }]);
        let answer = match larger {
            false => Message::Absent(Absent { id }),
            true => Message::Blob(Blob {
                id,
                encoding: Encoding::Zstd,
                raw_bytes: u64::MAX,
                wire_bytes: 100,
            }),
        };
        peer.say(&answer).await;
        let code = match larger {
            false => RefusalCode::BlobAbsent,
            true => RefusalCode::StateTooLarge,
        };
        ends_refused(&mut peer, code, "items").await;
        is_offered().await;
    }
    // As it is, it arrives.
    let (arrived, _) = parts.answer(&connection, &arrive(parts.id(), None)).await;
    let place = moved(arrived).place;
    assert!(matches!(place, Some(Place::Arriving { .. })), "{place:?}");
    serves(&local, &connection).await;
}
