//! Word from the workers to the I/O thread, many words in one.
//!
//! A worker that wakes a task of the I/O thread writes to a descriptor, and tokio runs what a
//! thread has woken itself before what others woke. So between any two results the connection would
//! be driven, and each would leave in a datagram of its own. Here they are handed to one task of the
//! thread, which wakes all that have come: they write one after the other, then the connection is
//! driven once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tokio::sync::mpsc;

/// Tasks that are woken before others get their turn.
const BATCH_MAX: usize = 256;

/// A way to the tasks of one thread. Clones are the same way.
#[derive(Clone)]
pub(super) struct Relay(mpsc::UnboundedSender<Waker>);

impl Relay {
    /// A relay to the runtime that it is called on. Its task ends when the last clone is gone.
    pub(super) fn start() -> Relay {
        // A task is in it once for each time that it waits, which bounds it by the streams.
        let (relay, mut waiting) = mpsc::unbounded_channel::<Waker>();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
                batch.drain(..).for_each(Waker::wake);
            }
        });
        Relay(relay)
    }

    /// Waits for what other threads do; they wake through the relay. As cancel-safe as `work`.
    pub(super) async fn through<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut way: Option<(Waker, Waker)> = None;
        std::future::poll_fn(|cx| {
            let known = way.take().filter(|(task, _)| task.will_wake(cx.waker()));
            let (_, relayed) = way.insert(known.unwrap_or_else(|| {
                let task = cx.waker().clone();
                let relay = self.clone();
                let relayed = Waker::from(Arc::new(Relayed {
                    relay,
                    task: task.clone(),
                }));
                (task, relayed)
            }));
            work.as_mut().poll(&mut Context::from_waker(relayed))
        })
        .await
    }
}

struct Relayed {
    relay: Relay,
    task: Waker,
}

impl Wake for Relayed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Err(gone) = self.relay.0.send(self.task.clone()) {
            // The runtime ends, and its tasks with it.
            gone.0.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::oneshot;

    /// What the tasks of a thread do, in order, when another thread wakes two of them at once and
    /// the first has something for a third to do.
    async fn order_of(relay: Option<Relay>) -> Vec<&'static str> {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |what| {
            let order = order.clone();
            move || order.lock().expect("no panic").push(what)
        };
        let (send, driven) = oneshot::channel();
        let driver = tokio::spawn({
            let note = note("drive");
            async move {
                let _ = driven.await;
                note();
            }
        });
        let mut send = Some(send);
        let mut results = Vec::new();
        let mut tasks = Vec::new();
        for name in ["first", "second"] {
            let (finish, finished) = oneshot::channel::<()>();
            let (relay, note, send) = (relay.clone(), note(name), send.take());
            results.push(finish);
            tasks.push(tokio::spawn(async move {
                let _ = match &relay {
                    Some(relay) => relay.through(finished).await,
                    None => finished.await,
                };
                note();
                send.map(|send| send.send(()));
            }));
        }
        tokio::task::yield_now().await;
        let worker = std::thread::spawn(move || {
            for result in results {
                result.send(()).expect("it is waited for");
            }
        });
        worker.join().expect("no panic");
        for task in tasks {
            task.await.expect("no panic");
        }
        driver.await.expect("no panic");
        order.lock().expect("no panic").clone()
    }

    #[tokio::test]
    async fn results_that_are_there_together_are_written_before_the_connection_is_driven() {
        let relay = Relay::start();
        assert_eq!(order_of(Some(relay)).await, ["first", "second", "drive"]);
        // Should this fail, the relay is no longer needed.
        assert_eq!(order_of(None).await, ["first", "drive", "second"]);
    }
}
