//! What a host keeps beside each instance, and the functions it offers to it.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use spore_abi::{fault, import};
use spore_bundle::CodeId;
use spore_bundle::image::Random;
use wasmtime::{Caller, Engine, Linker, Memory, ResourceLimiter};
use wasmtime_wasi::p1::{self, WasiP1Ctx};

use crate::checkpoints::Checkpoints;
use crate::events::Events;
use crate::limits::RunLimits;
use crate::room::Total;
use crate::wasi::{Clock, Outgoing, Outlet, Seed, Wasi, World};
use crate::writes::Writes;
use crate::{poll, random};

/// Beside each instance.
pub(crate) struct Guest {
    pub(crate) events: Arc<Events>,
    pub(crate) memory: MemoryBudget,
    pub(crate) output: Outlet,
    /// What the guest said before it trapped.
    pub(crate) fault: Option<Fault>,
    world: World,
    /// Set up when the guest first asks for random bytes.
    random: Option<ChaCha12Rng>,
    pub(crate) checkpoints: Checkpoints,
    /// To its memory.
    pub(crate) writes: Writes,
    wasi: Option<Wasi>,
    /// Why there is no WASI, if opening it failed.
    pub(crate) wasi_error: Option<String>,
}

/// Why a guest is about to trap, in its own words.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: u32,
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// What a guest was at before it turned to its initialiser.
pub(crate) struct Before {
    outgoing: Outgoing,
    events: Arc<Events>,
    drawn: Drawn,
}

/// Where a guest's random bytes came from before they came from elsewhere.
pub(crate) struct Drawn {
    seed: Seed,
    random: Option<ChaCha12Rng>,
}

impl Guest {
    pub(crate) fn new(
        limits: &RunLimits,
        events: Arc<Events>,
        world: World,
        totals: MemoryTotals,
    ) -> Guest {
        Guest {
            events,
            memory: MemoryBudget {
                limit: limits.memory,
                table_elements: u64::from(limits.table_elements),
                taken: 0,
                totals,
                denied: None,
            },
            output: world.outlet.clone(),
            fault: None,
            world,
            random: None,
            checkpoints: Checkpoints::default(),
            writes: Writes::default(),
            wasi: None,
            wasi_error: None,
        }
    }

    /// Files that it may have open at one time.
    pub(crate) fn open_files(&self) -> u32 {
        self.world.open_files
    }

    /// Where its random bytes come from.
    pub(crate) fn random(&mut self) -> &mut ChaCha12Rng {
        let Guest { random, world, .. } = self;
        random.get_or_insert_with(|| world.seed.generator())
    }

    /// Where its random bytes go on: the key of the generator, and the words drawn. `key` is that of
    /// one from which none was drawn.
    pub(crate) fn random_place(&self, key: impl FnOnce() -> [u8; 32]) -> Random {
        match &self.random {
            Some(random) => Random {
                key: random.get_seed(),
                position: u64::try_from(random.get_word_pos()).unwrap_or(u64::MAX),
            },
            None => Random {
                key: key(),
                position: 0,
            },
        }
    }

    /// Goes on with random bytes from there.
    pub(crate) fn go_on_at(&mut self, place: Random) {
        let mut random = ChaCha12Rng::from_seed(place.key);
        random.set_word_pos(u128::from(place.position));
        self.random = Some(random);
    }

    /// What its monotonic clock shows, in nanoseconds.
    pub(crate) fn clock_ns(&self) -> u64 {
        self.world.clock.now_ns()
    }

