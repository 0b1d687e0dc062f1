//! Requests about jobs, and items, in memory: orders that are right, and peers that lie.

use spore_transport::exchange::{
    ClientEvent, ClientExchange, ClientLimits, HostEvent, HostExchange, HostLimits, Part,
    ProtocolError,
};
use spore_transport::job::*;
use spore_transport::message::*;
use spore_transport::{BlobId, Message, PublicKey, Received, RefusalCode};

const BUNDLE: BlobId = BlobId([1; 32]);
const JOB: JobId = JobId([2; 16]);
const MOVE: MoveId = MoveId([3; 16]);
const LOCK: Lock = Lock([4; 32]);
const KEY: PublicKey = PublicKey([5; 32]);

fn call() -> Call {
    Call {
        bundle: BUNDLE,
        callable: 0,
        limits: CallLimits::default(),
        seed: 0,
        args_bytes: 0,
    }
}

fn call_items(window: u32) -> Message {
    Message::CallItems(CallItems {
        call: call(),
        window,
    })
}

fn watch(items: Option<WatchItems>) -> Message {
    Message::JobWatch(JobWatch { job: JOB, items })
}

fn from(from: Option<u64>) -> Option<WatchItems> {
    Some(WatchItems { from, window: 2 })
}

fn watched(items_from: Option<u64>) -> Message {
    Message::JobWatched(JobWatched {
        info: JobInfo::of(JOB, JobState::Running, Place::Here),
        items_from,
        at_least_once: false,
    })
}

fn item(sequence: u64, item_bytes: u64) -> Message {
    Message::Item(Item {
        index: 0,
        sequence,
        item_bytes,
    })
}

fn taken(below: u64) -> Message {
    Message::Taken(Taken { index: 0, below })
}

fn done() -> Message {
    Message::Done(Done {
        index: 0,
        outcome: Outcome::Value,
        timing: Timing::default(),
        output_cut: false,
        payload_bytes: 0,
    })
}

fn output() -> Message {
    Message::Output(Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes: "x".into(),
    })
}

fn changed(state: JobState) -> Message {
    let place = Place::Here;
    Message::JobChanged(JobChanged { state, place })
}

fn ended_refused() -> Message {
    let refused = Refused::new(RefusalCode::Memory, "");
    Message::JobRefused(JobRefused { refused })
}

fn data(length: usize) -> Received {
    Received::Data(vec![0; length].into())
}

fn message(message: &Message) -> Received {
    Received::Message(message.clone())
}

/// Both sides of a stream that the client has begun with this request.
struct Pair {
    client: ClientExchange,
    host: HostExchange,
}

impl Pair {
    fn begun(request: &Message) -> Pair {
        let mut pair = Pair {
            client: ClientExchange::new(ClientLimits {
                item_bytes: 10,
                ..ClientLimits::default()
            }),
            host: HostExchange::new(HostLimits::default()),
        };
        pair.client_sends(request).expect("in order");
        pair
    }

    fn client_sends(&mut self, sent: &Message) -> Result<HostEvent, ProtocolError> {
        self.client.send(sent).expect("in order");
        self.host.receive(message(sent))
    }

    fn host_sends(&mut self, sent: &Message) -> ClientEvent {
        self.host.send(sent).expect("in order");
        self.client.receive(message(sent)).expect("in order")
    }

    /// What neither side sends, and the client does not take.
    fn host_may_not(&mut self, sent: &Message) -> ProtocolError {
        self.host.send(sent).expect_err("out of order");
        self.client.receive(message(sent)).expect_err("a lie")
    }

    fn is_finished(&self) -> bool {
        self.client.is_finished() && self.host.is_finished()
    }
}

