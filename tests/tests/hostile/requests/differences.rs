//! Jobs that leave and arrive as what is otherwise than in what went ahead: whatever is said of that.

use bytes::Bytes;
use spore_client::{Bundle, Job, MoveId, RefusalCode};
use spore_tests::guests::of;
use spore_tests::peer::{Peer, id_of};
use spore_tests::resumer;
use spore_transport::exchange::DIFFERENCE_BYTES_MAX;
use spore_transport::job::{Difference, JobArrive, JobLeave, JobOffer, MoveStep, Place, Release};
use spore_transport::message::{Encoding, Message, Received};
use spore_transport::{BlobId, Connection};

use super::{
    ARRIVING, NOWHERE, UNKNOWN, WITHIN, arrive, blob, ends_refused, moved, serves, start, step,
};
use crate::asking::{Parts, ask, outcome};

/// A job that runs, and what it was saved as twice.
async fn saved_twice(
    host: &spore_client::Host,
) -> (Job<u32, std::convert::Infallible>, [Bundle; 2]) {
    let job = host.start(&of(resumer(), resumer::told::HANDLE), (10_000,));
    let job = job.await.expect("started");
    let first = job.save(WITHIN).await.expect("it sleeps often");
    let second = job.save(WITHIN).await.expect("it sleeps often");
    assert_ne!(first.id(), second.id());
    (job, [first, second])
}

/// What is otherwise in the second, as bytes.
fn difference([first, second]: &[Bundle; 2]) -> Bytes {
    let difference = second.inner().difference(first.inner());
    difference.expect("little is otherwise").into_bytes()
}

/// Offers the job that arrives with this bundle.
async fn offered_with(connection: &Connection, bundle: &Bundle) -> MoveId {
    let offer = Message::JobOffer(JobOffer {
        job: ARRIVING,
        from: NOWHERE,
        bundle: Some(blob(bundle)),
    });
    match Parts::of(bundle).answer(connection, &offer).await.0 {
        Message::JobOffered(offered) => offered.move_id,
        other => panic!("expected an offer, got {other:?}"),
    }
}

/// The job arrives as this bundle, with this announced.
fn arriving(move_id: MoveId, bundle: BlobId, difference: Difference) -> Message {
    let lock = Release([1; 16]).lock(ARRIVING, move_id);
    match arrive(move_id, lock, bundle, None) {
        Message::JobArrive(arrive) => Message::JobArrive(JobArrive {
            difference: Some(difference),
            ..arrive
        }),
        other => unreachable!("{other:?}"),
    }
}

fn raw(since: &Bundle, bytes: &[u8]) -> Difference {
    Difference {
        since: blob(since),
        encoding: Encoding::Raw,
        raw_bytes: bytes.len() as u64,
        wire_bytes: bytes.len() as u64,
    }
}

