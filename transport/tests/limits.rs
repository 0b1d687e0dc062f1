//! The largest message of each kind fits its frame, and one step more is refused.

use bytes::{Bytes, BytesMut};
use spore_transport::failure::*;
use spore_transport::frame::HEADER_BYTES;
use spore_transport::job::*;
use spore_transport::message::*;
use spore_transport::session::*;
use spore_transport::status::*;
use spore_transport::{BlobId, Message, PublicKey, RefusalCode, tag};

const ID: BlobId = BlobId([0xFF; 32]);
const KEY: PublicKey = PublicKey([0xFF; 32]);

fn largest() -> Vec<Message> {
    let timing = Timing {
        queue_ns: u64::MAX,
        transfer_ns: u64::MAX,
        compile_ns: u64::MAX,
        run_ns: u64::MAX,
    };
    let all = Some(u64::MAX);
    let text = |length| "x".repeat(length);
    let mut refused = Refused::new(RefusalCode::Other(u16::MAX), text(REFUSAL_TEXT_BYTES_MAX));
    refused.index = u32::MAX;
    let refused = refused.past(u64::MAX, u64::MAX);
    let named = NamedLimit {
        name: text(STATUS_TEXT_BYTES_MAX),
        value: u64::MAX,
    };
    let running = RunningCall {
        bundle: ID,
        callable: text(STATUS_TEXT_BYTES_MAX),
        run_ms: u64::MAX,
    };
    let limits = CallLimits {
        wall_ms: all,
        memory_bytes: all,
        result_bytes: all,
        output_bytes: all,
    };
    let difference = Difference {
        since: ID,
        encoding: Encoding::Zstd,
        raw_bytes: u64::MAX,
        wire_bytes: u64::MAX,
    };
    let session = SessionId([0xFF; 16]);
    let origin = Origin {
        session,
        host: Some(KEY),
    };
    let open = SessionOpen {
        bundle: ID,
        limits,
        idle_ms: all,
    };
    let session_call = SessionCall {
        session,
        callable: u32::MAX,
        limits,
        seed: all,
        args_bytes: u64::MAX,
    };
    let listed = SessionInfo {
        session,
        bundle: ID,
        name: text(SESSION_TEXT_BYTES_MAX),
        state: SessionState::Poisoned,
        why: text(SESSION_TEXT_BYTES_MAX),
        memory_bytes: u64::MAX,
        calls: u64::MAX,
        idle_ms: u64::MAX,
        idle_max_ms: all,
        idle_asked_ms: all,
        asked: limits,
        unavailable: Some(RefusalCode::Other(u16::MAX)),
        saved: Some(ID),
        held: Some(origin),
        gave_up: Some(origin),
    };
    let call = Call {
        bundle: ID,
        callable: u32::MAX,
        limits,
        seed: u64::MAX,
        args_bytes: u64::MAX,
    };
    let (job, move_id, lock) = (JobId([0xFF; 16]), MoveId([0xFF; 16]), Lock([0xFF; 32]));
    let persist = Persist::Every { ms: u64::MAX };
    let within_ms = u64::MAX;
    let place = Place::Arriving {
        move_id,
        from: KEY,
        lock,
    };
    let info = JobInfo {
        job,
        bundle: ID,
        callable: text(JOB_TEXT_BYTES_MAX),
        state: JobState::Ended(Ending::Cancelled),
        place,
        why: text(JOB_TEXT_BYTES_MAX),
        done: u64::MAX,
        total: u64::MAX,
        age_ms: u64::MAX,
        stops: u64::MAX,
        items: u64::MAX,
        saved: Some(ID),
        unavailable: Some(RefusalCode::Other(u16::MAX)),
    };
    let saved = JobSaved {
        bundle: ID,
        blocks: u64::MAX,
        blocks_new: u64::MAX,
    };
    let terms = JobTerms {
        limits,
        persist,
        paused: true,
        age_ms: u64::MAX,
        stops: u64::MAX,
        done: u64::MAX,
        total: u64::MAX,
        items: Some(ID),
    };
    vec![
        Message::Call(call.clone()),
        Message::Ship(Ship { bundle: ID }),
        Message::Status,
        Message::Blob(Blob {
            id: ID,
            encoding: Encoding::Zstd,
            raw_bytes: u64::MAX,
            wire_bytes: u64::MAX,
        }),
        Message::Cancel(Cancel { index: u32::MAX }),
        Message::Absent(Absent { id: ID }),
        Message::Describe(Describe { bundle: ID }),
        Message::CallItems(CallItems {
            call: call.clone(),
            window: ITEM_WINDOW_MAX,
        }),
        Message::Taken(Taken {
            index: u32::MAX,
            below: u64::MAX,
        }),
        Message::SessionCallItems(SessionCallItems {
            call: session_call,
            window: ITEM_WINDOW_MAX,
        }),
        Message::SessionGiveUp(SessionGiveUp {
            session,
            expected: ID,
            to: origin,
        }),
        Message::SessionOpen(open),
        Message::SessionCall(session_call),
        Message::SessionSave(SessionSave { session }),
        Message::SessionRestore(SessionRestore { session }),
        Message::SessionClose(SessionClose {
            session,
            expected: Some(ID),
        }),
        Message::SessionList,
        Message::SessionArrive(SessionArrive { open, from: origin }),
        Message::SessionTakeOver(SessionTakeOver { session }),
        Message::JobStart(JobStart { call, persist }),
        Message::JobOpen(JobOpen {
            bundle: ID,
            limits,
            persist,
            paused: true,
        }),
        Message::JobList,
        Message::JobWatch(JobWatch {
            job,
            items: Some(WatchItems {
                from: all,
                window: ITEM_WINDOW_MAX,
            }),
        }),
        Message::JobPause(JobPause { job, within_ms }),
        Message::JobResume(JobResume { job }),
        Message::JobSave(JobSave { job, within_ms }),
        Message::JobCancel(JobCancel { job }),
        Message::Fetch(Fetch { blob: ID }),
        Message::FetchBlocks(FetchBlocks {
            index: ID,
            wanted: all_blocks(),
        }),
        Message::Blocks(Blocks {
            index: ID,
            encoding: Encoding::Zstd,
            raw_bytes: u64::MAX,
            wire_bytes: u64::MAX,
        }),
        Message::JobResult(JobResult { job, wait: true }),
        Message::JobAcknowledge(JobAcknowledge { job }),
        Message::JobOffer(JobOffer {
            job,
            from: KEY,
            bundle: Some(ID),
        }),
        Message::JobLeave(JobLeave {
            job,
            move_id,
            to: KEY,
            within_ms,
            since: Some(ID),
        }),
        Message::JobArrive(JobArrive {
            job,
            move_id,
            lock,
            bundle: ID,
            terms,
            difference: Some(difference),
        }),
        Message::JobMove(JobMove {
            job,
            move_id,
            step: MoveStep::Drop { lock: Some(lock) },
        }),
        Message::Missing(Missing {
            blobs: vec![
                MissingBlob {
                    id: ID,
                    kind: BlobKind::Items
                };
                MISSING_MAX
            ],
        }),
        Message::Output(Output {
            index: u32::MAX,
            stream: OutputStream::Stderr,
            bytes: Bytes::from(vec![0xFF; OUTPUT_BYTES_MAX]),
        }),
        Message::Progress(Progress {
            index: u32::MAX,
            done: u64::MAX,
            total: u64::MAX,
        }),
        Message::Item(Item {
            index: u32::MAX,
            sequence: u64::MAX,
            item_bytes: u64::MAX,
        }),
        Message::Done(Done {
            index: u32::MAX,
            outcome: Outcome::GuestError,
            timing,
            output_cut: true,
            payload_bytes: u64::MAX,
        }),
        Message::Refused(refused.clone()),
        Message::Failed(Failed {
            index: u32::MAX,
            failure: Failure::trap(
                TrapCode::Unknown(u16::MAX),
                text(FAILURE_TEXT_BYTES_MAX),
                vec![text(BACKTRACE_NAME_BYTES_MAX); BACKTRACE_FRAMES_MAX],
            ),
            timing,
            output_cut: true,
        }),
        Message::Stored(Stored { bundle: ID }),
        Message::StatusReport(StatusReport {
            version: text(STATUS_TEXT_BYTES_MAX),
            architecture: text(STATUS_TEXT_BYTES_MAX),
            os: text(STATUS_TEXT_BYTES_MAX),
            protocol: text(STATUS_TEXT_BYTES_MAX),
            workers: u32::MAX,
            limits: vec![named; STATUS_LIMITS_MAX],
            cached_code: Amount {
                count: u64::MAX,
                bytes: u64::MAX,
            },
            stored_blobs: Amount {
                count: u64::MAX,
                bytes: u64::MAX,
            },
            running: vec![running; STATUS_RUNNING_MAX],
            running_count: u64::MAX,
            queued: u64::MAX,
            finished: FinishedCalls {
                ok: u64::MAX,
                guest_errors: u64::MAX,
                failed: u64::MAX,
                refused: u64::MAX,
                cancelled: u64::MAX,
            },
            uptime_ms: u64::MAX,
        }),
        Message::Description(Description {
            manifest_bytes: u64::MAX,
        }),
        Message::SessionOpened(SessionOpened { session }),
        Message::SessionSaved(SessionSaved {
            bundle: ID,
            blocks: u64::MAX,
            blocks_new: u64::MAX,
        }),
        Message::SessionClosed(SessionClosed { session }),
        Message::Sessions(Sessions {
            sessions: vec![listed; SESSIONS_LISTED_MAX],
        }),
        Message::JobStarted(JobStarted {
            job,
            at_least_once: true,
        }),
        Message::JobWatched(JobWatched {
            info: info.clone(),
            items_from: all,
            at_least_once: true,
        }),
        Message::JobChanged(JobChanged {
            state: info.state,
            place,
        }),
        Message::JobSaved(saved),
        Message::JobForgotten(JobForgotten { job }),
        Message::Jobs(Jobs {
            jobs: vec![info; JOBS_LISTED_MAX],
        }),
        Message::JobRefused(JobRefused {
            refused: refused.clone(),
        }),
        Message::JobOffered(JobOffered { move_id }),
        Message::Fetched(Fetched {
            encoding: Encoding::Zstd,
            raw_bytes: u64::MAX,
            wire_bytes: u64::MAX,
        }),
        Message::BlocksMissing(BlocksMissing {
            index: ID,
            missing: all_blocks(),
        }),
        Message::JobLeft(JobLeft {
            saved,
            lock,
            terms,
            difference: Some(difference),
        }),
        Message::JobMoved(JobMoved {
            place: Some(place),
            release: Some(Release([0xFF; 16])),
        }),
    ]
}

