//! The threads beside the workers.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wasmtime::Engine;

use crate::scheduler::{Active, lock};

/// Time between ticks of the epoch clock while guests run: how long one may hold a worker while
/// others wait.
const TICK: Duration = Duration::from_millis(1);

/// The threads beside the workers, and the epoch clock.
pub(crate) struct Background {
    /// The host's own work: uploads, the store, compilation.
    pub(crate) runtime: Handle,
    /// Timers and files of guests. What blocks has threads of its own here: a mount that hangs
    /// would take all that there are, and then no upload of any key would be hashed.
    pub(crate) guests: Handle,
    stop: Arc<AtomicBool>,
    ends: Vec<oneshot::Sender<()>>,
    engine: Engine,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Background> {
        // Should the second not start, the first ends with its `end`.
        let (own, end_own, own_thread) = runtime("spore-background")?;
        let (guests, end_guests, guests_thread) = runtime("spore-waits")?;
        Ok(Background {
            runtime: own,
            guests,
            stop: Arc::default(),
            ends: vec![end_own, end_guests],
            engine: engine.clone(),
            threads: Mutex::new(vec![own_thread, guests_thread]),
        })
    }

    /// Starts the epoch clock. It rests while no guest runs.
    pub(crate) fn tick(&self, active: Arc<Active>) -> std::io::Result<()> {
        let (stop, engine) = (self.stop.clone(), self.engine.clone());
        let thread = std::thread::Builder::new()
            .name("spore-ticks".into())
            .spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    active.wait_until_busy(Duration::from_millis(100));
                    if active.is_busy() {
                        std::thread::sleep(TICK);
                        engine.increment_epoch();
                    }
                }
            })?;
        lock(&self.threads).push(thread);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in self.ends.drain(..) {
            let _ = end.send(());
        }
        let current = std::thread::current().id();
        for thread in lock(&self.threads).drain(..) {
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

/// Something large, which is freed by the background: that takes as long as it is large.
pub(crate) struct FreedBeside<T: Send + 'static> {
    value: Option<T>,
    background: Handle,
}

impl<T: Send + 'static> FreedBeside<T> {
    pub(crate) fn new(value: T, background: &Handle) -> FreedBeside<T> {
        FreedBeside {
            value: Some(value),
            background: background.clone(),
        }
    }
}

impl<T: Send + 'static> FreedBeside<T> {
    /// The value, for who frees it otherwise.
    pub(crate) fn take(mut self) -> T {
        let value = self.value.take();
        value.expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Deref for FreedBeside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for FreedBeside<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.background.spawn_blocking(move || drop(value));
        }
    }
}

/// A runtime on a thread of its own, until it is told to end.
fn runtime(name: &str) -> std::io::Result<(Handle, oneshot::Sender<()>, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .thread_name(name)
        .build()?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
    Ok((handle, end, thread))
}
