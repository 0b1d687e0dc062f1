//! WASI's `poll_oneoff`: how a guest sleeps.
//!
//! wasmtime's own takes hundreds of bytes of the host's memory for each subscription, of which a
//! guest may hand over millions, and reports whatever clocks have run out when the host happens to
//! look. This one takes few, keeps nothing, and reports what comes first and only that.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use crate::guest::{Guest, memory_of, slice, slice_mut};
use crate::wasi::{MONOTONIC_CLOCK_NS, WALL_CLOCK};

/// Most subscriptions in one call. Runtimes use one to sleep, and one more for each open file.
const SUBSCRIPTIONS_MAX: u32 = 1024;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: usize = 32;

// Numbers of `errno`.
const SUCCESS: u16 = 0;
const FAULT: u16 = 21;
const INVAL: u16 = 28;
const NOMEM: u16 = 48;

// Kinds of subscriptions and events.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
const ABSOLUTE: u16 = 1;

/// Replaces the one that the linker has.
///
/// # Errors
///
/// When the linker does not allow it.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        "wasi_snapshot_preview1",
        "poll_oneoff",
        |mut caller: Caller<'_, Guest>, (from, to, count, found): (u32, u32, u32, u32)| {
            Box::new(async move {
                let memory = memory_of(&mut caller)?;
                let (wait, events) =
                    match first(memory.data(&caller), from, count, caller.data().clock_ns()) {
                        Ok(first) => first,
                        Err(errno) => return Ok(u32::from(errno)),
                    };
                if wait > 0 {
                    tokio::time::sleep(Duration::from_nanos(wait)).await;
                }
                let number = (events.len() / EVENT_BYTES) as u32;
                let memory = memory.data_mut(&mut caller);
                let written = [(to, &events[..]), (found, &number.to_le_bytes()[..])];
                for (address, bytes) in written {
                    match slice_mut(memory, address, bytes.len() as u32) {
                        Some(place) => place.copy_from_slice(bytes),
                        None => return Ok(u32::from(FAULT)),
                    }
                }
                Ok(u32::from(SUCCESS))
            })
        },
    )?;
    Ok(())
}

/// What comes first when the monotonic clock shows `now_ns`: how many nanoseconds from then, and the events of all that comes then.
fn first(memory: &[u8], from: u32, count: u32, now_ns: u64) -> Result<(u64, Vec<u8>), u16> {
    match count {
        0 => return Err(INVAL),
        1..=SUBSCRIPTIONS_MAX => {}
        _ => return Err(NOMEM),
    }
    let subscriptions = slice(memory, from, count * SUBSCRIPTION_BYTES).ok_or(FAULT)?;
    let mut least = u64::MAX;
    let mut events = Vec::new();
    for subscription in subscriptions.chunks_exact(SUBSCRIPTION_BYTES as usize) {
        let kind = subscription[8];
        let wait = match kind {
            CLOCK => clock(subscription, now_ns)?,
            // Files, and the caller's streams, are ready at all times.
            FD_READ | FD_WRITE => 0,
            _ => return Err(INVAL),
        };
        if wait < least {
            least = wait;
            events.clear();
        }
        if wait == least {
            let mut event = [0; EVENT_BYTES];
            event[..8].copy_from_slice(&subscription[..8]);
            event[10] = kind;
            // How many bytes are ready: one at least.
            event[16] = u8::from(kind != CLOCK);
            events.extend(event);
        }
    }
    Ok((least, events))
}

/// How many nanoseconds from now a clock runs out.
fn clock(subscription: &[u8], now_ns: u64) -> Result<u64, u16> {
    let bytes = |at: usize| -> [u8; 8] {
        subscription[at..at + 8]
            .try_into()
            .expect("eight bytes of a subscription")
    };
    let [id, timeout, flags] = [16, 24, 40].map(|at| u64::from_le_bytes(bytes(at)));
    let now = match id as u32 {
        REALTIME => {
            // Both clocks have moved on alike.
            let moved = now_ns.saturating_sub(MONOTONIC_CLOCK_NS);
            let wall = u64::try_from(WALL_CLOCK.as_nanos()).unwrap_or(u64::MAX);
            wall.saturating_add(moved)
        }
        MONOTONIC => now_ns,
        _ => return Err(INVAL),
    };
    Ok(match flags as u16 & ABSOLUTE {
        0 => timeout,
        _ => timeout.saturating_sub(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(user: u64, kind: u8, id: u32, timeout: u64, flags: u16) -> Vec<u8> {
        let mut bytes = vec![0; SUBSCRIPTION_BYTES as usize];
        bytes[..8].copy_from_slice(&user.to_le_bytes());
        bytes[8] = kind;
        bytes[16..20].copy_from_slice(&id.to_le_bytes());
        bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
        bytes[40..42].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    fn users(events: &[u8]) -> Vec<u64> {
        let user = |event: &[u8]| u64::from_le_bytes(event[..8].try_into().expect("eight bytes"));
        events.chunks_exact(EVENT_BYTES).map(user).collect()
    }

    #[test]
    fn what_comes_first_is_reported_and_nothing_else() {
        let memory = [
            subscription(1, CLOCK, MONOTONIC, 7, 0),
            subscription(2, CLOCK, MONOTONIC, MONOTONIC_CLOCK_NS + 5, ABSOLUTE),
            subscription(3, CLOCK, REALTIME, 5, 0),
        ]
        .concat();
        let (wait, events) = first(&memory, 0, 3, MONOTONIC_CLOCK_NS).expect("three clocks");
        assert_eq!((wait, users(&events)), (5, vec![2, 3]));
        let memory = [memory, subscription(4, FD_WRITE, 1, 0, 0)].concat();
        let (wait, events) = first(&memory, 0, 4, MONOTONIC_CLOCK_NS).expect("and a stream");
        assert_eq!((wait, users(&events)), (0, vec![4]));
    }

    #[test]
    fn what_is_past_the_limits_is_refused() {
        let memory = vec![0; (SUBSCRIPTIONS_MAX * SUBSCRIPTION_BYTES) as usize];
        assert!(first(&memory, 0, SUBSCRIPTIONS_MAX, MONOTONIC_CLOCK_NS).is_ok());
        assert_eq!(
            first(&memory, 0, SUBSCRIPTIONS_MAX + 1, MONOTONIC_CLOCK_NS),
            Err(NOMEM)
        );
        assert_eq!(first(&memory, 0, u32::MAX, MONOTONIC_CLOCK_NS), Err(NOMEM));
        assert_eq!(first(&memory, 0, 0, MONOTONIC_CLOCK_NS), Err(INVAL));
        assert_eq!(
            first(&memory, 1, SUBSCRIPTIONS_MAX, MONOTONIC_CLOCK_NS),
            Err(FAULT)
        );
        assert_eq!(first(&memory, u32::MAX, 1, MONOTONIC_CLOCK_NS), Err(FAULT));
        let unknown = subscription(1, 9, 0, 0, 0);
        assert_eq!(first(&unknown, 0, 1, MONOTONIC_CLOCK_NS), Err(INVAL));
    }
}