/// Every block that a set may have.
fn all_blocks() -> BlockSet {
    BlockSet::new(0..8 * BLOCK_SET_BYTES_MAX)
}

#[test]
fn a_set_of_blocks_is_not_empty_and_not_longer_than_a_memory() {
    let message = |missing| Message::BlocksMissing(BlocksMissing { index: ID, missing });
    let beyond = BlockSet::new(std::iter::once(8 * BLOCK_SET_BYTES_MAX));
    let limit = BLOCK_SET_BYTES_MAX;
    assert_eq!(
        too_long(&message(beyond)),
        ("BlocksMissing.missing", limit, limit + 1)
    );
    let none = message(BlockSet::default());
    let read = Message::decode(none.tag(), &body_of(&none));
    assert!(matches!(read, Err(MessageError::Empty { .. })), "{read:?}");
}

#[test]
fn a_list_of_sessions_is_cut_when_it_is_made_and_refused_when_it_is_longer() {
    let info = |name: usize| SessionInfo {
        name: "x".repeat(name),
        ..SessionInfo::unavailable(SessionId([0; 16]), RefusalCode::Internal, String::new())
    };
    let long = Sessions {
        sessions: vec![info(SESSION_TEXT_BYTES_MAX + 1); SESSIONS_LISTED_MAX + 1],
    };
    let limit = SESSIONS_LISTED_MAX;
    assert_eq!(
        too_long(&Message::Sessions(long.clone())),
        ("Sessions", limit, limit + 1)
    );
    let one = Sessions {
        sessions: long.sessions[..1].to_vec(),
    };
    let limit = SESSION_TEXT_BYTES_MAX;
    assert_eq!(
        too_long(&Message::Sessions(one)),
        ("Sessions text", limit, limit + 1)
    );
    let cut = Message::Sessions(long.cut());
    Message::decode(cut.tag(), &body_of(&cut)).expect("cut to its limits");
}

