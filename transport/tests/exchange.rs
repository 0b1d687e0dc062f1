//! Two state machines in memory: orders that are right, and peers that lie.

mod wire;

use bytes::Bytes;
use spore_transport::exchange::{
    ClientEvent, ClientExchange, ClientLimits, HostEvent, HostExchange, HostLimits, Part,
    ProtocolError,
};
use spore_transport::failure::{Failure, TrapCode};
use spore_transport::message::*;
use spore_transport::status::StatusReport;
use spore_transport::{BlobId, Message, Received, RefusalCode};
use wire::{BUNDLE, across, call, data, missing};

const CODE: BlobId = BlobId([2; 32]);
const STATE: BlobId = BlobId([3; 32]);

fn raw(id: BlobId, bytes: u64) -> Message {
    Message::Blob(Blob {
        id,
        encoding: Encoding::Raw,
        raw_bytes: bytes,
        wire_bytes: bytes,
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

fn output(bytes: &'static [u8]) -> Message {
    let bytes = Bytes::from_static(bytes);
    Message::Output(Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes,
    })
}

fn refused(code: RefusalCode) -> Message {
    Message::Refused(Refused::new(code, ""))
}

fn failed() -> Message {
    Message::Failed(Failed {
        index: 0,
        failure: Failure::trap(TrapCode::StackOverflow, "", ["f".to_owned()]),
        timing: Timing::default(),
        output_cut: false,
    })
}

/// Both ends of a stream, and the wire between them.
struct Pair {
    client: ClientExchange,
    host: HostExchange,
}

impl Pair {
    fn new() -> Self {
        Pair {
            client: ClientExchange::new(ClientLimits::default()),
            host: HostExchange::new(HostLimits::default()),
        }
    }

    fn client_sends(&mut self, message: Message) -> HostEvent {
        self.client.send(&message).expect("in order");
        self.host.receive(across(message)).expect("in order")
    }

    fn host_sends(&mut self, message: Message) -> ClientEvent {
        self.host.send(&message).expect("in order");
        self.client.receive(across(message)).expect("in order")
    }

    fn client_payload(&mut self, length: usize) -> HostEvent {
        self.client.send_payload(length as u64).expect("announced");
        self.host.receive(data(length)).expect("announced")
    }

    fn host_payload(&mut self, length: usize) -> ClientEvent {
        self.host.send_payload(length as u64).expect("announced");
        self.client.receive(data(length)).expect("announced")
    }
}

#[test]
fn a_call_with_missing_blobs_runs_to_its_result() {
    let mut pair = Pair::new();
    assert!(matches!(pair.client_sends(call(10)), HostEvent::Call(_)));
    assert!(matches!(
        pair.client_payload(4),
        HostEvent::Arguments { last: false, .. }
    ));
    assert!(matches!(
        pair.client_payload(6),
        HostEvent::Arguments { last: true, .. }
    ));

    pair.host_sends(missing(&[(BUNDLE, BlobKind::Manifest)]));
    assert_eq!(pair.host.blobs_open(), 1);
    let announced = pair.client_sends(raw(BUNDLE, 3));
    assert!(matches!(
        announced,
        HostEvent::Blob {
            kind: BlobKind::Manifest,
            ..
        }
    ));
    let bytes = pair.client_payload(3);
    assert!(matches!(
        bytes,
        HostEvent::BlobBytes {
            id: BUNDLE,
            last: true,
            ..
        }
    ));

    let asked = pair.host_sends(missing(&[(CODE, BlobKind::Code), (STATE, BlobKind::State)]));
    assert!(matches!(asked, ClientEvent::Missing(blobs) if blobs.len() == 2));
    // The answers need not come in the order of the questions, and a blob may be empty.
    assert!(matches!(
        pair.client_sends(raw(STATE, 0)),
        HostEvent::Blob { .. }
    ));
    let absent = pair.client_sends(Message::Absent(Absent { id: CODE }));
    assert_eq!(
        absent,
        HostEvent::Absent {
            id: CODE,
            kind: BlobKind::Code
        }
    );
    assert_eq!(pair.host.blobs_open(), 0);

    pair.host_sends(output(b"hello"));
    pair.host_sends(Message::Progress(Progress {
        index: 0,
        done: 1,
        total: 2,
    }));
    assert!(matches!(pair.host_sends(done(5)), ClientEvent::Done(_)));
    assert!(pair.host.has_outcome() && !pair.host.is_finished());
    assert!(matches!(
        pair.host_payload(2),
        ClientEvent::Payload { last: false, .. }
    ));
    assert!(!pair.client.is_finished());
    assert!(matches!(
        pair.host_payload(3),
        ClientEvent::Payload { last: true, .. }
    ));
    assert!(pair.host.is_finished() && pair.client.is_finished());
    assert_eq!(pair.client.receive(Received::End), Ok(ClientEvent::End));
    assert_eq!(pair.host.receive(Received::End), Ok(HostEvent::End));
}

#[test]
fn other_requests_run_to_their_outcome() {
    let mut pair = Pair::new();
    pair.client_sends(Message::Ship(Ship { bundle: BUNDLE }));
    pair.host_sends(missing(&[(BUNDLE, BlobKind::Manifest)]));
    pair.client_sends(raw(BUNDLE, 1));
    pair.client_payload(1);
    pair.host_sends(Message::Stored(Stored { bundle: BUNDLE }));
    assert!(pair.host.is_finished() && pair.client.is_finished());

    let mut pair = Pair::new();
    assert_eq!(pair.client_sends(Message::Status), HostEvent::Status);
    let report = StatusReport {
        version: "0.1.0".into(),
        ..StatusReport::default()
    };
    let event = pair.host_sends(Message::StatusReport(report.clone()));
    assert_eq!(event, ClientEvent::Status(Box::new(report)));

    let mut pair = Pair::new();
    pair.client_sends(Message::Describe(Describe { bundle: BUNDLE }));
    pair.host_sends(Message::Description(Description { manifest_bytes: 2 }));
    assert!(matches!(
        pair.host_payload(2),
        ClientEvent::Payload { last: true, .. }
    ));
    assert!(pair.client.is_finished());
}

#[test]
fn a_call_can_be_cancelled_at_any_time() {
    let cancel = Message::Cancel(Cancel { index: 0 });
    let mut pair = Pair::new();
    pair.client_sends(call(10));
    assert_eq!(pair.client_sends(cancel.clone()), HostEvent::Cancel);
    pair.client_payload(10);
    assert_eq!(pair.client_sends(cancel.clone()), HostEvent::Cancel);
    // It crosses the outcome on its way.
    pair.client.send(&cancel).expect("no outcome yet");
    let event = pair.host_sends(done(0));
    assert!(matches!(event, ClientEvent::Done(_)));
    assert_eq!(
        pair.host.receive(across(cancel.clone())),
        Ok(HostEvent::Late)
    );
    assert!(pair.client.send(&cancel).is_err());
}

#[test]
fn a_refusal_may_come_while_arguments_are_on_their_way() {
    let mut pair = Pair::new();
    pair.client_sends(call(10));
    pair.client_payload(4);
    let event = pair.host_sends(refused(RefusalCode::QueueFull));
    assert!(matches!(event, ClientEvent::Refused(r) if r.code == RefusalCode::QueueFull));
    assert_eq!(pair.host.receive(data(6)), Ok(HostEvent::Late));
    assert!(
        pair.host.send(&failed()).is_err(),
        "one outcome for each call"
    );
}

/// What the host makes of `received`, the last after the others.
fn host_error(setup: &[Received], asked: &[(BlobId, BlobKind)], last: Received) -> ProtocolError {
    let mut host = HostExchange::new(HostLimits::default());
    for received in setup {
        host.receive(received.clone()).expect("in order");
    }
    if !asked.is_empty() {
        host.send(&missing(asked)).expect("in order");
    }
    host.receive(last).expect_err("out of order")
}

fn message(message: Message) -> Received {
    Received::Message(message)
}

#[test]
fn a_host_refuses_what_is_out_of_order() {
    let code: &[_] = &[(CODE, BlobKind::Code)];
    let waiting = "waiting for a request";
    let running = "carrying out the request";
    for (setup, received, name, state) in [
        (vec![], data(1), "Data", waiting),
        (vec![], message(raw(CODE, 1)), "Blob", waiting),
        (
            vec![],
            message(Message::Cancel(Cancel { index: 0 })),
            "Cancel",
            waiting,
        ),
        (vec![], message(done(0)), "Done", waiting),
        (vec![message(call(0))], message(call(0)), "Call", running),
        (vec![message(call(0))], data(1), "Data", running),
        (
            vec![message(call(0))],
            message(Message::Status),
            "Status",
            running,
        ),
        (
            vec![message(call(2))],
            message(raw(CODE, 1)),
            "Blob",
            "receiving arguments",
        ),
        (
            vec![message(Message::Status)],
            message(Message::Cancel(Cancel { index: 0 })),
            "Cancel",
            running,
        ),
    ] {
        let expected = ProtocolError::Unexpected {
            received: name,
            state,
        };
        assert_eq!(host_error(&setup, &[], received), expected);
    }
    let one = [message(call(0))];
    assert_eq!(
        host_error(&one, &[], message(raw(CODE, 1))),
        ProtocolError::NotAsked { id: CODE }
    );
    assert_eq!(
        host_error(&one, code, message(raw(STATE, 1))),
        ProtocolError::NotAsked { id: STATE }
    );
    assert_eq!(
        host_error(&one, &[], message(Message::Absent(Absent { id: CODE }))),
        ProtocolError::NotAsked { id: CODE }
    );
    assert_eq!(
        host_error(&one, &[], message(Message::Cancel(Cancel { index: 1 }))),
        ProtocolError::UnknownIndex { index: 1 }
    );
    assert_eq!(
        host_error(&[message(call(2))], &[], data(5)),
        ProtocolError::Surplus { surplus: 3 }
    );
    for (setup, state) in [
        (vec![], waiting),
        (vec![message(call(2))], "receiving arguments"),
        (one.to_vec(), running),
    ] {
        assert_eq!(
            host_error(&setup, &[], Received::End),
            ProtocolError::EndedEarly { state }
        );
    }
}

#[test]
fn a_blob_comes_once() {
    let mut host = HostExchange::new(HostLimits::default());
    host.receive(message(call(0))).expect("in order");
    host.send(&missing(&[(CODE, BlobKind::Code)]))
        .expect("in order");
    host.receive(message(raw(CODE, 1))).expect("asked for");
    let error = host
        .receive(message(raw(CODE, 1)))
        .expect_err("in a payload");
    assert_eq!(
        error,
        ProtocolError::Unexpected {
            received: "Blob",
            state: "receiving a blob"
        }
    );
    host.receive(data(1)).expect("announced");
    let error = host.receive(message(raw(CODE, 1))).expect_err("twice");
    assert_eq!(error, ProtocolError::NotAsked { id: CODE });
}

#[test]
fn sizes_are_refused_one_past_their_limit_before_a_byte_is_taken() {
    let limits = HostLimits {
        args_bytes: 1,
        manifest_bytes: 2,
        code_bytes: 3,
        state_bytes: 4,
        held_items_bytes: 5,
    };
    let host = || HostExchange::new(limits);
    host().receive(message(call(1))).expect("at the limit");
    let error = host()
        .receive(message(call(2)))
        .expect_err("past the limit");
    let expected = ProtocolError::TooLarge {
        part: Part::Arguments,
        limit: 1,
        actual: 2,
    };
    assert_eq!(error, expected);
    let refusal = error.refusal();
    assert_eq!(refusal.code, RefusalCode::ArgumentsTooLarge);
    assert_eq!((refusal.limit, refusal.actual), (Some(1), Some(2)));

    for (kind, part, limit, code) in [
        (
            BlobKind::Manifest,
            Part::Manifest,
            2,
            RefusalCode::ManifestTooLarge,
        ),
        (BlobKind::Code, Part::Code, 3, RefusalCode::CodeTooLarge),
        (BlobKind::State, Part::State, 4, RefusalCode::StateTooLarge),
        (
            BlobKind::Items,
            Part::HeldItems,
            5,
            RefusalCode::StateTooLarge,
        ),
    ] {
        let asked = || {
            let mut host = host();
            host.receive(message(call(0))).expect("in order");
            host.send(&missing(&[(CODE, kind)])).expect("in order");
            host
        };
        asked()
            .receive(message(raw(CODE, limit)))
            .expect("at the limit");
        let error = asked()
            .receive(message(raw(CODE, limit + 1)))
            .expect_err("past it");
        assert_eq!(
            error,
            ProtocolError::TooLarge {
                part,
                limit,
                actual: limit + 1
            }
        );
        assert_eq!(error.refusal().code, code);

        for (encoding, raw_bytes, wire_bytes) in [
            (Encoding::Raw, 1, 2),
            (Encoding::Raw, 2, 1),
            (Encoding::Zstd, 1, 2),
        ] {
            let blob = Message::Blob(Blob {
                id: CODE,
                encoding,
                raw_bytes,
                wire_bytes,
            });
            let error = asked()
                .receive(message(blob))
                .expect_err("contradictory lengths");
            assert_eq!(
                error,
                ProtocolError::BlobLengths {
                    raw_bytes,
                    wire_bytes
                }
            );
        }
    }
}

#[test]
fn a_client_refuses_what_is_out_of_order() {
    let client = |requests: &[Message]| {
        let limits = ClientLimits {
            result_bytes: 10,
            output_bytes: 5,
            manifest_bytes: 3,
            ..ClientLimits::default()
        };
        let mut client = ClientExchange::new(limits);
        for request in requests {
            client.send(request).expect("in order");
        }
        client
    };
    let in_call = |received: Vec<Message>| {
        let mut client = client(&[call(0)]);
        let (last, before) = received.split_last().expect("one at least");
        for message in before {
            client
                .receive(Received::Message(message.clone()))
                .expect("in order");
        }
        client
            .receive(Received::Message(last.clone()))
            .expect_err("out of order")
    };
    let unexpected = |received, state| ProtocolError::Unexpected { received, state };
    let ended = "the outcome has come";
    let waiting = "waiting for the outcome";
    assert_eq!(in_call(vec![done(0), done(0)]), unexpected("Done", ended));
    assert_eq!(
        in_call(vec![done(0), output(b"x")]),
        unexpected("Output", ended)
    );
    assert_eq!(
        in_call(vec![done(1), output(b"x")]),
        unexpected("Output", "receiving the payload of the outcome")
    );
    assert_eq!(
        in_call(vec![failed(), failed()]),
        unexpected("Failed", ended)
    );
    assert_eq!(
        in_call(vec![Message::Stored(Stored { bundle: BUNDLE })]),
        unexpected("Stored", waiting)
    );
    assert_eq!(in_call(vec![call(0)]), unexpected("Call", waiting));
    let item = Message::Item(Item {
        index: 0,
        sequence: 0,
        item_bytes: 1,
    });
    assert_eq!(in_call(vec![item]), unexpected("Item", waiting));
    let ask = missing(&[(CODE, BlobKind::Code)]);
    assert_eq!(
        in_call(vec![ask.clone(), ask.clone()]),
        ProtocolError::AskedTwice { id: CODE }
    );
    assert_eq!(
        in_call(vec![done(11)]),
        ProtocolError::TooLarge {
            part: Part::Result,
            limit: 10,
            actual: 11
        }
    );
    assert_eq!(
        in_call(vec![output(b"abc"), output(b"def")]),
        ProtocolError::TooLarge {
            part: Part::Output,
            limit: 5,
            actual: 6
        }
    );
    let mut other = Refused::new(RefusalCode::QueueFull, "");
    other.index = 7;
    assert_eq!(
        in_call(vec![Message::Refused(other)]),
        ProtocolError::UnknownIndex { index: 7 }
    );
    let many: Vec<_> = (0..MISSING_MAX as u8)
        .map(|n| (BlobId([n + 100; 32]), BlobKind::State))
        .collect();
    assert_eq!(
        in_call(vec![missing(&many), ask.clone()]),
        ProtocolError::TooManyBlobs {
            limit: MISSING_MAX,
            actual: MISSING_MAX + 1
        }
    );

    let mut fresh = client(&[]);
    assert!(
        fresh.receive(message(done(0))).is_err(),
        "an outcome without a request"
    );
    let mut short = client(&[call(0)]);
    assert_eq!(
        short.receive(Received::End),
        Err(ProtocolError::EndedEarly { state: waiting })
    );
    let mut surplus = client(&[call(0)]);
    surplus.receive(message(done(1))).expect("in order");
    assert_eq!(
        surplus.receive(data(2)),
        Err(ProtocolError::Surplus { surplus: 1 })
    );
    let mut data_first = client(&[call(0)]);
    assert_eq!(
        data_first.receive(data(1)),
        Err(unexpected("Data", waiting))
    );
    let mut describe = client(&[Message::Describe(Describe { bundle: BUNDLE })]);
    let error = describe
        .receive(message(Message::Description(Description {
            manifest_bytes: 4,
        })))
        .expect_err("too large");
    assert_eq!(
        error,
        ProtocolError::TooLarge {
            part: Part::Manifest,
            limit: 3,
            actual: 4
        }
    );
}

#[test]
fn a_program_cannot_send_out_of_order() {
    let mut client = ClientExchange::new(ClientLimits::default());
    assert!(client.send(&raw(CODE, 1)).is_err());
    assert!(client.send_payload(1).is_err());
    client.send(&call(2)).expect("in order");
    assert!(client.send(&call(2)).is_err());
    assert!(client.send_payload(3).is_err());
    client.send_payload(2).expect("announced");
    assert!(client.send(&raw(CODE, 1)).is_err(), "not asked for");
    assert!(client.send(&done(0)).is_err(), "the host's");

    let mut host = HostExchange::new(HostLimits::default());
    assert!(host.send(&output(b"x")).is_err());
    host.receive(message(Message::Status)).expect("in order");
    assert!(host.send(&done(0)).is_err());
    assert!(host.send(&missing(&[(CODE, BlobKind::Code)])).is_err());
    assert!(host.send(&call(0)).is_err(), "the client's");
    host.send(&refused(RefusalCode::Internal))
        .expect("at any time");
    assert!(host.send(&refused(RefusalCode::Internal)).is_err(), "once");
}
