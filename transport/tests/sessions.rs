//! Requests about sessions and images in memory: orders that are right, and peers that lie.

use spore_transport::exchange::{
    ClientEvent, ClientExchange, ClientLimits, HostEvent, HostExchange, HostLimits, Part,
    ProtocolError,
};
use spore_transport::message::*;
use spore_transport::session::*;
use spore_transport::{BlobId, Message, Received};

const BUNDLE: BlobId = BlobId([1; 32]);
const INDEX: BlobId = BlobId([2; 32]);
const OTHER: BlobId = BlobId([3; 32]);
const SESSION: SessionId = SessionId([4; 16]);

fn opens() -> SessionOpen {
    SessionOpen {
        bundle: BUNDLE,
        limits: CallLimits::default(),
        idle_ms: None,
    }
}

fn open() -> Message {
    Message::SessionOpen(opens())
}

fn call(args_bytes: u64) -> Message {
    Message::SessionCall(SessionCall {
        session: SESSION,
        callable: 0,
        limits: CallLimits::default(),
        seed: None,
        args_bytes,
    })
}

fn opened() -> Message {
    Message::SessionOpened(SessionOpened { session: SESSION })
}

fn blocks_missing(places: &[usize]) -> Message {
    Message::BlocksMissing(BlocksMissing {
        index: INDEX,
        missing: BlockSet::new(places.iter().copied()),
    })
}

fn blocks(index: BlobId, raw_bytes: u64, wire_bytes: u64) -> Message {
    let encoding = match raw_bytes == wire_bytes {
        true => Encoding::Raw,
        false => Encoding::Zstd,
    };
    Message::Blocks(Blocks {
        index,
        encoding,
        raw_bytes,
        wire_bytes,
    })
}

fn done(payload_bytes: u64) -> Message {
    Message::Done(Done {
        index: 0,
        outcome: Outcome::Value,
        timing: Timing::default(),
        output_cut: false,
        payload_bytes,
    })
}

fn output() -> Message {
    Message::Output(Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes: "x".into(),
    })
}

fn data(length: usize) -> Received {
    Received::Data(vec![0; length].into())
}

/// Both sides of a stream that the client has begun with this request.
struct Pair {
    client: ClientExchange,
    host: HostExchange,
}

impl Pair {
    fn begun(request: &Message) -> (Pair, HostEvent) {
        let mut pair = Pair {
            client: ClientExchange::new(ClientLimits::default()),
            host: HostExchange::new(HostLimits {
                state_bytes: 10 * 4096,
                ..HostLimits::default()
            }),
        };
        let event = pair.client_sends(request).expect("in order");
        (pair, event)
    }

    fn client_sends(&mut self, message: &Message) -> Result<HostEvent, ProtocolError> {
        self.client.send(message).expect("in order");
        self.host.receive(Received::Message(message.clone()))
    }

    fn host_sends(&mut self, message: &Message) -> Result<ClientEvent, ProtocolError> {
        self.host.send(message).expect("in order");
        self.client.receive(Received::Message(message.clone()))
    }
}

#[test]
fn a_session_is_opened_from_an_image_whose_blocks_are_partly_there() {
    let (mut pair, event) = Pair::begun(&open());
    assert!(matches!(event, HostEvent::SessionOpen(_)));
    let event = pair.host_sends(&blocks_missing(&[0, 9])).expect("in order");
    let ClientEvent::BlocksMissing(missing) = event else {
        panic!("{event:?}");
    };
    assert_eq!(missing.missing.places().collect::<Vec<_>>(), [0, 9]);
    assert_eq!(pair.host.blobs_open(), 1);
    let event = pair
        .client_sends(&blocks(INDEX, 8192, 8192))
        .expect("as asked");
    assert!(matches!(event, HostEvent::Blocks(_)));
    let piece = |last| HostEvent::BlocksBytes {
        bytes: vec![0; 4096].into(),
        last,
    };
    for last in [false, true] {
        pair.client.send_payload(4096).expect("announced");
        assert_eq!(pair.host.receive(data(4096)), Ok(piece(last)));
    }
    assert_eq!(pair.host.blobs_open(), 0);
    assert!(matches!(
        pair.host_sends(&output()),
        Ok(ClientEvent::Output(_))
    ));
    assert!(matches!(
        pair.host_sends(&opened()),
        Ok(ClientEvent::SessionOpened(_))
    ));
    assert!(pair.client.is_finished() && pair.host.is_finished());
}

#[test]
fn blocks_that_were_not_asked_for_are_refused() {
    let lie = |asked: bool, message: Message| {
        let (mut pair, _) = Pair::begun(&open());
        if asked {
            pair.host_sends(&blocks_missing(&[1])).expect("in order");
        }
        let error = pair.host.receive(Received::Message(message));
        error.expect_err("refused")
    };
    let not_asked = |index, bytes| ProtocolError::BlocksNotAsked { index, bytes };
    assert_eq!(
        lie(false, blocks(INDEX, 4096, 4096)),
        not_asked(INDEX, 4096)
    );
    assert_eq!(lie(true, blocks(OTHER, 4096, 4096)), not_asked(OTHER, 4096));
    assert_eq!(lie(true, blocks(INDEX, 8192, 8192)), not_asked(INDEX, 8192));
    assert_eq!(
        lie(true, blocks(INDEX, 4096, 4097)),
        ProtocolError::BlobLengths {
            raw_bytes: 4096,
            wire_bytes: 4097
        }
    );
    // Twice, and more than was announced.
    let (mut pair, _) = Pair::begun(&open());
    pair.host_sends(&blocks_missing(&[1])).expect("in order");
    pair.client_sends(&blocks(INDEX, 4096, 10))
        .expect("as asked");
    assert_eq!(
        pair.host.receive(data(11)),
        Err(ProtocolError::Surplus { surplus: 1 })
    );
}

