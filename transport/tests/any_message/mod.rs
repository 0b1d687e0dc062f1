//! Messages of every kind, for properties that hold whatever comes.
//!
//! Ids are few and lengths small, so that one message now and then answers another.

use proptest::prelude::*;
use spore_transport::failure::{Failure, TrapCode};
use spore_transport::job::*;
use spore_transport::message::*;
use spore_transport::session::*;
use spore_transport::status::StatusReport;
use spore_transport::{BlobId, Message, PublicKey, RefusalCode};

/// Any message of either side.
pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        2 => any_request(),
        1 => goes_with_a_request(),
        2 => answers(),
    ]
}

/// Any message that begins a stream.
pub(crate) fn any_request() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => about_calls(),
        2 => about_sessions(),
        3 => about_jobs(),
        2 => about_moves(),
    ]
}

fn ids() -> impl Strategy<Value = BlobId> {
    (0u8..4).prop_map(|n| BlobId([n; 32]))
}

/// The bytes of the id of a session, a job or a move, or a release.
fn names() -> impl Strategy<Value = [u8; 16]> {
    (0u8..4).prop_map(|n| [n; 16])
}

fn sessions() -> impl Strategy<Value = SessionId> {
    names().prop_map(SessionId)
}

fn jobs() -> impl Strategy<Value = JobId> {
    names().prop_map(JobId)
}

fn moves() -> impl Strategy<Value = MoveId> {
    names().prop_map(MoveId)
}

fn locks() -> impl Strategy<Value = Lock> {
    (0u8..4).prop_map(|n| Lock([n; 32]))
}

fn keys() -> impl Strategy<Value = PublicKey> {
    (0u8..4).prop_map(|n| PublicKey([n; 32]))
}

/// Lengths of payloads.
fn lengths() -> std::ops::Range<u64> {
    0..40
}

fn limits() -> impl Strategy<Value = CallLimits> {
    let limit = || any::<Option<u64>>();
    (limit(), limit(), limit(), limit()).prop_map(
        |(wall_ms, memory_bytes, result_bytes, output_bytes)| CallLimits {
            wall_ms,
            memory_bytes,
            result_bytes,
            output_bytes,
        },
    )
}

fn calls() -> impl Strategy<Value = Call> {
    (ids(), any::<u32>(), limits(), any::<u64>(), lengths()).prop_map(
        |(bundle, callable, limits, seed, args_bytes)| Call {
            bundle,
            callable,
            limits,
            seed,
            args_bytes,
        },
    )
}

fn persists() -> impl Strategy<Value = Persist> {
    prop_oneof![
        Just(Persist::HostDefault),
        Just(Persist::Off),
        any::<u64>().prop_map(|ms| Persist::Every { ms }),
    ]
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Raw), Just(Encoding::Zstd)]
}

fn kinds() -> impl Strategy<Value = BlobKind> {
    prop_oneof![
        Just(BlobKind::Manifest),
        Just(BlobKind::Code),
        Just(BlobKind::State),
        Just(BlobKind::Items),
    ]
}

/// Sets of blocks, which are not empty. One in the first byte is what others ask for.
fn block_sets() -> impl Strategy<Value = BlockSet> {
    prop_oneof![
        Just(BlockSet::new(0..1)),
        prop::collection::btree_set(0usize..100, 1..5)
            .prop_map(|places| BlockSet::new(places.into_iter())),
    ]
}

fn about_calls() -> impl Strategy<Value = Message> {
    prop_oneof![
        calls().prop_map(Message::Call),
        (calls(), 1..=ITEM_WINDOW_MAX)
            .prop_map(|(call, window)| Message::CallItems(CallItems { call, window })),
        ids().prop_map(|bundle| Message::Ship(Ship { bundle })),
        ids().prop_map(|bundle| Message::Describe(Describe { bundle })),
        Just(Message::Status),
        ids().prop_map(|blob| Message::Fetch(Fetch { blob })),
        (ids(), block_sets())
            .prop_map(|(index, wanted)| Message::FetchBlocks(FetchBlocks { index, wanted })),
    ]
}

fn session_opens() -> impl Strategy<Value = SessionOpen> {
    (ids(), limits(), any::<Option<u64>>()).prop_map(|(bundle, limits, idle_ms)| SessionOpen {
        bundle,
        limits,
        idle_ms,
    })
}

fn session_calls() -> impl Strategy<Value = SessionCall> {
    let limits = (limits(), any::<Option<u64>>());
    (sessions(), any::<u32>(), limits, lengths()).prop_map(
        |(session, callable, (limits, seed), args_bytes)| SessionCall {
            session,
            callable,
            limits,
            seed,
            args_bytes,
        },
    )
}