    /// Its monotonic clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.world.clock
    }

    /// Turns to an initialiser of this code: output and progress go nowhere, and random bytes are its
    /// own. Gives what the guest was at before.
    pub(crate) fn turn_to_initialiser(&mut self, code: CodeId) -> Before {
        let nowhere = Events::new();
        Before {
            outgoing: self.output.turn_to(Outgoing::new(nowhere.clone(), 0)),
            events: std::mem::replace(&mut self.events, nowhere),
            drawn: self.draw_from(Seed::of_initialiser(code)),
        }
    }

    pub(crate) fn turn_back(&mut self, before: Before) {
        self.output.turn_to(before.outgoing);
        self.events = before.events;
        self.draw_again(before.drawn);
    }

    /// Draws its random bytes from here on as the seed says. Gives where it drew them before.
    pub(crate) fn draw_from(&mut self, seed: Seed) -> Drawn {
        Drawn {
            seed: std::mem::replace(&mut self.world.seed, seed),
            random: self.random.take(),
        }
    }

    /// Draws its random bytes where it did before.
    pub(crate) fn draw_again(&mut self, drawn: Drawn) {
        self.world.seed = drawn.seed;
        self.random = drawn.random;
    }

    /// Turns to another call: its caller, the output that it may make, its random bytes.
    pub(crate) fn turn_to(&mut self, events: &Arc<Events>, output: u64, seed: Seed) {
        self.output.lead_to(events.clone(), output);
        self.events = events.clone();
        self.world.seed = seed;
        self.random = None;
        // What an earlier call reported and survived is none of this one's.
        self.fault = None;
    }

    /// Names of the directories that it may read, in the order of their numbers.
    pub(crate) fn directories(&self) -> Vec<String> {
        let directories = self.world.directories.iter();
        directories
            .map(|directory| directory.name.clone())
            .collect()
    }

    /// Whether it has asked for anything that is not its own: files, clocks, random bytes, output.
    pub(crate) fn has_looked_outside(&self) -> bool {
        self.wasi.is_some() || self.random.is_some() || self.events.progressed().is_some()
    }

    /// What it has done with its files that no image holds: see [`Wasi::changed_files`].
    pub(crate) fn changed_files(&mut self) -> Option<String> {
        self.wasi.as_mut()?.changed_files()
    }

    fn wasi(&mut self) -> &mut WasiP1Ctx {
        let Guest {
            wasi,
            world,
            wasi_error,
            ..
        } = self;
        let wasi = wasi.get_or_insert_with(|| {
            world.open().unwrap_or_else(|error| {
                // The guest sees no directory; the call is refused with this when it ends.
                *wasi_error = Some(format!("{error:#}"));
                let none = World {
                    directories: Arc::new([]),
                    ..world.clone()
                };
                none.open()
                    .expect("without directories there is nothing to fail")
            })
        });
        &mut wasi.context
    }
}

/// Memory that guests hold together.
#[derive(Clone, Debug)]
pub(crate) struct MemoryTotals {
    /// Those of the key that calls.
    pub(crate) of_key: Arc<Total>,
    /// All.
    pub(crate) of_host: Arc<Total>,
}

impl MemoryTotals {
    /// Takes so many bytes of both, or says what would be passed.
    fn take(&self, bytes: u64) -> Result<(), Denied> {
        self.of_key.take(bytes).map_err(|asked| Denied {
            what: "memory of all guests of the key, bytes",
            limit: self.of_key.limit(),
            asked,
        })?;
        self.of_host.take(bytes).map_err(|asked| {
            self.of_key.give_back(bytes);
            Denied {
                what: "memory of all guests, bytes",
                limit: self.of_host.limit(),
                asked,
            }
        })
    }

    fn give_back(&self, bytes: u64) {
        self.of_key.give_back(bytes);
        self.of_host.give_back(bytes);
    }
}

/// What one guest may take of memory and tables.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: u64,
    table_elements: u64,
    taken: u64,
    totals: MemoryTotals,
    pub(crate) denied: Option<Denied>,
}

/// What a guest asked for and did not get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    pub(crate) what: &'static str,
    pub(crate) limit: u64,
    pub(crate) asked: u64,
}

impl MemoryBudget {
    /// Counts as its own what another of the same key has taken, if that is no more than it may.
    pub(crate) fn take_over(&mut self, other: &mut MemoryBudget) -> bool {
        let fits = other.taken <= self.limit;
        if fits {
            self.taken += std::mem::take(&mut other.taken);
        }
        fits
    }

    /// Counts nothing as taken any more: the guest has ended, and is taken apart next.
    pub(crate) fn give_back(&mut self) {
        self.totals.give_back(std::mem::take(&mut self.taken));
    }