#[test]
fn items_come_within_their_window_and_go_on_as_they_are_taken() {
    let mut pair = Pair::begun(&call_items(2));
    assert!(pair.host.may_send_item());
    assert!(matches!(
        pair.host_sends(&item(0, 3)),
        ClientEvent::Item(Item { sequence: 0, .. })
    ));
    // Nothing stands between an item and its payload, and it is not taken before it is there.
    assert!(!pair.host.may_send_item());
    pair.host.send(&output()).expect_err("between");
    pair.client.send(&taken(1)).expect_err("not there yet");
    for (length, last) in [(1, false), (2, true)] {
        pair.host.send_payload(length).expect("announced");
        let piece = pair.client.receive(data(length as usize));
        let expected = ClientEvent::ItemBytes {
            sequence: 0,
            bytes: vec![0; length as usize].into(),
            last,
        };
        assert_eq!(piece, Ok(expected));
    }
    pair.host_sends(&item(1, 0));
    assert!(!pair.host.may_send_item());
    assert_eq!(
        pair.host_may_not(&item(2, 0)),
        ProtocolError::ItemsAhead { window: 2 }
    );
    assert_eq!(
        pair.client_sends(&taken(2)),
        Ok(HostEvent::Taken { below: 2 })
    );
    assert!(pair.host.may_send_item());
    pair.host_sends(&item(2, 0));
    pair.host_sends(&output());
    pair.host_sends(&done());
    assert!(pair.is_finished() && !pair.host.may_send_item());
    // What was on its way means nothing.
    assert_eq!(pair.host.receive(message(&taken(3))), Ok(HostEvent::Late));
}

#[test]
fn items_out_of_sequence_too_large_or_unasked_for_are_refused() {
    let out_of_sequence = |expected, found| ProtocolError::ItemOutOfSequence { expected, found };
    let mut pair = Pair::begun(&call_items(2));
    assert_eq!(pair.host_may_not(&item(1, 0)), out_of_sequence(0, 1));
    let mut pair = Pair::begun(&call_items(2));
    pair.host_sends(&item(0, 0));
    assert_eq!(pair.host_may_not(&item(0, 0)), out_of_sequence(1, 0));

    let too_large = |client: &mut ClientExchange, bytes| client.receive(message(&item(0, bytes)));
    let mut pair = Pair::begun(&call_items(2));
    assert_eq!(
        too_large(&mut pair.client, 11),
        Err(ProtocolError::TooLarge {
            part: Part::Item,
            limit: 10,
            actual: 11
        })
    );
    too_large(&mut pair.client, 10).expect("at the limit");
    assert_eq!(
        pair.client.receive(data(11)),
        Err(ProtocolError::Surplus { surplus: 1 })
    );
    // A payload is owed: nothing else comes, and the stream does not end.
    let unexpected = pair.client.receive(message(&done()));
    assert!(matches!(unexpected, Err(ProtocolError::Unexpected { .. })));
    let early = pair.client.receive(Received::End);
    assert!(matches!(early, Err(ProtocolError::EndedEarly { .. })));

    for request in [Message::Call(call()), watch(None)] {
        let mut pair = Pair::begun(&request);
        if request == watch(None) {
            pair.host_sends(&watched(None));
        }
        let error = pair.host_may_not(&item(0, 0));
        assert!(matches!(error, ProtocolError::Unexpected { .. }));
        let error = pair.host.receive(message(&taken(1)));
        assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));
        pair.client.send(&taken(1)).expect_err("no items");
    }
}

#[test]
fn what_was_not_sent_or_was_taken_before_cannot_be_taken() {
    let mut pair = Pair::begun(&call_items(5));
    for sequence in 0..3 {
        pair.host_sends(&item(sequence, 0));
    }
    pair.client_sends(&taken(2)).expect("sent");
    for below in [0, 1, 2, 4, u64::MAX] {
        let error = pair.host.receive(message(&taken(below)));
        let expected = ProtocolError::TakenOutside {
            below,
            taken: 2,
            sent: 3,
        };
        assert_eq!(error, Err(expected));
        pair.client.send(&taken(below)).expect_err("out of order");
    }
    let other = Message::Taken(Taken { index: 1, below: 3 });
    assert_eq!(
        pair.host.receive(message(&other)),
        Err(ProtocolError::UnknownIndex { index: 1 })
    );
    // Before there is a request.
    let mut host = HostExchange::new(HostLimits::default());
    let error = host.receive(message(&taken(1)));
    assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));
}