fn origins() -> impl Strategy<Value = Origin> {
    (sessions(), prop::option::of(keys())).prop_map(|(session, host)| Origin { session, host })
}

fn about_sessions() -> impl Strategy<Value = Message> {
    prop_oneof![
        session_opens().prop_map(Message::SessionOpen),
        (session_opens(), origins())
            .prop_map(|(open, from)| { Message::SessionArrive(SessionArrive { open, from }) }),
        sessions().prop_map(|session| Message::SessionTakeOver(SessionTakeOver { session })),
        (sessions(), ids(), origins()).prop_map(|(session, expected, to)| {
            Message::SessionGiveUp(SessionGiveUp {
                session,
                expected,
                to,
            })
        }),
        session_calls().prop_map(Message::SessionCall),
        (session_calls(), 1..=ITEM_WINDOW_MAX).prop_map(|(call, window)| {
            Message::SessionCallItems(SessionCallItems { call, window })
        }),
        sessions().prop_map(|session| Message::SessionSave(SessionSave { session })),
        sessions().prop_map(|session| Message::SessionRestore(SessionRestore { session })),
        (sessions(), prop::option::of(ids())).prop_map(|(session, expected)| {
            Message::SessionClose(SessionClose { session, expected })
        }),
        Just(Message::SessionList),
    ]
}

fn about_jobs() -> impl Strategy<Value = Message> {
    let items = (any::<Option<u64>>(), 1..=ITEM_WINDOW_MAX)
        .prop_map(|(from, window)| WatchItems { from, window });
    prop_oneof![
        (calls(), persists())
            .prop_map(|(call, persist)| Message::JobStart(JobStart { call, persist })),
        (ids(), limits(), persists(), any::<bool>()).prop_map(
            |(bundle, limits, persist, paused)| {
                Message::JobOpen(JobOpen {
                    bundle,
                    limits,
                    persist,
                    paused,
                })
            }
        ),
        Just(Message::JobList),
        (jobs(), prop::option::of(items))
            .prop_map(|(job, items)| Message::JobWatch(JobWatch { job, items })),
        (jobs(), any::<u64>())
            .prop_map(|(job, within_ms)| Message::JobPause(JobPause { job, within_ms })),
        jobs().prop_map(|job| Message::JobResume(JobResume { job })),
        (jobs(), any::<u64>())
            .prop_map(|(job, within_ms)| Message::JobSave(JobSave { job, within_ms })),
        jobs().prop_map(|job| Message::JobCancel(JobCancel { job })),
        (jobs(), any::<bool>()).prop_map(|(job, wait)| Message::JobResult(JobResult { job, wait })),
        jobs().prop_map(|job| Message::JobAcknowledge(JobAcknowledge { job })),
    ]
}

fn differences() -> impl Strategy<Value = Difference> {
    (ids(), encodings(), any::<[u64; 2]>()).prop_map(
        |(since, encoding, [raw_bytes, wire_bytes])| Difference {
            since,
            encoding,
            raw_bytes,
            wire_bytes,
        },
    )
}

fn about_moves() -> impl Strategy<Value = Message> {
    prop_oneof![
        (jobs(), keys(), prop::option::of(ids()))
            .prop_map(|(job, from, bundle)| { Message::JobOffer(JobOffer { job, from, bundle }) }),
        (
            jobs(),
            moves(),
            keys(),
            any::<u64>(),
            prop::option::of(ids())
        )
            .prop_map(|(job, move_id, to, within_ms, since)| {
                Message::JobLeave(JobLeave {
                    job,
                    move_id,
                    to,
                    within_ms,
                    since,
                })
            }),
        (
            jobs(),
            moves(),
            locks(),
            ids(),
            terms(),
            prop::option::of(differences())
        )
            .prop_map(|(job, move_id, lock, bundle, terms, difference)| {
                Message::JobArrive(JobArrive {
                    job,
                    move_id,
                    lock,
                    bundle,
                    terms,
                    difference,
                })
            }),
        (jobs(), moves(), steps())
            .prop_map(|(job, move_id, step)| { Message::JobMove(JobMove { job, move_id, step }) }),
    ]
}

fn steps() -> impl Strategy<Value = MoveStep> {
    prop_oneof![
        locks().prop_map(|lock| MoveStep::GiveUp { lock }),
        names().prop_map(|release| MoveStep::TakeOver {
            release: Release(release)
        }),
        Just(MoveStep::Forget),
        Just(MoveStep::Settle),
        Just(MoveStep::Stay),
        prop::option::of(locks()).prop_map(|lock| MoveStep::Drop { lock }),
        Just(MoveStep::Adopt),
    ]
}

