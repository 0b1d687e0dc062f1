//! Requests about sessions, jobs and moves that come out of order: each is refused by what is wrong
//! with it, what it is about stays as it is, and the host serves on.

mod arrivals;
mod differences;
mod items;
mod second;
mod steps;

use crate::asking::{Parts, ask, refused};
use resumer::told;
use spore_client::{Bundle, Host, JobId, MoveId, Persist, PublicKey, RefusalCode, Refused};
use spore_host::Setup;
use spore_tests::guests::{assert_serves, of};
use spore_tests::kept::WITHIN;
use spore_tests::peer::Peer;
use spore_tests::{Local, resumer};
use spore_transport::job::{
    JobArrive, JobMove, JobMoved, JobOffer, JobOffered, JobTerms, Lock, MoveStep,
};
use spore_transport::message::{Call, CallLimits, Message, Received};
use spore_transport::{BlobId, Connection};

/// The key of a host that is not there.
const NOWHERE: PublicKey = PublicKey([9; 32]);

/// A bundle that nobody has.
const UNKNOWN: BlobId = BlobId([0xaa; 32]);

/// A job that arrives, of which no other host has ever heard.
const ARRIVING: JobId = JobId([7; 16]);

/// A host of the test's own, a client, and a connection of the same key without manners.
async fn start() -> (Local, Host, Connection) {
    let local = Local::start(Setup::default(), &[""]);
    let host = local.connect(0).await;
    let connection = local.connection(0).await;
    (local, host, connection)
}

/// The host serves, on this connection and on others.
async fn serves(local: &Local, connection: &Connection) {
    let report = ask(connection, &Message::Status).await;
    assert!(matches!(report, Message::StatusReport(_)), "{report:?}");
    assert_serves(&local.connect(0).await).await;
}

/// The refusal with which the host ends a stream, whatever it says on it before.
async fn ends_refused(peer: &mut Peer, code: RefusalCode, what: &str) -> Refused {
    loop {
        match peer.hear().await {
            Ok(Received::Message(message @ Message::Refused(_))) => {
                return refused(message, code, what);
            }
            Ok(Received::Message(_) | Received::Data(_)) => {}
            other => panic!("{what}: expected a refusal, got {other:?}"),
        }
    }
}

/// Says several things on one stream, which are refused.
async fn all_refused(connection: &Connection, messages: &[Message], code: RefusalCode) -> Refused {
    let mut peer = Peer::open(connection).await;
    for message in messages {
        peer.say(message).await;
    }
    let names: Vec<_> = messages.iter().map(Message::name).collect();
    ends_refused(&mut peer, code, &names.join(", ")).await
}

fn call_of(bundle: BlobId, callable: u32, args_bytes: u64) -> Call {
    Call {
        bundle,
        callable,
        limits: CallLimits::default(),
        seed: 0,
        args_bytes,
    }
}

fn blob(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

/// The number of a callable in its bundle.
fn index_of(bundle: &Bundle, name: &str) -> u32 {
    bundle.inner().callable(name).expect("it is there").0
}

fn arrive(move_id: MoveId, lock: Lock, bundle: BlobId, items: Option<BlobId>) -> Message {
    let terms = JobTerms {
        limits: CallLimits::default(),
        persist: Persist::Off,
        paused: false,
        age_ms: u64::MAX,
        stops: u64::MAX,
        done: 0,
        total: 0,
        items,
    };
    Message::JobArrive(JobArrive {
        job: ARRIVING,
        move_id,
        lock,
        bundle,
        terms,
        difference: None,
    })
}

/// Offers the job that arrives, and gives the id of its move.
async fn offered(connection: &Connection) -> MoveId {
    let offer = Message::JobOffer(JobOffer {
        job: ARRIVING,
        from: NOWHERE,
        bundle: None,
    });
    match ask(connection, &offer).await {
        Message::JobOffered(JobOffered { move_id }) => move_id,
        other => panic!("expected an offer, got {other:?}"),
    }
}

fn step(job: JobId, move_id: MoveId, step: MoveStep) -> Message {
    Message::JobMove(JobMove { job, move_id, step })
}

/// Where a step of a move, which is done, has left the job.
#[track_caller]
fn moved(message: Message) -> JobMoved {
    match message {
        Message::JobMoved(moved) => moved,
        other => panic!("expected a step to be done, got {other:?}"),
    }
}

/// A job of a hundred rounds that was paused in one of the first, saved. It is not there any more.
async fn saved_job(host: &Host) -> Parts {
    let job = host.start(&of(resumer(), told::HANDLE), (100,));
    let job = job.await.expect("started");
    job.pause(WITHIN).await.expect("it sleeps often");
    let saved = job.save(WITHIN).await.expect("it stands still");
    job.cancel().await.expect("it stands still");
    job.acknowledge().await.expect("it has ended");
    Parts::of(&saved)
}
