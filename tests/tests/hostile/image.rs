//! Images that somebody has changed: a host refuses each by what is wrong with it, or runs what is
//! left of it in its sandbox, and serves on.
//!
//! They come from a client without manners: those of this project make and send no such image.

mod blocks;
mod fit;
mod index;
mod random;

use std::sync::Arc;
use std::time::Duration;

use crate::asking::{Parts, ask, outcome};
use resumer::by_futures;
use spore_bundle::image::{Block, Bound, Global, GlobalValue, Index, Run};
use spore_bundle::{BlockId, State, StateId};
use spore_client::{Bundle, Host, JobId, Persist, PublicKey, RefusalCode, SessionId};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of};
use spore_tests::kept::WITHIN;
use spore_tests::peer::{self, Peer, call, ship};
use spore_tests::{Local, keeper, resumer};
use spore_transport::Connection;
use spore_transport::job::{
    JobAcknowledge, JobCancel, JobOffer, JobOpen, JobRefused, JobResult, JobStart, JobStarted,
};
use spore_transport::message::{Call, CallLimits, Message, Missing};
use spore_transport::session::{
    BlocksMissing, SessionCall, SessionClose, SessionOpen, SessionOpened,
};
use spore_value::codec;

const MIB: u64 = 1 << 20;
const PAGE_BYTES: u64 = 64 << 10;
const BLOCK_BYTES: u64 = 4096;

/// What one guest may have on these hosts, in bytes.
const MEMORY: u64 = 16 * MIB;

/// What a state may have on these hosts, index and blocks together, in bytes.
const STATE: u64 = 4 * MIB;

fn setup() -> Setup {
    let limits = Limits {
        memory: MEMORY,
        state: STATE,
        ..Limits::default()
    };
    Setup {
        limits,
        ..Setup::default()
    }
}

/// A host, a client that has something saved there, and a connection of another key's, which lies.
async fn start() -> (Local, Host, Connection) {
    let local = Local::start(setup(), &["", ""]);
    let owner = local.connect(0).await;
    let liar = local.connection(1).await;
    (local, owner, liar)
}

/// The host serves both keys, on this connection and on others.
async fn serves(local: &Local, connection: &Connection) {
    let report = ask(connection, &Message::Status).await;
    assert!(matches!(report, Message::StatusReport(_)), "{report:?}");
    for client in 0..2 {
        assert_serves(&local.connect(client).await).await;
    }
}

/// A session of the guest that remembers, saved with a word and with blocks that all differ.
async fn saved_session(owner: &Host) -> Bundle {
    let session = owner.open_session(keeper()).await.expect("opened");
    let remember = session.call(keeper::remember::HANDLE, ("word".to_owned(),));
    remember.expect("it is there").await.expect("remembered");
    let fill = session.call(keeper::fill::HANDLE, (40_000,));
    fill.expect("it is there").await.expect("filled");
    let saved = session.save().await.expect("saved");
    session.close().await.expect("closed");
    saved
}

/// A job that was paused while dozens of its futures waited for each other, saved.
async fn saved_job(owner: &Host) -> Bundle {
    let job = owner.start(&of(resumer(), by_futures::HANDLE), (7, 3000));
    let job = job.await.expect("started");
    job.pause(WITHIN).await.expect("it has checkpoints");
    let saved = job.save(WITHIN).await.expect("it stands still");
    job.cancel().await.expect("it is there");
    job.acknowledge().await.expect("it has ended");
    saved
}

/// The number of a callable in its bundle.
fn index_of(bundle: &Bundle, name: &str) -> u32 {
    bundle.inner().callable(name).expect("it is there").0
}

impl Parts {
    fn read_index(&self) -> Index {
        Index::decode(&self.index).expect("it is sound in itself")
    }

    /// The same with these bytes as the index, which is what the manifest names.
    fn with_bytes(mut self, bytes: Vec<u8>) -> Parts {
        self = self.with_state(|state| {
            state.id = StateId::of(&bytes);
            state.bytes = bytes.len() as u64;
        });
        self.index = bytes;
        self
    }