fn terms() -> impl Strategy<Value = JobTerms> {
    let numbers = any::<(u64, u64, u64, u64)>();
    (
        limits(),
        persists(),
        any::<bool>(),
        numbers,
        prop::option::of(ids()),
    )
        .prop_map(
            |(limits, persist, paused, (age_ms, stops, done, total), items)| JobTerms {
                limits,
                persist,
                paused,
                age_ms,
                stops,
                done,
                total,
                items,
            },
        )
}

/// What a client says once it has asked.
fn goes_with_a_request() -> impl Strategy<Value = Message> {
    // Of blocks most are as many as one, which is what is asked for.
    let bytes = prop_oneof![3 => Just(4096), 1 => 0u64..10_000];
    prop_oneof![
        (ids(), encodings(), lengths(), lengths()).prop_map(
            |(id, encoding, raw_bytes, wire_bytes)| {
                Message::Blob(Blob {
                    id,
                    encoding,
                    raw_bytes,
                    wire_bytes,
                })
            }
        ),
        (ids(), encodings(), bytes, lengths()).prop_map(
            |(index, encoding, raw_bytes, wire_bytes)| {
                Message::Blocks(Blocks {
                    index,
                    encoding,
                    raw_bytes,
                    wire_bytes,
                })
            }
        ),
        ids().prop_map(|id| Message::Absent(Absent { id })),
        (0u32..2).prop_map(|index| Message::Cancel(Cancel { index })),
        (0u32..2, 0u64..6).prop_map(|(index, below)| Message::Taken(Taken { index, below })),
    ]
}

/// Whatever a host says.
fn answers() -> impl Strategy<Value = Message> {
    prop_oneof![
        2 => news_of_a_request(),
        2 => outcomes(),
        1 => outcomes_of_jobs(),
    ]
}

fn news_of_a_request() -> impl Strategy<Value = Message> {
    let missing = (ids(), kinds()).prop_map(|(id, kind)| MissingBlob { id, kind });
    prop_oneof![
        prop::collection::vec(missing, 1..4).prop_map(|blobs| Message::Missing(Missing { blobs })),
        (ids(), block_sets()).prop_map(|(index, missing)| {
            Message::BlocksMissing(BlocksMissing { index, missing })
        }),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(|bytes| {
            Message::Output(Output {
                index: 0,
                stream: OutputStream::Stderr,
                bytes: bytes.into(),
            })
        }),
        (0u32..2, any::<u64>(), any::<u64>()).prop_map(|(index, done, total)| {
            Message::Progress(Progress { index, done, total })
        }),
        (0u32..2, 0u64..6, lengths()).prop_map(|(index, sequence, item_bytes)| {
            Message::Item(Item {
                index,
                sequence,
                item_bytes,
            })
        }),
        (infos(), prop::option::of(0u64..6), any::<bool>()).prop_map(
            |(info, items_from, at_least_once)| {
                Message::JobWatched(JobWatched {
                    info,
                    items_from,
                    at_least_once,
                })
            }
        ),
        (states(), places())
            .prop_map(|(state, place)| Message::JobChanged(JobChanged { state, place })),
    ]
}

fn outcomes() -> impl Strategy<Value = Message> {
    prop_oneof![
        (0u32..2, any::<bool>(), lengths()).prop_map(|(index, output_cut, payload_bytes)| {
            Message::Done(Done {
                index,
                outcome: Outcome::Value,
                timing: Timing::default(),
                output_cut,
                payload_bytes,
            })
        }),
        Just(Message::Failed(Failed {
            index: 0,
            failure: Failure::trap(TrapCode::StackOverflow, "", ["f".to_owned()]),
            timing: Timing::default(),
            output_cut: false,
        })),
        refusals().prop_map(Message::Refused),
        ids().prop_map(|bundle| Message::Stored(Stored { bundle })),
        Just(Message::StatusReport(StatusReport::default())),
        lengths().prop_map(|manifest_bytes| Message::Description(Description { manifest_bytes })),
        (encodings(), lengths(), lengths()).prop_map(|(encoding, raw_bytes, wire_bytes)| {
            Message::Fetched(Fetched {
                encoding,
                raw_bytes,
                wire_bytes,
            })
        }),
        sessions().prop_map(|session| Message::SessionOpened(SessionOpened { session })),
        (ids(), any::<u64>(), any::<u64>()).prop_map(|(bundle, blocks, blocks_new)| {
            Message::SessionSaved(SessionSaved {
                bundle,
                blocks,
                blocks_new,
            })
        }),
        sessions().prop_map(|session| Message::SessionClosed(SessionClosed { session })),
        prop::collection::vec(session_infos(), 0..3)
            .prop_map(|sessions| Message::Sessions(Sessions { sessions })),
    ]
}