#[tokio::test]
async fn a_difference_that_is_not_right_brings_no_job() {
    let (local, host, connection) = start().await;
    let (job, bundles) = saved_twice(&host).await;
    let [first, second] = &bundles;
    let move_id = offered_with(&connection, first).await;
    let whole = difference(&bundles);
    let refused_as = async |code, what: &str, bundle, announced, payload: Bytes| {
        let mut peer = Peer::open(&connection).await;
        peer.say(&arriving(move_id, bundle, announced)).await;
        peer.pour(payload).await;
        ends_refused(&mut peer, code, what).await;
        assert_eq!(host.jobs().await.expect("listed").len(), 1);
    };

    let mut flipped = whole.to_vec();
    *flipped.last_mut().expect("it has bytes") ^= 1;
    let cut = whole.slice(..whole.len() - 1);
    let noise = Bytes::from(vec![0xff; 1000]);
    let nothing = Bytes::new();
    for (code, what, bundle, bytes) in [
        (
            RefusalCode::BlobMismatch,
            "a flip",
            blob(second),
            flipped.into(),
        ),
        (RefusalCode::Malformed, "cut off", blob(second), cut),
        (RefusalCode::Malformed, "noise", blob(second), noise),
        (RefusalCode::Malformed, "nothing", blob(second), nothing),
        (
            RefusalCode::BlobMismatch,
            "another bundle",
            UNKNOWN,
            whole.clone(),
        ),
    ] {
        let announced = raw(first, &bytes);
        refused_as(code, what, bundle, announced, bytes).await;
    }
    // What cannot be is refused at its announcement.
    let announced = |encoding, raw_bytes, wire_bytes| Difference {
        encoding,
        raw_bytes,
        wire_bytes,
        ..raw(first, &[])
    };
    let large = DIFFERENCE_BYTES_MAX + 1;
    for (code, what, announced) in [
        (
            RefusalCode::StateTooLarge,
            "too large",
            announced(Encoding::Raw, large, large),
        ),
        (
            RefusalCode::StateTooLarge,
            "too large",
            announced(Encoding::Zstd, u64::MAX, 100),
        ),
        (
            RefusalCode::BlobEncoding,
            "two lengths",
            announced(Encoding::Raw, 100, 99),
        ),
        (
            RefusalCode::BlobEncoding,
            "it grows",
            announced(Encoding::Zstd, 99, 100),
        ),
    ] {
        refused_as(code, what, blob(second), announced, Bytes::new()).await;
    }
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).expect("it shrinks");
    let announced = announced(Encoding::Zstd, 1 << 10, bomb.len() as u64);
    refused_as(
        RefusalCode::BlobEncoding,
        "a bomb",
        blob(second),
        announced,
        bomb.into(),
    )
    .await;

    // As it is, it arrives; asked again, it has, but what was offered is no longer there alone.
    let request = arriving(move_id, blob(second), raw(first, &whole));
    let mut peer = Peer::open(&connection).await;
    peer.say(&request).await;
    peer.pour(whole.clone()).await;
    let arrived = moved(outcome(&mut peer).await).place;
    assert!(
        matches!(arrived, Some(Place::Arriving { .. })),
        "{arrived:?}"
    );
    let mut peer = Peer::open(&connection).await;
    peer.say(&request).await;
    peer.pour(whole).await;
    let again = Parts::of(second).answer_on(&mut peer).await.0;
    assert_eq!(moved(again).place, arrived);
    job.cancel().await.expect("it runs");
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_difference_from_what_is_not_here_is_passed_over() {
    let (local, host, connection) = start().await;
    let (job, bundles) = saved_twice(&host).await;
    let [first, second] = &bundles;
    let move_id = offered_with(&connection, first).await;
    let whole = difference(&bundles);
    let announced = Difference {
        since: UNKNOWN,
        ..raw(first, &whole)
    };
    let mut peer = Peer::open(&connection).await;
    peer.say(&arriving(move_id, blob(second), announced)).await;
    peer.pour(whole).await;
    // It is asked for as if no difference had come.
    let asked = peer.missing().await;
    assert_eq!(asked[0].id, blob(second));
    drop(peer);
    job.cancel().await.expect("it runs");
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_job_leaves_as_what_is_otherwise_than_what_it_was_saved_as() {
    let (local, host, connection) = start().await;
    let (job, _) = saved_twice(&host).await;
    for round in 0..3 {
        let saved = job.save(WITHIN).await.expect("it sleeps often");
        let since = [None, Some(UNKNOWN), Some(blob(&saved))][round];
        let comes = since == Some(blob(&saved));
        let move_id = MoveId([round as u8; 16]);
        let leave = Message::JobLeave(JobLeave {
            job: job.id(),
            move_id,
            to: NOWHERE,
            within_ms: WITHIN.as_millis() as u64,
            since,
        });
        let mut peer = Peer::open(&connection).await;
        peer.say(&leave).await;
        let left = match peer.message().await {
            Message::JobLeft(left) => left,
            other => panic!("expected the job to leave, got {other:?}"),
        };
        assert_eq!(left.difference.map(|it| it.since), since.filter(|_| comes));
        let mut came = spore_bundle::DifferenceReader::default();
        while let Received::Data(piece) = peer.hear().await.expect("it comes") {
            assert!(comes);
            came.push(&piece).expect("no more than there may be");
        }
        if comes {
            let id = spore_bundle::BundleId::from(left.saved.bundle.0);
            let limits = spore_bundle::Limits::default();
            let came = came.finish().expect("it is whole");
            let made = spore_bundle::Bundle::from_difference(saved.inner(), id, came, &limits);
            let made = made.expect("it is the bundle");
            assert_eq!(id_of(made.manifest_bytes()), left.saved.bundle);
            // Asked again it has left as it has, and was saved as that: it comes whole.
            let again = ask(&connection, &leave).await;
            assert!(
                matches!(again, Message::JobLeft(again) if again.difference.is_none()
                    && again.saved.bundle == left.saved.bundle && again.lock == left.lock)
            );
        }
        let stays = ask(&connection, &step(job.id(), move_id, MoveStep::Stay)).await;
        assert_eq!(moved(stays).place, Some(Place::Here));
    }
    job.cancel().await.expect("it runs");
    serves(&local, &connection).await;
}