#[test]
fn sequence_numbers_end() {
    let mut pair = Pair::begun(&watch(from(None)));
    pair.host_sends(&watched(Some(u64::MAX)));
    let error = pair.host_may_not(&item(u64::MAX, 0));
    assert_eq!(error, ProtocolError::ItemsAhead { window: 2 });
}

#[test]
fn a_watch_begins_with_word_of_the_job_and_brings_its_ending() {
    let mut pair = Pair::begun(&watch(from(Some(7))));
    for early in [
        output(),
        changed(JobState::Paused),
        item(7, 0),
        done(),
        ended_refused(),
    ] {
        let error = pair.host_may_not(&early);
        assert!(matches!(error, ProtocolError::Unexpected { .. }), "{error}");
    }
    pair.host_sends(&watched(Some(7)));
    let again = pair.host_may_not(&watched(Some(7)));
    assert!(matches!(again, ProtocolError::Unexpected { .. }));
    pair.host_sends(&output());
    pair.host_sends(&changed(JobState::Paused));
    assert!(!pair.is_finished());
    pair.host_sends(&item(7, 0));
    pair.client_sends(&taken(8)).expect("sent");
    // A watch is given up by resetting it; the job is ended by a request of its own.
    let cancel = Message::Cancel(Cancel { index: 0 });
    pair.client.send(&cancel).expect_err("no call");
    let error = pair.host.receive(message(&cancel));
    assert!(matches!(error, Err(ProtocolError::Unexpected { .. })));
    assert!(matches!(
        pair.host_sends(&ended_refused()),
        ClientEvent::JobRefused(_)
    ));
    assert!(pair.is_finished());

    // A watch alone is refused without word of the job.
    let mut pair = Pair::begun(&watch(None));
    let refused = Refused::new(RefusalCode::UnknownJob, "");
    pair.host_sends(&Message::Refused(refused));
    assert!(pair.is_finished());
}

#[test]
fn items_begin_where_they_were_asked_from() {
    for (asked, found) in [
        (from(Some(7)), Some(8)),
        (from(Some(7)), None),
        (from(None), None),
        (None, Some(0)),
    ] {
        let error = Pair::begun(&watch(asked)).host_may_not(&watched(found));
        let asked = asked.and_then(|items| items.from);
        assert_eq!(error, ProtocolError::ItemsFrom { asked, found });
    }
    for (asked, found) in [
        (from(Some(7)), Some(7)),
        (from(None), Some(9)),
        (None, None),
    ] {
        Pair::begun(&watch(asked)).host_sends(&watched(found));
    }
}