fn outcomes_of_jobs() -> impl Strategy<Value = Message> {
    prop_oneof![
        (jobs(), any::<bool>()).prop_map(|(job, at_least_once)| {
            Message::JobStarted(JobStarted { job, at_least_once })
        }),
        saved().prop_map(Message::JobSaved),
        jobs().prop_map(|job| Message::JobForgotten(JobForgotten { job })),
        prop::collection::vec(infos(), 0..3).prop_map(|jobs| Message::Jobs(Jobs { jobs })),
        refusals().prop_map(|refused| Message::JobRefused(JobRefused { refused })),
        moves().prop_map(|move_id| Message::JobOffered(JobOffered { move_id })),
        (saved(), locks(), terms(), prop::option::of(differences())).prop_map(
            |(saved, lock, terms, difference)| Message::JobLeft(JobLeft {
                saved,
                lock,
                terms,
                difference,
            })
        ),
        (prop::option::of(places()), prop::option::of(names())).prop_map(|(place, release)| {
            Message::JobMoved(JobMoved {
                place,
                release: release.map(Release),
            })
        }),
    ]
}

fn refusals() -> impl Strategy<Value = Refused> {
    let codes = (1u16..70).prop_map(RefusalCode::from);
    let numbers = any::<(Option<u64>, Option<u64>)>();
    (codes, "[a-zé ]{0,20}", numbers).prop_map(|(code, message, (limit, actual))| Refused {
        limit,
        actual,
        ..Refused::new(code, message)
    })
}

fn saved() -> impl Strategy<Value = JobSaved> {
    (ids(), any::<u64>(), any::<u64>()).prop_map(|(bundle, blocks, blocks_new)| JobSaved {
        bundle,
        blocks,
        blocks_new,
    })
}

fn states() -> impl Strategy<Value = JobState> {
    prop_oneof![
        Just(JobState::Running),
        Just(JobState::Pausing),
        Just(JobState::Paused),
        Just(JobState::Ended(Ending::Value)),
        Just(JobState::Ended(Ending::GuestError)),
        Just(JobState::Ended(Ending::Failed)),
        Just(JobState::Ended(Ending::Refused)),
        Just(JobState::Ended(Ending::Cancelled)),
    ]
}

fn places() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Here),
        (moves(), keys()).prop_map(|(move_id, from)| Place::Offered { move_id, from }),
        (moves(), keys(), locks()).prop_map(|(move_id, from, lock)| Place::Arriving {
            move_id,
            from,
            lock
        }),
        (moves(), keys()).prop_map(|(move_id, from)| Place::Arrived { move_id, from }),
        (moves(), keys(), locks()).prop_map(|(move_id, to, lock)| Place::Leaving {
            move_id,
            to,
            lock
        }),
        (moves(), keys()).prop_map(|(move_id, to)| Place::GaveUp { move_id, to }),
    ]
}

fn infos() -> impl Strategy<Value = JobInfo> {
    let numbers = any::<(u64, u64, u64, u64, u64)>();
    let texts = ("[a-z:]{0,20}", "[a-z ]{0,20}");
    let ids = (jobs(), ids(), prop::option::of(ids()));
    (ids, texts, states(), places(), numbers, unavailable()).prop_map(
        |(ids, (callable, why), state, place, numbers, unavailable)| {
            let (done, total, age_ms, stops, items) = numbers;
            let (job, bundle, saved) = ids;
            JobInfo {
                job,
                bundle,
                callable,
                state,
                place,
                why,
                done,
                total,
                age_ms,
                stops,
                items,
                saved,
                unavailable,
            }
        },
    )
}

fn unavailable() -> impl Strategy<Value = Option<RefusalCode>> {
    prop::option::of((1u16..70).prop_map(RefusalCode::from))
}

fn session_infos() -> impl Strategy<Value = SessionInfo> {
    let states = prop_oneof![
        Just(SessionState::Live),
        Just(SessionState::Resting),
        Just(SessionState::Poisoned),
    ];
    let numbers = (
        any::<(u64, u64, u64)>(),
        any::<(Option<u64>, Option<u64>)>(),
        limits(),
    );
    let texts = ("[a-z]{0,20}", "[a-z ]{0,20}");
    let ids = (sessions(), ids(), prop::option::of(ids()));
    let places = (prop::option::of(origins()), prop::option::of(origins()));
    (ids, texts, states, numbers, places, unavailable()).prop_map(
        |(
            (session, bundle, saved),
            (name, why),
            state,
            ((memory_bytes, calls, idle_ms), (idle_max_ms, idle_asked_ms), asked),
            (held, gave_up),
            unavailable,
        )| {
            SessionInfo {
                session,
                bundle,
                name,
                state,
                why,
                memory_bytes,
                calls,
                idle_ms,
                idle_max_ms,
                idle_asked_ms,
                asked,
                unavailable,
                saved,
                held,
                gave_up,
            }
        },
    )
}