    /// The same with an index that says something else, sound or not.
    fn with_index(self, change: impl FnOnce(&mut Index)) -> Parts {
        let mut index = self.read_index();
        change(&mut index);
        let bytes = codec::encode_serde(&index).expect("it is flat");
        self.with_bytes(bytes)
    }

    /// The same with a manifest that says something else of the image.
    fn with_state(mut self, change: impl FnOnce(&mut State)) -> Parts {
        change(self.manifest.state.as_mut().expect("it has an image"));
        self
    }

    /// The same image with the code and the callables of another bundle, of which its index says
    /// that it is.
    fn with_code(mut self, bundle: &Bundle) -> Parts {
        let state = self.manifest.state;
        self.manifest = bundle.inner().manifest().clone();
        self.manifest.state = state;
        self.code = bundle.inner().code().clone();
        let code = bundle.inner().code_id();
        self.with_index(|index| index.code = code)
    }

    /// The same with other bytes in one of its blocks, which has the id of these bytes.
    fn with_block(mut self, place: usize, change: impl FnOnce(&mut Block)) -> Parts {
        let id = self.read_index().ids[place];
        // One that nobody has comes as zeros.
        let zeros = [0; BLOCK_BYTES as usize];
        let mut block = self.blocks.get(&id).map_or(zeros, |block| **block);
        change(&mut block);
        let id = BlockId::of(&block);
        self.blocks.insert(id, Arc::new(block));
        self.with_index(|index| index.ids[place] = id)
    }

    fn session(&self) -> Message {
        Message::SessionOpen(SessionOpen {
            bundle: self.id(),
            limits: CallLimits::default(),
            idle_ms: None,
        })
    }

    fn job(&self) -> Message {
        Message::JobOpen(JobOpen {
            bundle: self.id(),
            limits: peer::wall(200),
            persist: Persist::Off,
            paused: false,
        })
    }

    /// Every request that a bundle with an image may come with.
    fn requests(&self) -> [Message; 6] {
        let bundle = self.id();
        let start = Call {
            bundle,
            callable: 0,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: 0,
        };
        [
            self.session(),
            self.job(),
            ship(bundle),
            call(bundle, 0),
            Message::JobStart(JobStart {
                call: start,
                persist: Persist::Off,
            }),
            Message::JobOffer(JobOffer {
                job: JobId([7; 16]),
                from: PublicKey([9; 32]),
                bundle: Some(bundle),
            }),
        ]
    }

    /// Opens a session of it, up to the moment when its blocks are asked for.
    async fn until_blocks(&self, connection: &Connection) -> (Peer, BlocksMissing) {
        let mut peer = Peer::open(connection).await;
        peer.say(&self.session()).await;
        loop {
            match peer.message().await {
                Message::Missing(Missing { blobs }) => {
                    for blob in blobs {
                        peer.honest_blob(&self.part(blob.kind)).await;
                    }
                }
                Message::BlocksMissing(missing) => return (peer, missing),
                other => panic!("expected to be asked for blocks, got {other:?}"),
            }
        }
    }

    /// Opens a session of it, which works.
    async fn opens(&self, connection: &Connection) -> SessionId {
        match self.answer(connection, &self.session()).await {
            (Message::SessionOpened(SessionOpened { session }), _) => session,
            other => panic!("expected a session, got {other:?}"),
        }
    }
}

fn global(index: u32, value: GlobalValue) -> Global {
    Global { index, value }
}

fn bound(callable: u32, handle: u32) -> Bound {
    Bound { callable, handle }
}

/// A run that was started from handle 8.
fn run(callable: u32, items: u64) -> Run {
    Run {
        callable,
        handle: 8,
        task: 0,
        items,
    }
}

/// What the words are that a session remembers.
async fn recalled(host: &Host, session: SessionId) -> Vec<String> {
    let session = host.session_of(session, keeper());
    let recall = session.call(keeper::recall::HANDLE, ());
    recall.expect("it is there").await.expect("recalled")
}