#[test]
fn each_request_takes_its_own_answers_and_no_other() {
    let job = JOB;
    let saved = JobSaved {
        bundle: BUNDLE,
        blocks: 1,
        blocks_new: 1,
    };
    let terms = terms();
    let answers = [
        Message::JobStarted(JobStarted {
            job,
            at_least_once: false,
        }),
        changed(JobState::Paused),
        Message::JobSaved(saved),
        Message::JobForgotten(JobForgotten { job }),
        Message::Jobs(Jobs::default()),
        Message::JobOffered(JobOffered { move_id: MOVE }),
        Message::JobLeft(JobLeft {
            saved,
            lock: LOCK,
            terms,
            difference: None,
        }),
        Message::JobMoved(JobMoved {
            place: None,
            release: None,
        }),
        done(),
        ended_refused(),
    ];
    let (start, open) = (
        Message::JobStart(JobStart {
            call: call(),
            persist: Persist::Off,
        }),
        Message::JobOpen(JobOpen {
            bundle: BUNDLE,
            limits: CallLimits::default(),
            persist: Persist::Off,
            paused: false,
        }),
    );
    let leave = Message::JobLeave(JobLeave {
        job,
        move_id: MOVE,
        to: KEY,
        within_ms: 1,
        since: None,
    });
    let arrive = Message::JobArrive(JobArrive {
        job,
        move_id: MOVE,
        lock: LOCK,
        bundle: BUNDLE,
        terms,
        difference: None,
    });
    let step = Message::JobMove(JobMove {
        job,
        move_id: MOVE,
        step: MoveStep::Forget,
    });
    let offer = Message::JobOffer(JobOffer {
        job,
        from: KEY,
        bundle: None,
    });
    let wait = true;
    let within_ms = 1;
    let requests: [(Message, &[usize]); 14] = [
        (start, &[0]),
        (open, &[0]),
        (Message::JobPause(JobPause { job, within_ms }), &[1]),
        (Message::JobResume(JobResume { job }), &[1]),
        (Message::JobCancel(JobCancel { job }), &[1]),
        (Message::JobSave(JobSave { job, within_ms }), &[2]),
        (Message::JobAcknowledge(JobAcknowledge { job }), &[3]),
        (Message::JobList, &[4]),
        (offer, &[5]),
        (leave, &[6]),
        (arrive, &[7]),
        (step, &[7]),
        (Message::JobResult(JobResult { job, wait }), &[8, 9]),
        (Message::Call(call()), &[8]),
    ];
    let needs_bundle = |request: &Message| {
        use Message::{Call, JobArrive, JobOffer, JobOpen, JobStart};
        matches!(
            request,
            Call(_) | JobStart(_) | JobOpen(_) | JobOffer(_) | JobArrive(_)
        )
    };
    for (request, right) in &requests {
        for (index, answer) in answers.iter().enumerate() {
            let mut pair = Pair::begun(request);
            if right.contains(&index) {
                pair.host_sends(answer);
                assert!(pair.is_finished(), "{}", request.name());
            } else {
                let error = pair.host_may_not(answer);
                assert!(matches!(error, ProtocolError::Unexpected { .. }));
            }
        }
        let items = Message::Missing(Missing {
            blobs: vec![MissingBlob {
                id: BUNDLE,
                kind: BlobKind::Items,
            }],
        });
        let mut pair = Pair::begun(request);
        match needs_bundle(request) {
            true => drop(pair.host_sends(&items)),
            false => drop(pair.host_may_not(&items)),
        }
        // One request for each stream.
        let second = pair.host.receive(message(request));
        assert!(matches!(second, Err(ProtocolError::Unexpected { .. })));
    }
}

#[test]
fn arguments_of_jobs_are_held_against_the_limit_at_their_announcement() {
    let limits = HostLimits {
        args_bytes: 1,
        ..HostLimits::default()
    };
    let requests = |args_bytes| {
        let call = Call {
            args_bytes,
            ..call()
        };
        let persist = Persist::HostDefault;
        [
            Message::CallItems(CallItems {
                call: call.clone(),
                window: 1,
            }),
            Message::JobStart(JobStart { call, persist }),
        ]
    };
    for request in requests(2) {
        let error = HostExchange::new(limits).receive(message(&request));
        let expected = ProtocolError::TooLarge {
            part: Part::Arguments,
            limit: 1,
            actual: 2,
        };
        assert_eq!(error, Err(expected));
    }
    for request in requests(1) {
        let mut host = HostExchange::new(limits);
        host.receive(message(&request)).expect("at the limit");
        let last = host.receive(data(1));
        assert!(matches!(last, Ok(HostEvent::Arguments { last: true, .. })));
    }
}

fn difference(raw_bytes: u64) -> Difference {
    Difference {
        since: BUNDLE,
        encoding: Encoding::Raw,
        raw_bytes,
        wire_bytes: raw_bytes,
    }
}