#[test]
fn a_list_of_jobs_is_cut_when_it_is_made_and_refused_when_it_is_longer() {
    let info = JobInfo {
        callable: "x".repeat(JOB_TEXT_BYTES_MAX + 1),
        ..JobInfo::of(JobId([0; 16]), JobState::Running, Place::Here)
    };
    let long = Jobs {
        jobs: vec![info.clone(); JOBS_LISTED_MAX + 1],
    };
    let limit = JOBS_LISTED_MAX;
    assert_eq!(
        too_long(&Message::Jobs(long.clone())),
        ("Jobs", limit, limit + 1)
    );
    let limit = JOB_TEXT_BYTES_MAX;
    let text_too_long = ("JobInfo text", limit, limit + 1);
    let jobs = vec![info.clone()];
    assert_eq!(too_long(&Message::Jobs(Jobs { jobs })), text_too_long);
    let reason = JobInfo {
        callable: String::new(),
        why: info.callable.clone(),
        ..info.clone()
    };
    for info in [info, reason] {
        let watched = JobWatched {
            info,
            items_from: None,
            at_least_once: false,
        };
        assert_eq!(
            too_long(&Message::JobWatched(watched.clone())),
            text_too_long
        );
        let cut = Message::JobWatched(watched.cut());
        Message::decode(cut.tag(), &body_of(&cut)).expect("cut to its limits");
    }
    let cut = Message::Jobs(long.cut());
    Message::decode(cut.tag(), &body_of(&cut)).expect("cut to its limits");

    let mut refused = Refused::new(RefusalCode::Memory, "");
    refused.message = "x".repeat(REFUSAL_TEXT_BYTES_MAX + 1);
    assert_eq!(
        too_long(&Message::JobRefused(JobRefused { refused })),
        ("Refused.message", 1024, 1025)
    );
}

