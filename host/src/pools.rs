//! Threads to compile with: as many as cores, each of which gives way to guests and I/O.
//!
//! Each compilation has threads of its own. In a pool that they share the parts of a large module
//! would go before everything of a small one that came later, since a thread looks for work where it
//! is before it looks at what is new.

use std::sync::Mutex;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::scheduler::lock;

/// How much nicer than the rest of the host threads are that compile. While others want the
/// processor they get a third of what one of those gets, and else all of it. With less than that,
/// keys whose guests never rest would keep others from compiling within `compilation`.
const NICER: i32 = 5;

/// The nicest that a thread can be.
const NICEST: i32 = 19;

/// Most threads for one compilation. Bounds the threads of a host with many cores, which compiles
/// as many modules at one time.
const THREADS_MAX: usize = 16;

/// Pools of threads for compilations.
pub(crate) struct Pools {
    threads: usize,
    /// One that nobody uses now: usually there is one compilation at a time, and it need not start
    /// threads.
    idle: Mutex<Option<ThreadPool>>,
}

impl Pools {
    /// Pools of as many threads as there are cores.
    pub(crate) fn new(cores: usize) -> Pools {
        Pools {
            threads: cores.clamp(1, THREADS_MAX),
            idle: Mutex::default(),
        }
    }

    /// Does the work, and what it does side by side, on threads of its own. Blocks.
    ///
    /// # Errors
    ///
    /// When the system gives no threads.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, ThreadPoolBuildError> {
        let idle = lock(&self.idle).take();
        let pool = match idle {
            Some(pool) => pool,
            None => ThreadPoolBuilder::new()
                .num_threads(self.threads)
                .thread_name(|index| format!("spore-compile-{index}"))
                .start_handler(|_| give_way())
                .build()?,
        };
        let done = pool.install(work);
        *lock(&self.idle) = Some(pool);
        Ok(done)
    }
}

/// Lets other threads go before this one.
fn give_way() {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux each thread has a priority of its own, and who names no process names the thread.
    let lowered = getpriority_process(None)
        .and_then(|nice| setpriority_process(None, (nice + NICER).min(NICEST)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "a thread compiles at the priority of all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).expect("it has one")
    }

    #[test]
    fn work_gives_way_on_as_many_threads_as_cores_and_nothing_else_does() {
        let own = nice();
        let pools = Pools::new(3);
        for _ in 0..2 {
            let seen = pools.run(|| {
                (
                    nice(),
                    rayon::join(nice, nice),
                    rayon::current_num_threads(),
                )
            });
            let nicer = (own + NICER).min(NICEST);
            assert_eq!(seen.expect("threads"), (nicer, (nicer, nicer), 3));
        }
        assert_eq!(nice(), own);
        assert_eq!(Pools::new(1_000).threads, THREADS_MAX);
    }

    #[test]
    fn work_at_the_same_time_has_threads_of_its_own() {
        let pools = Pools::new(1);
        let (here, there) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            let long = scope.spawn(|| {
                pools.run(|| {
                    here.wait();
                    there.wait();
                })
            });
            here.wait();
            pools.run(|| ()).expect("it does not wait for the other");
            there.wait();
            long.join().expect("no panic").expect("threads");
        });
    }
}