fn terms() -> JobTerms {
    JobTerms {
        limits: CallLimits::default(),
        persist: Persist::Off,
        paused: false,
        age_ms: 0,
        stops: 0,
        done: 0,
        total: 0,
        items: None,
    }
}

fn arrive(difference: Difference) -> Message {
    Message::JobArrive(JobArrive {
        job: JOB,
        move_id: MOVE,
        lock: LOCK,
        bundle: BUNDLE,
        terms: terms(),
        difference: Some(difference),
    })
}

fn left(difference: Difference) -> Message {
    Message::JobLeft(JobLeft {
        saved: JobSaved {
            bundle: BUNDLE,
            blocks: 0,
            blocks_new: 0,
        },
        lock: LOCK,
        terms: terms(),
        difference: Some(difference),
    })
}

#[test]
fn a_difference_follows_its_announcement_and_nothing_else_does() {
    let data = |bytes: &'static [u8]| Received::Data(bytes.into());
    let begun = || {
        let mut host = HostExchange::new(HostLimits::default());
        let event = host.receive(Received::Message(arrive(difference(5))));
        assert!(matches!(event, Ok(HostEvent::JobArrive(_))));
        host
    };
    let mut host = begun();
    assert!(matches!(
        host.receive(data(b"abc")),
        Ok(HostEvent::Arguments { last: false, .. })
    ));
    assert!(matches!(
        host.receive(data(b"de")),
        Ok(HostEvent::Arguments { last: true, .. })
    ));
    host.receive(data(b"f")).expect_err("none is owed");
    let surplus = begun().receive(data(b"abcdef"));
    assert_eq!(surplus, Err(ProtocolError::Surplus { surplus: 1 }));
    let early = begun().receive(Received::End);
    assert!(matches!(early, Err(ProtocolError::EndedEarly { .. })));

    let leave = Message::JobLeave(JobLeave {
        job: JOB,
        move_id: MOVE,
        to: KEY,
        within_ms: 1,
        since: Some(BUNDLE),
    });
    let mut client = ClientExchange::new(ClientLimits::default());
    client.send(&leave).expect("in order");
    let event = client.receive(Received::Message(left(difference(2))));
    assert!(matches!(event, Ok(ClientEvent::JobLeft(_))));
    assert!(!client.is_finished());
    let event = client.receive(data(b"ab"));
    assert!(matches!(event, Ok(ClientEvent::Payload { last: true, .. })));
    assert!(client.is_finished());
}

#[test]
fn a_difference_is_held_against_its_limit_at_the_announcement() {
    use spore_transport::exchange::DIFFERENCE_BYTES_MAX;
    let limit = DIFFERENCE_BYTES_MAX;
    let packed = Difference {
        encoding: Encoding::Zstd,
        wire_bytes: 1,
        ..difference(limit + 1)
    };
    for announced in [difference(limit + 1), packed] {
        let too_large = ProtocolError::TooLarge {
            part: Part::Difference,
            limit,
            actual: limit + 1,
        };
        assert_eq!(too_large.refusal().code, RefusalCode::StateTooLarge);
        let mut host = HostExchange::new(HostLimits::default());
        let event = host.receive(Received::Message(arrive(announced)));
        assert_eq!(event, Err(too_large.clone()));
        let mut client = ClientExchange::new(ClientLimits::default());
        let leave = Message::JobLeave(JobLeave {
            job: JOB,
            move_id: MOVE,
            to: KEY,
            within_ms: 1,
            since: Some(BUNDLE),
        });
        client.send(&leave).expect("in order");
        let event = client.receive(Received::Message(left(announced)));
        assert_eq!(event, Err(too_large));
    }
    let mut host = HostExchange::new(HostLimits::default());
    let event = host.receive(Received::Message(arrive(difference(limit))));
    assert!(event.is_ok());
}
