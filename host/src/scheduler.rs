//! Worker threads that run guests in turn between keys.
//!
//! A guest is a future that yields at the end of each time slice (wasmtime's epochs see to that) and
//! whenever it waits. Each worker has a queue of its own, so that no lock is shared by all calls; a
//! worker without work takes some from another.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// Whose turn a task takes: calls of one number share one turn.
pub(crate) type Turn = u64;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wait of an idle worker before it looks at the other queues again.
///
/// Only bounds how long work may sit behind a busy worker after a missed wake-up; a push wakes an
/// idle worker at once.
const IDLE_LOOK_ROUND: Duration = Duration::from_millis(50);

/// The workers and their queues.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    workers: Vec<Worker>,
    stopping: AtomicBool,
    idle: AtomicUsize,
    /// Guests that are inside a poll right now; the epoch ticker rests when there are none.
    active: Arc<Active>,
    next: AtomicUsize,
}

/// Counts polls under way, and wakes the ticker when the first begins.
#[derive(Default)]
pub(crate) struct Active {
    count: AtomicUsize,
    ticker: Mutex<bool>,
    wake: Condvar,
}

impl Active {
    fn enter(&self) {
        if self.count.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut resting = lock(&self.ticker);
            if *resting {
                *resting = false;
                self.wake.notify_one();
            }
        }
    }

    fn leave(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Blocks while no guest is inside a poll, for at most `longest`.
    pub(crate) fn wait_until_busy(&self, longest: Duration) {
        let mut resting = lock(&self.ticker);
        *resting = true;
        if self.count.load(Ordering::SeqCst) == 0 {
            resting = self
                .wake
                .wait_timeout(resting, longest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *resting = false;
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }
}

struct Worker {
    queue: Mutex<FairQueue>,
    wake: Condvar,
    waiting: AtomicBool,
}

#[derive(Default)]
struct FairQueue {
    turns: VecDeque<Turn>,
    tasks: HashMap<Turn, VecDeque<Arc<Task>>>,
    len: usize,
}

impl FairQueue {
    fn push(&mut self, task: Arc<Task>) {
        let turn = task.turn;
        let tasks = self.tasks.entry(turn).or_default();
        if tasks.is_empty() {
            self.turns.push_back(turn);
        }
        tasks.push_back(task);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Arc<Task>> {
        let turn = self.turns.pop_front()?;
        let tasks = self.tasks.get_mut(&turn)?;
        let task = tasks.pop_front();
        if tasks.is_empty() {
            self.tasks.remove(&turn);
        } else {
            self.turns.push_back(turn);
        }
        self.len -= usize::from(task.is_some());
        task
    }
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const WOKEN: u8 = 3;
const DONE: u8 = 4;

/// One future on its way through the workers.
struct Task {
    turn: Turn,
    home: AtomicUsize,
    state: AtomicU8,
    work: Mutex<Option<Work>>,
    shared: Weak<Shared>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        loop {
            // One that is to be polled again anyway is swapped for itself: the poll then sees all
            // that was written before this wake-up. A load alone would not order the two.
            let from = self.state.load(Ordering::Acquire);
            let to = match from {
                IDLE => QUEUED,
                RUNNING => WOKEN,
                DONE => return,
                again => again,
            };
            let swapped =
                self.state
                    .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                if from == IDLE
                    && let Some(shared) = self.shared.upgrade()
                {
                    shared.push(self.clone());
                }
                return;
            }
        }
    }
}

impl Scheduler {
    /// Starts `workers` threads. Each does its work within one call of `around`.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub(crate) fn start(
        workers: usize,
        around: impl Fn(&dyn Fn()) + Send + Clone + 'static,
    ) -> std::io::Result<Scheduler> {
        let shared = Arc::new(Shared {
            workers: (0..workers.max(1))
                .map(|_| Worker {
                    queue: Mutex::default(),
                    wake: Condvar::new(),
                    waiting: AtomicBool::new(false),
                })
                .collect(),
            stopping: AtomicBool::new(false),
            idle: AtomicUsize::new(0),
            active: Arc::default(),
            next: AtomicUsize::new(0),
        });
        let mut threads = Vec::new();
        for index in 0..shared.workers.len() {
            let shared = shared.clone();
            let around = around.clone();
            let thread = std::thread::Builder::new().name(format!("spore-guest-{index}"));
            threads.push(thread.spawn(move || around(&|| shared.work(index)))?);
        }
        Ok(Scheduler {
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// Runs `work` on the workers, in turn with other work.
    pub(crate) fn spawn(&self, turn: Turn, work: impl Future<Output = ()> + Send + 'static) {
        let task = Arc::new(Task {
            turn,
            home: AtomicUsize::new(self.shared.next_home()),
            state: AtomicU8::new(QUEUED),
            work: Mutex::new(Some(Box::pin(work))),
            shared: Arc::downgrade(&self.shared),
        });
        self.shared.push(task);
    }

    pub(crate) fn active(&self) -> Arc<Active> {
        self.shared.active.clone()
    }

    /// Ends the workers once their present polls return, and drops what is queued.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for worker in &self.shared.workers {
            let _queue = lock(&worker.queue);
            worker.wake.notify_all();
        }
        let current = std::thread::current().id();
        for thread in lock(&self.threads).drain(..) {
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// The worker that waits, or the next in turn.
    fn next_home(&self) -> usize {
        if self.idle.load(Ordering::Relaxed) > 0
            && let Some(index) = self
                .workers
                .iter()
                .position(|w| w.waiting.load(Ordering::Relaxed))
        {
            return index;
        }
        self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()
    }

    fn push(&self, task: Arc<Task>) {
        let home = task.home.load(Ordering::Relaxed);
        let worker = &self.workers[home];
        let mut queue = lock(&worker.queue);
        queue.push(task);
        let more = queue.len > 1;
        if worker.waiting.load(Ordering::Relaxed) {
            worker.wake.notify_one();
        }
        drop(queue);
        if more && self.idle.load(Ordering::Relaxed) > 0 {
            let others = (0..self.workers.len()).filter(|index| *index != home);
            for other in others.map(|index| &self.workers[index]) {
                if other.waiting.load(Ordering::Relaxed) {
                    let _queue = lock(&other.queue);
                    other.wake.notify_one();
                    break;
                }
            }
        }
    }

    fn work(&self, index: usize) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.take(index) {
                Some(task) => self.poll(index, task),
                None => self.rest(index),
            }
        }
        // What is left is dropped here, guests' stacks with it.
        while let Some(task) = lock(&self.workers[index].queue).pop() {
            task.state.store(DONE, Ordering::Release);
            drop(lock(&task.work).take());
        }
    }

    fn take(&self, index: usize) -> Option<Arc<Task>> {
        let own = lock(&self.workers[index].queue).pop();
        own.or_else(|| {
            let count = self.workers.len();
            (1..count).find_map(|step| lock(&self.workers[(index + step) % count].queue).pop())
        })
    }

    fn rest(&self, index: usize) {
        let worker = &self.workers[index];
        let queue = lock(&worker.queue);
        if queue.len > 0 || self.stopping.load(Ordering::SeqCst) {
            return;
        }
        worker.waiting.store(true, Ordering::Relaxed);
        self.idle.fetch_add(1, Ordering::Relaxed);
        let (_queue, _) = worker
            .wake
            .wait_timeout(queue, IDLE_LOOK_ROUND)
            .unwrap_or_else(PoisonError::into_inner);
        self.idle.fetch_sub(1, Ordering::Relaxed);
        worker.waiting.store(false, Ordering::Relaxed);
    }

    fn poll(&self, index: usize, task: Arc<Task>) {
        task.home.store(index, Ordering::Relaxed);
        task.state.swap(RUNNING, Ordering::AcqRel);
        let waker = Waker::from(task.clone());
        let mut work = lock(&task.work);
        let Some(future) = work.as_mut() else { return };
        self.active.enter();
        // What panics takes its own call with it and not the worker, which others need.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        self.active.leave();
        if !matches!(polled, Ok(Poll::Pending)) {
            task.state.store(DONE, Ordering::Release);
            let ended = work.take();
            drop(work);
            if panic::catch_unwind(AssertUnwindSafe(|| drop(ended))).is_err() {
                tracing::error!("a call panicked while it was taken apart");
            }
            return;
        }
        drop(work);
        let slept = task
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if slept.is_err() {
            task.state.swap(QUEUED, Ordering::AcqRel);
            self.push(task);
        }
    }
}

/// Locks, also when a thread panicked while it held the lock: every critical section here leaves the
/// data whole at each step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Yields once to the other tasks of the worker.
    async fn yield_now() {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn work_of_two_turns_alternates_whatever_its_amount() {
        let scheduler = Scheduler::start(1, |work| work()).expect("threads");
        let (order, seen) = mpsc::channel();
        let (gate, wait) = mpsc::channel::<()>();
        // Holds the only worker until everything is queued.
        scheduler.spawn(0, async move {
            let _ = wait.recv();
        });
        for index in 0..6 {
            let order = order.clone();
            scheduler.spawn(1, async move { order.send((1, index)).expect("receiver") });
        }
        scheduler.spawn(2, async move { order.send((2, 0)).expect("receiver") });
        gate.send(()).expect("worker");
        let first: Vec<_> = (0..2).map(|_| seen.recv().expect("two tasks")).collect();
        assert!(
            first.contains(&(2, 0)),
            "the second turn waited for all of the first: {first:?}"
        );
    }

    #[test]
    fn a_task_that_yields_lets_others_run_and_goes_on() {
        let scheduler = Scheduler::start(1, |work| work()).expect("threads");
        let (order, seen) = mpsc::channel();
        let (gate, wait) = mpsc::channel::<()>();
        scheduler.spawn(0, async move {
            let _ = wait.recv();
        });
        let first = order.clone();
        scheduler.spawn(1, async move {
            first.send("a1").expect("receiver");
            yield_now().await;
            first.send("a2").expect("receiver");
        });
        scheduler.spawn(2, async move { order.send("b").expect("receiver") });
        gate.send(()).expect("worker");
        assert_eq!(seen.iter().take(3).collect::<Vec<_>>(), ["a1", "b", "a2"]);
    }

    #[test]
    fn what_panics_leaves_the_worker_to_others() {
        let scheduler = Scheduler::start(1, |work| work()).expect("threads");
        let (sender, seen) = mpsc::channel();
        scheduler.spawn(1, async { panic!("of a test") });
        scheduler.spawn(1, async move { sender.send(()).expect("receiver") });
        seen.recv_timeout(Duration::from_secs(10))
            .expect("the worker lives");
    }

    #[test]
    fn stopping_drops_what_never_ran() {
        let scheduler = Scheduler::start(1, |work| work()).expect("threads");
        let held = Arc::new(());
        let witness = held.clone();
        scheduler.spawn(1, async move {
            std::future::pending::<()>().await;
            drop(witness);
        });
        scheduler.stop();
        drop(scheduler);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