#[test]
fn a_window_of_items_has_one_at_least_and_not_too_many() {
    let messages = |window| {
        let call = Call {
            bundle: ID,
            callable: 0,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: 0,
        };
        let items = Some(WatchItems { from: None, window });
        let job = JobId([0; 16]);
        [
            Message::CallItems(CallItems { call, window }),
            Message::JobWatch(JobWatch { job, items }),
        ]
    };
    for message in messages(1).iter().chain(&messages(ITEM_WINDOW_MAX)) {
        Message::decode(message.tag(), &body_of(message)).expect("within");
    }
    let limit = ITEM_WINDOW_MAX as usize;
    let [call, watch] = messages(ITEM_WINDOW_MAX + 1);
    assert_eq!(too_long(&call), ("CallItems.window", limit, limit + 1));
    assert_eq!(too_long(&watch), ("JobWatch.window", limit, limit + 1));
    for message in messages(0) {
        let read = Message::decode(message.tag(), &body_of(&message));
        assert!(matches!(read, Err(MessageError::Empty { .. })), "{read:?}");
    }
}

#[test]
fn the_largest_of_each_message_fits_its_frame_and_reads_back() {
    let messages = largest();
    for message in &messages {
        let mut frame = BytesMut::new();
        message.encode(&mut frame);
        let read = Message::decode(message.tag(), &frame[HEADER_BYTES..]).expect("own message");
        assert_eq!(&read, message);
    }
    let tags: Vec<u8> = tag::TABLE
        .iter()
        .map(|e| e.tag)
        .filter(|tag| *tag != tag::DATA)
        .collect();
    assert_eq!(messages.iter().map(Message::tag).collect::<Vec<_>>(), tags);
}

fn body_of(message: &Message) -> Vec<u8> {
    let mut frame = BytesMut::new();
    message.encode(&mut frame);
    frame[HEADER_BYTES..].to_vec()
}

fn too_long(message: &Message) -> (&'static str, usize, usize) {
    match Message::decode(message.tag(), &body_of(message)) {
        Err(MessageError::TooLong {
            field,
            limit,
            actual,
        }) => (field, limit, actual),
        other => panic!("{other:?}"),
    }
}

