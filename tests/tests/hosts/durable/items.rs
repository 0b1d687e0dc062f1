//! Items of streams whose hosts are killed, and of streams that move.

use std::convert::Infallible;

use spore_client::{Host, Job, JobId, JobNews, Persist, Watch};
use spore_tests::guests::of;
use spore_tests::outcome::{soon, until};
use spore_tests::peer::Peer;
use spore_tests::{Process, resumer};
use spore_transport::BlobId;
use spore_transport::job::JobStart;
use spore_transport::message::{Call, CallLimits, Message};

use super::{SEED, UNDISTURBED, WITHIN, info, joined, next_item};

type Walk = Job<(), Infallible, f64>;

/// The items of a walk that nothing disturbs.
async fn undisturbed(steps: u32) -> Vec<f64> {
    let walk = of(resumer(), resumer::walk::HANDLE);
    let items = UNDISTURBED.stream(&walk, (SEED, steps)).await;
    let mut items = items.expect("begun");
    let mut walked = Vec::new();
    while let Some(item) = soon("the next item", items.next()).await {
        walked.push(item.expect("good"));
    }
    assert_eq!(walked.len(), steps as usize);
    walked
}

async fn started(host: &Host, steps: u32, persist: Persist) -> Walk {
    let walk = of(resumer(), resumer::walk::HANDLE);
    let starting = host.start(&walk, (SEED, steps)).persist(persist);
    starting.await.expect("started")
}

/// The job as another program finds it, which has seen none of its items, by way of a connection of
/// its own: the last one was lost with its host.
async fn found(process: &Process, id: JobId) -> Walk {
    let host = soon("the host serves", process.connect(0)).await;
    let job = host.job_of(resumer::walk::HANDLE, id).await;
    job.expect("it is there")
}

/// What a client has of a stream: every item once, in the order of their numbers.
struct Taken<'a> {
    expected: &'a [f64],
    next: u64,
}

impl Taken<'_> {
    /// A watch from the first item that is not there yet.
    async fn watch(&self, job: &Walk) -> Watch<(), Infallible, f64> {
        let watch = job.watch().items_from(self.next).await;
        let watch = watch.expect("none of these is forgotten");
        assert_eq!(watch.items_from(), Some(self.next));
        watch
    }

    fn take(&mut self, sequence: u64, item: f64) {
        assert_eq!(sequence, self.next);
        let expected = self.expected[sequence as usize];
        assert_eq!(item.to_bits(), expected.to_bits(), "item {sequence}");
        self.next += 1;
    }

    /// Takes the items below this one.
    async fn take_until(&mut self, watch: &mut Watch<(), Infallible, f64>, end: u64) {
        while self.next < end {
            let (sequence, item) = next_item(watch).await;
            self.take(sequence, item);
        }
    }

    /// Takes the rest, after which the stream has to end.
    async fn take_rest(&mut self, watch: &mut Watch<(), Infallible, f64>) {
        while let Some(news) = soon("the end", watch.next()).await {
            if let JobNews::Item { sequence, item } = news.expect("the watch goes on") {
                self.take(sequence, item);
            }
        }
        assert_eq!(self.next, self.expected.len() as u64);
        watch.result().expect("it has ended").expect("it ends well");
    }
}