#[test]
fn a_host_asks_for_blocks_once_and_only_where_a_bundle_is_needed() {
    let (mut pair, _) = Pair::begun(&open());
    pair.host_sends(&blocks_missing(&[1])).expect("in order");
    pair.host.send(&blocks_missing(&[2])).expect_err("twice");
    let error = pair.client.receive(Received::Message(blocks_missing(&[2])));
    assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));

    let (mut pair, _) = Pair::begun(&call(0));
    pair.host
        .send(&blocks_missing(&[1]))
        .expect_err("no bundle");
    let error = pair.client.receive(Received::Message(blocks_missing(&[1])));
    assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));
}

#[test]
fn more_blocks_than_a_state_may_have_are_refused_at_the_announcement() {
    let (mut pair, _) = Pair::begun(&open());
    let all: Vec<_> = (0..11).collect();
    pair.host_sends(&blocks_missing(&all)).expect("in order");
    let error = pair
        .client_sends(&blocks(INDEX, 11 * 4096, 5))
        .expect_err("refused");
    assert_eq!(
        error,
        ProtocolError::TooLarge {
            part: Part::State,
            limit: 10 * 4096,
            actual: 11 * 4096
        }
    );
}

#[test]
fn a_call_in_a_session_ends_as_any_call_does() {
    let (mut pair, event) = Pair::begun(&call(2));
    assert!(matches!(event, HostEvent::SessionCall(_)));
    pair.client.send_payload(2).expect("announced");
    let event = pair.host.receive(data(2));
    assert!(matches!(event, Ok(HostEvent::Arguments { last: true, .. })));
    let cancel = Message::Cancel(Cancel { index: 0 });
    assert_eq!(pair.client_sends(&cancel), Ok(HostEvent::Cancel));
    assert!(matches!(
        pair.host_sends(&done(1)),
        Ok(ClientEvent::Done(_))
    ));
    pair.host.send_payload(1).expect("announced");
    let event = pair.client.receive(data(1));
    assert!(matches!(event, Ok(ClientEvent::Payload { last: true, .. })));
}

#[test]
fn each_request_takes_its_own_answer_and_no_other() {
    let saved = Message::SessionSaved(SessionSaved {
        bundle: BUNDLE,
        blocks: 1,
        blocks_new: 1,
    });
    let closed = Message::SessionClosed(SessionClosed { session: SESSION });
    let listed = Message::Sessions(Sessions::default());
    let fetched = Message::Fetched(Fetched {
        encoding: Encoding::Raw,
        raw_bytes: 0,
        wire_bytes: 0,
    });
    let session = SESSION;
    let from = Origin {
        session,
        host: None,
    };
    let requests = [
        (open(), opened()),
        (Message::SessionSave(SessionSave { session }), saved),
        (
            Message::SessionRestore(SessionRestore { session }),
            opened(),
        ),
        (
            Message::SessionArrive(SessionArrive {
                open: opens(),
                from,
            }),
            opened(),
        ),
        (
            Message::SessionTakeOver(SessionTakeOver { session }),
            opened(),
        ),
        (
            Message::SessionGiveUp(SessionGiveUp {
                session,
                expected: BUNDLE,
                to: from,
            }),
            closed.clone(),
        ),
        (
            Message::SessionClose(SessionClose {
                session,
                expected: None,
            }),
            closed.clone(),
        ),
        (Message::SessionList, listed),
        (Message::Fetch(Fetch { blob: BUNDLE }), fetched.clone()),
        (
            Message::FetchBlocks(FetchBlocks {
                index: INDEX,
                wanted: BlockSet::new([0].into_iter()),
            }),
            fetched,
        ),
    ];
    for (request, right) in &requests {
        for (_, answer) in &requests {
            let (mut pair, _) = Pair::begun(request);
            if answer == right {
                pair.host_sends(answer).expect("its own");
                assert!(pair.client.is_finished() && pair.host.is_finished());
            } else {
                pair.host.send(answer).expect_err("another's");
                let error = pair.client.receive(Received::Message(answer.clone()));
                assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));
            }
        }
    }
}

#[test]
fn what_is_fetched_is_held_against_the_limit_at_its_announcement() {
    let mut client = ClientExchange::new(ClientLimits {
        fetched_bytes: 10,
        ..ClientLimits::default()
    });
    client
        .send(&Message::Fetch(Fetch { blob: BUNDLE }))
        .expect("in order");
    let fetched = Message::Fetched(Fetched {
        encoding: Encoding::Zstd,
        raw_bytes: 11,
        wire_bytes: 2,
    });
    assert_eq!(
        client.receive(Received::Message(fetched)),
        Err(ProtocolError::TooLarge {
            part: Part::Fetched,
            limit: 10,
            actual: 11
        })
    );
}
