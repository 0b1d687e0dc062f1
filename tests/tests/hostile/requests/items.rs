//! Items that are said to be taken and were not sent, and fields that no request may have.

use resumer::{primes, told};
use spore_client::RefusalCode;
use spore_tests::guests::of;
use spore_tests::outcome::{idle, soon};
use spore_tests::peer::{Peer, id_of};
use spore_tests::{keeper, resumer};
use spore_transport::job::{CallItems, JobWatch, Taken, WatchItems};
use spore_transport::message::{Cancel, Message, Received};
use spore_transport::session::{BlockSet, Fetch, FetchBlocks};
use spore_value::codec;

use super::{UNKNOWN, all_refused, blob, call_of, ends_refused, index_of, serves, start};
use crate::asking::{Parts, ask, refused};

/// The next item of a stream, once it is whole.
async fn item(peer: &mut Peer) -> u64 {
    loop {
        let Message::Item(item) = peer.message().await else {
            continue;
        };
        let mut left = item.item_bytes;
        while left > 0 {
            match peer.hear().await {
                Ok(Received::Data(bytes)) => left -= bytes.len() as u64,
                other => panic!("expected the payload of an item, got {other:?}"),
            }
        }
        return item.sequence;
    }
}

#[tokio::test]
async fn items_that_were_not_sent_cannot_be_taken() {
    let (local, host, connection) = start().await;
    host.ship(resumer()).await.expect("shipped");
    let arguments = codec::encode(&(2u64,)).expect("flat");
    let call = call_of(
        blob(resumer()),
        index_of(resumer(), "primes"),
        arguments.len() as u64,
    );
    let items = Message::CallItems(CallItems { call, window: 2 });
    let job = host.start(&of(resumer(), primes::HANDLE), (2,));
    let job = job.await.expect("started");
    let watch = Message::JobWatch(JobWatch {
        job: job.id(),
        items: Some(WatchItems {
            from: Some(0),
            window: 2,
        }),
    });
    let taken = |index, below| Message::Taken(Taken { index, below });
    let wrong: [(&str, &[Message]); 6] = [
        ("one that was not sent", &[taken(0, 3)]),
        ("all that there can be", &[taken(0, u64::MAX)]),
        ("none", &[taken(0, 0)]),
        ("one twice", &[taken(0, 1), taken(0, 1)]),
        ("one that was taken", &[taken(0, 2), taken(0, 1)]),
        ("those of another call", &[taken(1, 1)]),
    ];
    for request in [&items, &watch] {
        for (what, messages) in wrong {
            // What a watch is said to have taken is forgotten, and the next begins behind it.
            let took = messages.len() > 1;
            if took && *request == watch {
                continue;
            }
            let mut peer = Peer::open(&connection).await;
            peer.say(request).await;
            if *request == items {
                peer.pour(arguments.clone()).await;
            }
            for sequence in 0..2 {
                assert_eq!(item(&mut peer).await, sequence, "{what}");
            }
            for message in messages {
                peer.say(message).await;
            }
            let what = format!("{what}: {}", request.name());
            let why = ends_refused(&mut peer, RefusalCode::OutOfOrder, &what).await;
            let named = ["are said to be taken", "the stream has no call 1"];
            assert!(
                named.iter().any(|named| why.message.contains(named)),
                "{what}: {why}"
            );
        }
    }
    // What was wrong with a watch is not the job's: it has every item.
    let mut again = job.watch().items_from(0).await.expect("watched");
    assert_eq!(again.items_from(), Some(0));
    drop(soon("an item", again.next()).await);
    drop(again);

    // Where there are no items, none can be taken, and watches are not cancelled.
    let quiet = Message::JobWatch(JobWatch {
        job: job.id(),
        items: None,
    });
    for message in [taken(0, 1), Message::Cancel(Cancel { index: 0 })] {
        let messages = [quiet.clone(), message];
        all_refused(&connection, &messages, RefusalCode::OutOfOrder).await;
    }
    let plain = host.start(&of(resumer(), told::HANDLE), (100,));
    let plain = plain.await.expect("started");
    let watch = Message::JobWatch(JobWatch {
        job: plain.id(),
        items: Some(WatchItems {
            from: None,
            window: 1,
        }),
    });
    let refusal = ask(&connection, &watch).await;
    refused(refusal, RefusalCode::Unsupported, "a job without items");
    plain.cancel().await.expect("it runs");
    job.cancel().await.expect("it runs");
    idle(&host).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn fields_that_no_request_may_have() {
    let (local, host, connection) = start().await;
    let job = host.start(&of(resumer(), primes::HANDLE), (2,));
    let job = job.await.expect("started");
    for window in [0, 1025, u32::MAX] {
        let call = call_of(blob(resumer()), 0, 0);
        let items = Message::CallItems(CallItems { call, window });
        let watch = Message::JobWatch(JobWatch {
            job: job.id(),
            items: Some(WatchItems { from: None, window }),
        });
        for request in [items, watch] {
            let refusal = ask(&connection, &request).await;
            refused(refusal, RefusalCode::Malformed, request.name());
        }
    }
    job.cancel().await.expect("it runs");

    let session = host.open_session(keeper()).await.expect("opened");
    let saved = Parts::of(&session.save().await.expect("saved"));
    let index = id_of(&saved.index);
    let fetch = |index, places: &[usize]| {
        let wanted = BlockSet::new(places.iter().copied());
        Message::FetchBlocks(FetchBlocks { index, wanted })
    };
    let blocks = saved.blocks.len();
    for (what, request, code) in [
        ("none", fetch(index, &[]), RefusalCode::Malformed),
        (
            "more than addresses reach",
            fetch(index, &[1 << 20]),
            RefusalCode::Malformed,
        ),
        (
            "one that it does not have",
            fetch(index, &[0, blocks]),
            RefusalCode::Malformed,
        ),
        (
            "those of nobody's image",
            fetch(UNKNOWN, &[0]),
            RefusalCode::UnknownBundle,
        ),
        (
            "those of what is no index",
            fetch(saved.id(), &[0]),
            RefusalCode::UnknownBundle,
        ),
    ] {
        refused(ask(&connection, &request).await, code, what);
    }
    let last = ask(&connection, &fetch(index, &[blocks - 1])).await;
    assert!(matches!(last, Message::Fetched(_)), "{last:?}");
    // Saved again, it is what it is now.
    let remember = session.call(keeper::remember::HANDLE, ("more".to_owned(),));
    remember.expect("it is there").await.expect("remembered");
    session.save().await.expect("saved");
    for request in [
        fetch(index, &[0]),
        Message::Fetch(Fetch { blob: index }),
        Message::Fetch(Fetch { blob: saved.id() }),
    ] {
        let gone = ask(&connection, &request).await;
        refused(gone, RefusalCode::UnknownBundle, request.name());
    }
    serves(&local, &connection).await;
}