#[tokio::test]
async fn a_host_says_whether_items_may_come_twice() {
    let process = Process::start("job_persist = \"0s\"\n", &[""]);
    let host = process.connect(0).await;
    host.ship(resumer()).await.expect("shipped");
    let connection = process.connection(0).await;
    let callables = &resumer().inner().manifest().callables;
    let walk = callables.iter().position(|it| it.name == "resumer::walk");
    let arguments = spore_value::codec::encode(&(SEED, 3u32)).expect("two numbers");
    for (persist, at_least_once) in [
        (Persist::Off, true),
        (Persist::HostDefault, true),
        (Persist::Every { ms: 10_000 }, false),
    ] {
        let call = Call {
            bundle: BlobId(*resumer().id().as_bytes()),
            callable: walk.expect("the guest has it") as u32,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: arguments.len() as u64,
        };
        let mut peer = Peer::open(&connection).await;
        peer.say(&Message::JobStart(JobStart { call, persist }))
            .await;
        peer.pour(arguments.clone()).await;
        let id = match peer.message().await {
            Message::JobStarted(started) => {
                assert_eq!(started.at_least_once, at_least_once, "{persist:?}");
                started.job
            }
            other => panic!("expected a job, got {other:?}"),
        };
        let job = host.job_of(resumer::walk::HANDLE, id).await;
        let watch = job.expect("it is there").watch().await.expect("watched");
        assert_eq!(watch.at_least_once(), at_least_once, "{persist:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_items_of_a_durable_stream_come_once_however_often_its_host_is_killed() {
    let expected = undisturbed(450).await;
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    // Images are written when items wait for them, and not for the time that has passed.
    let seldom = Persist::Every { ms: 3_600_000 };
    let id = started(&host, 450, seldom).await.id();
    let mut taken = Taken {
        expected: &expected,
        next: 0,
    };
    for killed_at in [50, 190, 331] {
        let job = found(&process, id).await;
        let mut watch = taken.watch(&job).await;
        assert!(!watch.at_least_once());
        taken.take_until(&mut watch, killed_at).await;
        process.kill();
        process.restart();
    }
    let job = found(&process, id).await;
    let mut watch = taken.watch(&job).await;
    taken.take_rest(&mut watch).await;
    job.acknowledge().await.expect("it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_a_stream_that_is_not_durable_come_again_with_their_numbers() {
    let expected = undisturbed(400).await;
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let job = started(&host, 400, Persist::Off).await;
    let mut taken = Taken {
        expected: &expected,
        next: 0,
    };
    let mut watch = taken.watch(&job).await;
    assert!(watch.at_least_once());
    taken.take_until(&mut watch, 20).await;
    // What stands still is written down, and is all that is left after a kill.
    job.pause(WITHIN)
        .await
        .expect("it waits for its items to be taken");
    job.resume().await.expect("it is paused");
    taken.take_until(&mut watch, 300).await;
    process.kill();
    process.restart();

    let job = found(&process, job.id()).await;
    let mut watch = job.watch().await.expect("it is there");
    assert!(watch.at_least_once());
    let first = watch.items_from().expect("it emits items");
    assert!(first <= 20, "from {first}");
    // The numbers tell those that come again, which are the same here, from those that are new.
    let mut again = Taken {
        expected: &expected,
        next: first,
    };
    again.take_rest(&mut watch).await;
    job.acknowledge().await.expect("it has ended");
}

#[tokio::test]
async fn a_watch_from_a_later_item_does_not_wait_for_those_before() {
    let expected = undisturbed(300).await;
    let job = started(&UNDISTURBED, 300, Persist::Off).await;
    // As after a restart that has lost more items than a host holds, all of which the client has.
    let mut taken = Taken {
        expected: &expected,
        next: 200,
    };
    let mut watch = taken.watch(&job).await;
    taken.take_rest(&mut watch).await;
    job.acknowledge().await.expect("it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_that_nobody_has_taken_move_with_their_stream() {
    let expected = undisturbed(400).await;
    let configuration = "job_persist = \"100ms\"\n";
    let one = Process::start(configuration, &[""]);
    let other = Process::start(configuration, &[]);
    let hosts = [one.connect(0).await, joined(&other, &one).await];
    let mut job = started(&hosts[0], 400, Persist::HostDefault).await;
    let mut taken = Taken {
        expected: &expected,
        next: 0,
    };
    for (to, moved_at) in [(&hosts[1], 0), (&hosts[0], 30), (&hosts[1], 170)] {
        let mut watch = taken.watch(&job).await;
        taken.take_until(&mut watch, moved_at).await;
        drop(watch);
        // What was said of the last that were taken may be lost with their watch. Another says it again.
        drop(taken.watch(&job).await);
        until("items wait to be taken", || async {
            info(&job).await.items > taken.next + 20
        })
        .await;
        let moving = job.move_to(to, WITHIN).await;
        job = moving.expect("moved");
    }
    let mut watch = taken.watch(&job).await;
    taken.take_rest(&mut watch).await;
    job.acknowledge().await.expect("it has ended");
}
