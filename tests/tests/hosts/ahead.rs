//! A job that has moved is kept as what is otherwise than in what went ahead of it, until it is kept whole.

use resumer::roams;
use spore_client::{Connect, Host};
use spore_store::{Key, Kind, Store};
use spore_tests::door::{Door, copy};
use spore_tests::guests::of;
use spore_tests::kept::WITHIN;
use spore_tests::outcome::soon;
use spore_tests::{Process, resumer};

/// Rounds of the job, each of 10 ms.
const ROUNDS: u32 = 600;

/// What a host keeps a job as, and what came ahead of one: as `host/src/keep.rs` has them.
const JOB: Kind = Kind(3);
const AHEAD: Kind = Kind(6);

/// Blocks of the job's table.
const TABLE_BLOCKS: usize = 3 << 8;

async fn connect(door: &Door, client: &Door) -> Host {
    let connect = Connect::new()
        .identity(copy(&client.clients[0]))
        .trust(door.key);
    let address = door.address.to_string();
    let connected = soon("the host serves", connect.to(&address));
    connected.await.expect("it serves this key")
}

/// Two hosts that serve one client, and write a running job down only when they must.
async fn pair() -> (Process, Process) {
    let configuration = "job_persist = \"0s\"\n";
    let source = Process::start(configuration, &[""]);
    let target = Process::start(configuration, &[]);
    target.authorize(&source.clients[0]).await;
    (source, target)
}

/// What is on the disk of a host that was killed: blocks that the image of its job names, and records of
/// what came ahead.
fn kept(process: &Process) -> (Option<usize>, usize) {
    let store = Store::open(&process.home().kept_path(), 1 << 30).expect("nobody else has it");
    let keys = |kind| -> Vec<Key> {
        let records = store.list(None, Some(kind)).expect("readable").into_iter();
        records.map(|(key, _)| key).collect()
    };
    let jobs = keys(JOB);
    assert!(jobs.len() <= 1);
    let image = jobs
        .first()
        .and_then(|key| store.image(key).expect("readable"));
    (image.map(|image| image.ids().len()), keys(AHEAD).len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_kept_as_a_difference_until_it_is_kept_whole() {
    let (source, mut target) = pair().await;
    let (one, other) = (
        connect(&source, &source).await,
        connect(&target, &source).await,
    );
    let roams = of(resumer(), roams::HANDLE);
    let expected = other.call(&roams, (ROUNDS,)).await.expect("it ends well");
    let job = one.start(&roams, (ROUNDS,)).await.expect("started");
    let id = job.id();
    let moved = job.move_to(&other, WITHIN).await.expect("it moves");
    drop((moved, other));
    target.kill();
    let (blocks, ahead) = kept(&target);
    let blocks = blocks.expect("an image");
    assert!((1..TABLE_BLOCKS / 4).contains(&blocks), "{blocks} blocks");
    assert_eq!(ahead, 1);

    // It goes on from there; and once it stands still it is kept whole.
    target.restart();
    let other = connect(&target, &source).await;
    let job = other.job_of(roams::HANDLE, id).await.expect("it is there");
    job.pause(WITHIN).await.expect("it sleeps often");
    assert!(job.info().await.expect("listed").done < u64::from(ROUNDS));
    drop((job, other));
    target.kill();
    let (blocks, ahead) = kept(&target);
    assert!(
        blocks.is_some_and(|blocks| blocks >= TABLE_BLOCKS),
        "{blocks:?} blocks"
    );
    assert_eq!(ahead, 0);

    target.restart();
    let other = connect(&target, &source).await;
    let job = other.job_of(roams::HANDLE, id).await.expect("it is there");
    job.resume().await.expect("it stands still");
    let result = soon("the job ends", job.result()).await;
    assert_eq!(result.expect("it ends well"), expected);
    job.acknowledge().await.expect("it has ended");
    drop(other);
    target.kill();
    assert_eq!(kept(&target), (None, 0));
}

/// What needs it goes with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_ahead_goes_with_the_job() {
    let (source, mut target) = pair().await;
    let (one, other) = (
        connect(&source, &source).await,
        connect(&target, &source).await,
    );
    let roams = of(resumer(), roams::HANDLE);
    other.call(&roams, (0,)).await.expect("it serves");
    let job = one.start(&roams, (ROUNDS,)).await.expect("started");
    let moved = job.move_to(&other, WITHIN).await.expect("it moves");
    moved.cancel().await.expect("it runs");
    moved.acknowledge().await.expect("it has ended");
    // Back and forth: what is kept where it was is gone.
    let job = one.start(&roams, (ROUNDS,)).await.expect("started");
    let there = job.move_to(&other, WITHIN).await.expect("it moves");
    let back = there.move_to(&one, WITHIN).await.expect("it moves back");
    assert!(other.jobs().await.expect("listed").is_empty());
    let result = soon("the job ends", back.result()).await;
    let expected = other.call(&roams, (ROUNDS,)).await.expect("it ends well");
    assert_eq!(result.expect("it ends well"), expected);
    drop(other);
    target.kill();
    assert_eq!(kept(&target), (None, 0));
}