    /// Refuses by a trap: a guest that could go on without the memory would compute something else
    /// here than on a host that has it.
    fn deny(&mut self, denied: Denied) -> wasmtime::Error {
        self.denied = Some(denied);
        wasmtime::Error::msg("past the limit of this host")
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let desired = desired as u64;
        if desired > self.limit {
            return Err(self.deny(Denied {
                what: "memory of one guest, bytes",
                limit: self.limit,
                asked: desired,
            }));
        }
        let more = desired - current as u64;
        self.totals.take(more).map_err(|denied| self.deny(denied))?;
        self.taken += more;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // What the table declares as its maximum. One as large as the limit is the pool's own.
        let declared = maximum.filter(|maximum| (*maximum as u64) < self.table_elements);
        if declared.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if desired as u64 > self.table_elements {
            return Err(self.deny(Denied {
                what: "table elements",
                limit: self.table_elements,
                asked: desired as u64,
            }));
        }
        Ok(true)
    }
}

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// WASI's `errno` for what is no socket: no guest has one.
const NOT_A_SOCKET: i32 = 57;

/// Everything that a module may import.
///
/// # Errors
///
/// Never in practice: only what is to be replaced is defined twice.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, Guest::wasi)?;
    linker.allow_shadowing(true);
    poll::add_to_linker(&mut linker)?;
    random::add_to_linker(&mut linker)?;
    // wasmtime's log each call, and a guest makes a million in a second.
    let module = "wasi_snapshot_preview1";
    linker.func_wrap(module, "sock_accept", |_: i32, _: i32, _: i32| NOT_A_SOCKET)?;
    linker.func_wrap(
        module,
        "sock_recv",
        |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOT_A_SOCKET,
    )?;
    linker.func_wrap(
        module,
        "sock_send",
        |_: i32, _: i32, _: i32, _: i32, _: i32| NOT_A_SOCKET,
    )?;
    linker.func_wrap(module, "sock_shutdown", |_: i32, _: i32| NOT_A_SOCKET)?;
    linker.allow_shadowing(false);
    linker.func_wrap(
        spore_abi::IMPORT_MODULE,
        import::PROGRESS,
        |caller: Caller<'_, Guest>, done: u64, total: u64| {
            caller.data().events.progress(done, total);
        },
    )?;
    linker.func_wrap(spore_abi::IMPORT_MODULE, import::FAULT, take_fault)?;
    linker.func_wrap(
        spore_abi::IMPORT_MODULE,
        import::STOP_WANTED,
        |caller: Caller<'_, Guest>| u32::from(caller.data().checkpoints.reach()),
    )?;
    Ok(linker)
}

fn take_fault(
    mut caller: Caller<'_, Guest>,
    kind: u32,
    message: u32,
    message_len: u32,
    file: u32,
    file_len: u32,
    line: u32,
) -> wasmtime::Result<()> {
    let memory = memory_of(&mut caller)?;
    let bytes = memory.data(&caller);
    let text = |address, len, longest| {
        let bytes = slice(bytes, address, len)?;
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(longest)]).into_owned())
    };
    let message = text(message, message_len, fault::MESSAGE_BYTES_MAX);
    let file = text(file, file_len, fault::FILE_BYTES_MAX);
    let (Some(message), Some(file)) = (message, file) else {
        return Err(OutsideMemory.into());
    };
    caller.data_mut().fault = Some(Fault {
        kind,
        message,
        file,
        line,
    });
    Ok(())
}

/// The memory of the guest that calls.
///
/// # Errors
///
/// When it has none, which the ABI rules out.
pub(crate) fn memory_of(caller: &mut Caller<'_, Guest>) -> wasmtime::Result<Memory> {
    caller
        .get_export(spore_abi::export::MEMORY)
        .and_then(wasmtime::Extern::into_memory)
        .ok_or_else(|| wasmtime::Error::msg("a call without a memory"))
}

/// A guest named bytes that its memory does not have.
#[derive(Debug, thiserror::Error)]
#[error("the guest named bytes outside of its memory")]
pub(crate) struct OutsideMemory;

/// The `len` bytes at `address`. The one place where a guest's address meets its length.
pub(crate) fn slice(memory: &[u8], address: u32, len: u32) -> Option<&[u8]> {
    let start = usize::try_from(address).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    memory.get(start..end)
}

/// The same for writing.
pub(crate) fn slice_mut(memory: &mut [u8], address: u32, len: u32) -> Option<&mut [u8]> {
    let start = usize::try_from(address).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    memory.get_mut(start..end)
}
