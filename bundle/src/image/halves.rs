//! Work on many blocks, by two threads.

use std::panic::resume_unwind;
use std::sync::LazyLock;
use std::thread;

/// Least blocks of which a second thread takes half: with fewer it takes longer to start one.
const BLOCKS_MIN: usize = 64;

static HAS_CORES: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));

/// Whether two threads can run at one time.
pub fn has_cores() -> bool {
    *HAS_CORES
}

/// What comes of hashing or copying these blocks, or those of these numbers, in their order: half of it done
/// by another thread, if there are many.
pub fn in_halves<T: Sync, R: Send>(blocks: &[T], work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    if blocks.len() < BLOCKS_MIN || !has_cores() {
        return work(blocks);
    }
    let (earlier, later) = blocks.split_at(blocks.len() / 2);
    thread::scope(|threads| {
        let beside = thread::Builder::new().spawn_scoped(threads, || work(later));
        let mut done = work(earlier);
        done.extend(match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // There is no other thread to be had.
            Err(_) => work(later),
        });
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_threads_do_is_in_order() {
        for count in [0, 1, BLOCKS_MIN - 1, BLOCKS_MIN, BLOCKS_MIN + 1, 1000] {
            let numbers: Vec<_> = (0..count).collect();
            assert_eq!(in_halves(&numbers, <[usize]>::to_vec), numbers);
        }
    }
}