/// Calls a callable of a session by its number, and gives what comes of it.
async fn call_in(
    connection: &Connection,
    session: SessionId,
    callable: u32,
    arguments: Vec<u8>,
) -> Message {
    let mut peer = Peer::open(connection).await;
    peer.say(&Message::SessionCall(SessionCall {
        session,
        callable,
        limits: CallLimits {
            result_bytes: Some(MIB),
            output_bytes: Some(MIB),
            ..peer::wall(100)
        },
        seed: Some(0),
        args_bytes: arguments.len() as u64,
    }))
    .await;
    peer.pour(arguments).await;
    outcome(&mut peer).await
}

async fn close(connection: &Connection, session: SessionId) {
    let close = SessionClose {
        session,
        expected: None,
    };
    let closed = ask(connection, &Message::SessionClose(close)).await;
    assert!(matches!(closed, Message::SessionClosed(_)), "{closed:?}");
}

/// Lets a job go on for a moment, ends it if it has not ended by then, and has it forgotten. Gives
/// what it has ended with.
async fn ended(connection: &Connection, job: JobId) -> Message {
    /// Enough for most of what a job does that will end at all.
    const MOMENT: Duration = Duration::from_millis(60);
    let result = |wait| Message::JobResult(JobResult { job, wait });
    let (waiting, cancel) = (result(true), Message::JobCancel(JobCancel { job }));
    let in_time = tokio::time::timeout(MOMENT, ask(connection, &waiting)).await;
    if in_time.is_err() {
        let cancelled = ask(connection, &cancel).await;
        // It may have ended just then.
        match &cancelled {
            Message::JobChanged(_) => {}
            Message::Refused(why) if why.code == RefusalCode::JobEnded => {}
            other => panic!("expected the end of a job, got {other:?}"),
        }
    }
    let ended = ask(connection, &result(false)).await;
    let forgotten = ask(connection, &Message::JobAcknowledge(JobAcknowledge { job })).await;
    assert!(
        matches!(forgotten, Message::JobForgotten(_)),
        "{forgotten:?}"
    );
    ended
}

/// Whatever a client has sent, what comes of it is not that the host failed.
#[track_caller]
fn is_no_fault_of_the_host(outcome: &Message, what: &str) {
    let why = match outcome {
        Message::Done(_) | Message::Failed(_) => return,
        Message::Refused(why) | Message::JobRefused(JobRefused { refused: why }) => why,
        other => panic!("{what}: {other:?}"),
    };
    assert_ne!(why.code, RefusalCode::Internal, "{what}: {why}");
}

#[tokio::test]
async fn images_that_nobody_has_changed_go_on() {
    let (local, owner, liar) = start().await;
    let whole = owner.call(&of(resumer(), by_futures::HANDLE), (7, 3000));
    let whole = whole.await.expect("it runs");
    let (session, job) = (saved_session(&owner).await, saved_job(&owner).await);
    let other = local.connect(1).await;

    let opened = Parts::of(&session).opens(&liar).await;
    assert_eq!(recalled(&other, opened).await, ["word"]);
    close(&liar, opened).await;

    let parts = Parts::of(&job);
    let Message::JobOpen(open) = parts.job() else {
        unreachable!("that is what it is");
    };
    let open = Message::JobOpen(JobOpen {
        limits: CallLimits::default(),
        ..open
    });
    let job = match parts.answer(&liar, &open).await {
        (Message::JobStarted(JobStarted { job, .. }), asked) => {
            assert_eq!(asked, parts.blocks.len() as u64);
            job
        }
        other => panic!("expected a job, got {other:?}"),
    };
    let job = other.job_of(by_futures::HANDLE, job).await.expect("found");
    let bits = |values: &[f64]| -> Vec<u64> { values.iter().map(|it| it.to_bits()).collect() };
    assert_eq!(bits(&job.result().await.expect("a value")), bits(&whole));
    job.acknowledge().await.expect("it has ended");
    serves(&local, &liar).await;
}
