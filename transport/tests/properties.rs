//! Two state machines in memory, whatever comes: they stay within their budgets, and never panic.

mod any_message;
mod wire;

use any_message::{any_message, any_request};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use spore_transport::exchange::{
    ClientEvent, ClientExchange, ClientLimits, HostEvent, HostExchange, HostLimits,
};
use spore_transport::frame::{FrameReader, put_header};
use spore_transport::job::{JobInfo, JobState, JobWatched, Place};
use spore_transport::message::*;
use spore_transport::session::{BlockSet, BlocksMissing};
use spore_transport::{JobId, Message, Received, tag};
use wire::{BUNDLE, across, call, data, missing};

fn any_received() -> impl Strategy<Value = Received> {
    prop_oneof![
        6 => any_message().prop_map(Received::Message),
        3 => (1usize..50).prop_map(data),
        1 => Just(Received::End),
    ]
}

/// Whether a host is asked for something by it.
fn is_request(event: &HostEvent) -> bool {
    !matches!(
        event,
        HostEvent::Arguments { .. }
            | HostEvent::Blob { .. }
            | HostEvent::BlobBytes { .. }
            | HostEvent::Blocks(_)
            | HostEvent::BlocksBytes { .. }
            | HostEvent::Absent { .. }
            | HostEvent::Cancel
            | HostEvent::Taken { .. }
            | HostEvent::Late
            | HostEvent::End
    )
}

/// What a host says to get all that a request may bring: a blob, blocks, and word of items.
fn said_to_a_request() -> Vec<Message> {
    let watched = |items_from| {
        Message::JobWatched(JobWatched {
            info: JobInfo::of(JobId([1; 16]), JobState::Running, Place::Here),
            items_from,
            at_least_once: false,
        })
    };
    let item = |sequence| {
        Message::Item(Item {
            index: 0,
            sequence,
            item_bytes: 0,
        })
    };
    vec![
        missing(&[(BUNDLE, BlobKind::Code)]),
        Message::BlocksMissing(BlocksMissing {
            index: BUNDLE,
            missing: BlockSet::new(0..1),
        }),
        watched(None),
        watched(Some(0)),
        item(0),
        item(1),
    ]
}

/// Whether a client has by it what its request comes to, but for the payload.
fn is_outcome(event: &ClientEvent, is_watch: bool) -> bool {
    match event {
        ClientEvent::Missing(_)
        | ClientEvent::BlocksMissing(_)
        | ClientEvent::Output(_)
        | ClientEvent::Progress(_)
        | ClientEvent::Item(_)
        | ClientEvent::ItemBytes { .. }
        | ClientEvent::Payload { .. }
        | ClientEvent::JobWatched(_)
        | ClientEvent::End => false,
        ClientEvent::JobChanged(_) => !is_watch,
        _ => true,
    }
}

/// Feeds a stream's bytes to both machines, as a peer that writes whatever it likes.
fn feed(stream: &[u8], size: usize) {
    let mut host = HostExchange::new(HostLimits::default());
    let mut client = ClientExchange::new(ClientLimits::default());
    client.send(&call(0)).expect("in order");
    let mut reader = FrameReader::new();
    for chunk in stream.chunks(size) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    let Ok(received) = Received::from_frame(frame) else {
                        return;
                    };
                    let _ = host.receive(received.clone());
                    let _ = client.receive(received);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _ = reader.end();
}

proptest! {
    /// A host never takes more than was announced and asked for, whatever comes.
    #[test]
    fn a_host_stays_within_its_budgets(
        request in any_request(),
        all in prop::collection::vec(any_received(), 0..60),
    ) {
        let limits = HostLimits {
            args_bytes: 30,
            manifest_bytes: 10,
            code_bytes: 20,
            state_bytes: 4096,
            held_items_bytes: 10,
        };
        let mut host = HostExchange::new(limits);
        let mut payload = 0;
        let mut requests = 0;
        for received in std::iter::once(Received::Message(request)).chain(all) {
            match host.receive(received) {
                Ok(
                    HostEvent::Arguments { bytes, .. }
                    | HostEvent::BlobBytes { bytes, .. }
                    | HostEvent::BlocksBytes { bytes, .. },
                ) => payload += bytes.len() as u64,
                Ok(event) if is_request(&event) => {
                    requests += 1;
                    // Of these the request takes what it needs.
                    for said in said_to_a_request() {
                        let _ = host.send(&said);
                    }
                }
                Ok(_) => {}
                // The stream would be over. Nothing more may come of it if it is not.
                Err(error) => {
                    let refusal = error.refusal();
                    prop_assert!(refusal.message.len() <= REFUSAL_TEXT_BYTES_MAX);
                }
            }
        }
        prop_assert!(requests <= 1);
        prop_assert!(payload <= limits.args_bytes + limits.code_bytes + limits.state_bytes);
    }

    /// A client sees one outcome at most, whatever comes.
    #[test]
    fn a_client_sees_one_outcome(
        request in any_request(),
        all in prop::collection::vec(any_received(), 0..60),
    ) {
        let is_watch = matches!(request, Message::JobWatch(_));
        let mut client = ClientExchange::new(ClientLimits::default());
        client.send(&request).expect("in order");
        let mut outcomes = 0;
        for received in all {
            match client.receive(received) {
                Ok(ClientEvent::End) => prop_assert_eq!(outcomes, 1),
                Ok(event) => outcomes += u32::from(is_outcome(&event, is_watch)),
                // As above.
                Err(_) => {}
            }
        }
        prop_assert!(outcomes <= 1);
    }

    #[test]
    fn random_frames_never_panic(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20),
        size in 1usize..100,
    ) {
        let mut stream = BytesMut::new();
        for (tag, body) in frames {
            let limit = tag::lookup(tag).map_or(80, |entry| entry.body_bytes_max as usize);
            let body = &body[..body.len().min(limit)];
            put_header(tag, body.len(), body.len(), &mut stream);
            stream.extend_from_slice(body);
        }
        feed(&stream, size);
    }

    #[test]
    fn messages_survive_truncation_and_flipped_bits(
        messages in prop::collection::vec(any_message(), 1..8),
        position: prop::sample::Index,
        bit in 0u8..8,
        keep: prop::sample::Index,
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            message.encode(&mut stream);
        }
        let mut stream = stream.to_vec();
        let at = position.index(stream.len());
        stream[at] ^= 1 << bit;
        stream.truncate(keep.index(stream.len()) + 1);
        feed(&stream, 7);
    }

    #[test]
    fn every_message_survives_the_wire(message in any_message()) {
        across(message);
    }
}