/// Built by hand: the constructors cut.
#[test]
fn one_step_past_each_limit_is_refused() {
    let text = |length: usize| "x".repeat(length + 1);
    let mut refused = Refused::new(RefusalCode::Internal, "");
    refused.message = text(REFUSAL_TEXT_BYTES_MAX);
    assert_eq!(
        too_long(&Message::Refused(refused)),
        ("Refused.message", 1024, 1025)
    );

    let failed = |failure| {
        Message::Failed(Failed {
            index: 0,
            failure,
            timing: Timing::default(),
            output_cut: false,
        })
    };
    let panic = |message, file| {
        failed(Failure::Panic {
            message,
            file,
            line: 0,
        })
    };
    assert_eq!(
        too_long(&panic(text(FAILURE_TEXT_BYTES_MAX), String::new())),
        ("Failed.message", 4096, 4097)
    );
    assert_eq!(
        too_long(&panic(String::new(), text(FAILURE_FILE_BYTES_MAX))),
        ("Failed.file", 512, 513)
    );
    let trap = |backtrace| {
        failed(Failure::Trap {
            code: TrapCode::Other,
            message: String::new(),
            backtrace,
        })
    };
    assert_eq!(
        too_long(&trap(vec![String::new(); BACKTRACE_FRAMES_MAX + 1])),
        ("Failed.backtrace", 64, 65)
    );
    assert_eq!(
        too_long(&trap(vec![text(BACKTRACE_NAME_BYTES_MAX)])),
        ("Failed.backtrace name", 256, 257)
    );
    let output = Message::Output(Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes: vec![0; OUTPUT_BYTES_MAX + 1].into(),
    });
    assert_eq!(too_long(&output), ("Output.bytes", 65536, 65537));
    let blobs = vec![
        MissingBlob {
            id: ID,
            kind: BlobKind::Code
        };
        MISSING_MAX + 1
    ];
    assert_eq!(
        too_long(&Message::Missing(Missing { blobs })),
        ("Missing.blobs", 64, 65)
    );
    let report = |change: fn(&mut StatusReport)| {
        let mut report = StatusReport::default();
        change(&mut report);
        let cut = Message::StatusReport(report.clone().cut());
        Message::decode(cut.tag(), &body_of(&cut)).expect("cut to its limits");
        Message::StatusReport(report)
    };
    assert_eq!(
        too_long(&report(|r| r.os = "x".repeat(STATUS_TEXT_BYTES_MAX + 1))),
        ("StatusReport text", 256, 257)
    );
    assert_eq!(
        too_long(&report(|r| {
            let call = RunningCall {
                bundle: ID,
                callable: String::new(),
                run_ms: 0,
            };
            r.running = vec![call; STATUS_RUNNING_MAX + 1];
        })),
        ("StatusReport.running", 1024, 1025)
    );
    assert_eq!(
        too_long(&report(|r| {
            r.limits = vec![
                NamedLimit {
                    name: String::new(),
                    value: 0
                };
                STATUS_LIMITS_MAX + 1
            ];
        })),
        ("StatusReport.limits", 64, 65)
    );
}

#[test]
fn what_may_not_be_empty_is_refused_empty() {
    let output = Message::Output(Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes: Bytes::new(),
    });
    let missing = Message::Missing(Missing { blobs: Vec::new() });
    for message in [output, missing] {
        let read = Message::decode(message.tag(), &body_of(&message));
        assert!(matches!(read, Err(MessageError::Empty { .. })), "{read:?}");
    }
}

#[test]
fn bodies_that_are_too_short_too_long_or_claim_too_much_are_refused() {
    for message in largest() {
        let body = body_of(&message);
        let mut longer = body.clone();
        longer.push(0);
        // What has no fields is held to its length at the header.
        if !body.is_empty() {
            let read = Message::decode(message.tag(), &longer);
            assert!(
                matches!(read, Err(MessageError::Body { .. })),
                "{}",
                message.name()
            );
            let read = Message::decode(message.tag(), &body[..body.len() - 1]);
            assert!(
                matches!(read, Err(MessageError::Body { .. })),
                "{}",
                message.name()
            );
        }
    }
    // Four bytes that claim two thousand million blobs.
    let claim = [0xFC, 0, 0, 0, 0x80];
    let read = Message::decode(tag::MISSING, &claim);
    assert!(matches!(read, Err(MessageError::Body { .. })), "{read:?}");
    assert!(matches!(
        Message::decode(0x7F, &[]),
        Err(MessageError::NotAMessage { tag: 0x7F })
    ));
}

#[test]
fn the_numbers_of_a_refusal_have_their_unit() {
    for (code, what, expected) in [
        (RefusalCode::WallTime, "", " (3 ms, limit 2 ms)"),
        (
            RefusalCode::WallTime,
            "without a checkpoint",
            ": without a checkpoint (3 ms, limit 2 ms)",
        ),
        (RefusalCode::QueueFull, "calls", ": calls (3, limit 2)"),
    ] {
        let refused = Refused::new(code, what).past(2, 3);
        assert_eq!(refused.to_string(), format!("{code}{expected}"));
    }
    let nothing_found = Refused::new(RefusalCode::NoCheckpoint, "").past(2, None);
    assert!(nothing_found.to_string().ends_with("(limit 2 ms)"));
}
