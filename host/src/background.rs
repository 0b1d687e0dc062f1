//! The threads beside the workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

use crate::scheduler::{Active, lock};

/// Time between ticks of the epoch clock while guests run: how long one may hold a worker while
/// others wait.
const TICK: Duration = Duration::from_millis(1);

/// The thread beside the workers: timers, files, compilation, and the epoch clock.
pub(crate) struct Background {
    pub(crate) runtime: tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    engine: Engine,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Background> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .thread_name("spore-background")
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("spore-background".into())
            .spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        Ok(Background {
            runtime: handle,
            stop: Arc::default(),
            end: Some(end),
            engine: engine.clone(),
            threads: Mutex::new(vec![thread]),
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
        if let Some(end) = self.end.take() {
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
