//! What a guest sees of the world: by default nothing that differs from run to run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use spore_bundle::CodeId;
use spore_transport::message::OutputStream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{Pollable, StreamResult};
use wasmtime_wasi::{
    FsPerms, HostMonotonicClock, HostWallClock, WasiCtxBuilder, WasiView, async_trait,
};

use crate::events::Events;
use crate::scheduler::lock;

/// What the wall clock of a guest without that grant shows: 2000-01-01 00:00:00 UTC.
pub(crate) const WALL_CLOCK: Duration = Duration::from_secs(946_684_800);
/// What the monotonic clock of a guest without that grant shows at first, in nanoseconds: late
/// enough that programs may subtract from it.
pub(crate) const MONOTONIC_CLOCK_NS: u64 = 1_000_000_000_000;

/// Most output that a guest may hand over at once, in bytes. The size of WASI's own buffers.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Resources of WASI that each guest has before it opens anything: its three streams.
const STREAMS: usize = 3;

/// Resources that reading one file or directory takes for a moment.
const READING: usize = 2;

/// A directory that a guest may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// The guest sees it as `/NAME`.
    pub(crate) name: String,
    /// Where it is on this machine.
    pub(crate) path: PathBuf,
}

/// What it takes to make a guest's world, once the guest looks at it.
///
/// Most callables never do, and then cost nothing.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) outlet: Outlet,
    /// Everything that the call is made of, hashed: equal calls draw equal random bytes.
    pub(crate) seed: Seed,
    pub(crate) directories: Arc<[Directory]>,
    /// Files that may be open at one time.
    pub(crate) open_files: u32,
    pub(crate) clock: Clock,
}

/// The clocks of a guest that is not granted any: they stand still, but for the waits of resumable
/// callables, which move both on. Holds what the monotonic one shows. Clones are the same.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Default for Clock {
    fn default() -> Clock {
        Clock(Arc::new(AtomicU64::new(MONOTONIC_CLOCK_NS)))
    }
}

impl Clock {
    /// One that goes on from this time, in nanoseconds.
    pub(crate) fn at(ns: u64) -> Clock {
        let clock = Clock::default();
        clock.move_to(ns);
        clock
    }

    /// What the monotonic clock shows, in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves on to this time, and never back.
    pub(crate) fn move_to(&self, ns: u64) {
        self.0.fetch_max(ns, Ordering::Relaxed);
    }
}

/// Where the random bytes of a call begin.
#[derive(Clone)]
pub(crate) struct Seed {
    pub(crate) bundle: [u8; 32],
    pub(crate) callable: u32,
    pub(crate) seed: u64,
    pub(crate) arguments: Bytes,
}

impl Seed {
    /// That of the initialiser of this code, which is the same in whatever bundle the code is.
    pub(crate) fn of_initialiser(code: CodeId) -> Seed {
        Seed {
            bundle: *code.as_bytes(),
            callable: u32::MAX,
            seed: 0,
            arguments: Bytes::new(),
        }
    }

    /// That of what a guest does when its run was restored, which was stopped so many times.
    pub(crate) fn of_restored(&self, stops: u64) -> Seed {
        Seed {
            bundle: self.bundle,
            callable: u32::MAX - 1,
            seed: self.seed,
            arguments: Bytes::copy_from_slice(&stops.to_le_bytes()),
        }
    }

    pub(crate) fn generator(&self) -> ChaCha12Rng {
        ChaCha12Rng::from_seed(self.key())
    }

    /// The key of the generator, as `docs/ABI.md` derives it.
    pub(crate) fn key(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("spore 1 random bytes of a call");
        hash.update(&self.bundle);
        hash.update(&self.callable.to_le_bytes());
        hash.update(&self.seed.to_le_bytes());
        hash.update(&self.arguments);
        *hash.finalize().as_bytes()
    }
}

/// A guest's way to WASI.
pub(crate) struct Wasi {
    pub(crate) context: WasiP1Ctx,
    /// Resources that it has from its first use of WASI on, before it opens anything.
    resources: usize,
}

impl Wasi {
    /// What the guest has done with its files that no image holds, in words that follow "the guest";
    /// nothing when just those are open that it began with.
    pub(crate) fn changed_files(&mut self) -> Option<String> {
        let (mut all, mut open) = (0, 0);
        for resource in self.context.ctx().table.iter_mut() {
            all += 1;
            open += match resource.downcast_ref() {
                Some(Descriptor::File(_)) => 1,
                // Of a granted one the context has another.
                Some(Descriptor::Dir(it)) => usize::from(Arc::strong_count(&it.dir) == 1),
                None => 0,
            };
        }
        match open {
            // They are opened when they are first used.
            0 if all == 0 || all == self.resources => None,
            0 if all < self.resources => {
                Some("has closed a granted directory or a standard stream".to_owned())
            }
            0 => Some("has something open".to_owned()),
            1 => Some("has 1 file open".to_owned()),
            open => Some(format!("has {open} files open")),
        }
    }
}

impl World {
    /// Opens the granted directories and sets up everything else fixed and empty.
    ///
    /// # Errors
    ///
    /// When a granted directory cannot be opened.
    pub(crate) fn open(&self) -> wasmtime::Result<Wasi> {
        let mut builder = WasiCtxBuilder::new();
        // WASI of preview 1 has one way to random bytes, `random_get`, and `random.rs` is that.
        let unused = ChaCha12Rng::from_seed([0; 32]);
        let stream = |stream| GuestOutput {
            outlet: self.outlet.clone(),
            stream,
        };
        builder
            .stdout(stream(OutputStream::Stdout))
            .stderr(stream(OutputStream::Stderr))
            .wall_clock(self.clock.clone())
            .monotonic_clock(self.clock.clone())
            .insecure_random(unused.clone())
            .insecure_random_seed(0)
            .secure_random(unused)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for directory in self.directories.iter() {
            let name = &directory.name;
            let opened =
                builder.preopened_dir(&directory.path, format!("/{name}"), FsPerms::ReadOnly);
            opened.map_err(|error| error.context(format!("directory {name} cannot be opened")))?;
        }
        let mut context = builder.build_p1();
        // Past this a guest traps: one that could go on would compute something else here than on a
        // host that lets it open more. A guest that does not read may open the last two as well.
        let resources = STREAMS + self.directories.len();
        let open_files = usize::try_from(self.open_files).unwrap_or(usize::MAX);
        let capacity = open_files.saturating_add(resources + READING);
        context.ctx().table.set_max_capacity(capacity);
        Ok(Wasi { context, resources })
    }
}

/// Where a guest's output goes: the call that runs now, and how much of it.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Mutex<Outgoing>>);

/// Where output goes, and how much of it.
pub(crate) struct Outgoing {
    events: Arc<Events>,
    left: u64,
    cut: bool,
}

impl Outgoing {
    /// To a call that may put out so many bytes.
    pub(crate) fn new(events: Arc<Events>, bytes: u64) -> Outgoing {
        Outgoing {
            events,
            left: bytes,
            cut: false,
        }
    }
}

impl Outlet {
    /// An outlet to a call that may put out so many bytes, both streams together.
    pub(crate) fn new(events: Arc<Events>, bytes: u64) -> Outlet {
        Outlet(Arc::new(Mutex::new(Outgoing::new(events, bytes))))
    }

    /// Leads to another call from now on.
    pub(crate) fn lead_to(&self, events: Arc<Events>, bytes: u64) {
        self.turn_to(Outgoing::new(events, bytes));
    }

    /// Leads there from now on. Gives where it has led.
    pub(crate) fn turn_to(&self, outgoing: Outgoing) -> Outgoing {
        std::mem::replace(&mut lock(&self.0), outgoing)
    }

    fn put(&self, stream: OutputStream, bytes: &[u8]) {
        let mut outgoing = lock(&self.0);
        let room = usize::try_from(outgoing.left).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room);
        outgoing.left -= taken as u64;
        outgoing.cut |= taken < bytes.len();
        if taken > 0 {
            outgoing.events.output(stream, &bytes[..taken]);
        }
    }

    /// Whether something was left out.
    pub(crate) fn was_cut(&self) -> bool {
        lock(&self.0).cut
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn now(&self) -> Duration {
        WALL_CLOCK + Duration::from_nanos(self.now_ns() - MONOTONIC_CLOCK_NS)
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }
    fn now(&self) -> u64 {
        self.now_ns()
    }
}

/// One of a guest's two output streams. Never makes the guest wait: what a slow caller has not
/// taken yet waits in the call's queue, which the output limit bounds.
#[derive(Clone)]
struct GuestOutput {
    outlet: Outlet,
    stream: OutputStream,
}

impl GuestOutput {
    fn put(&self, bytes: &[u8]) {
        self.outlet.put(self.stream, bytes);
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl wasmtime_wasi::p2::OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.put(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;

    /// The second cell of the document's row whose first is this.
    fn documented(first: &str) -> &'static str {
        let document = include_str!("../../docs/ABI.md");
        let row = format!("\n| {first} | ");
        let (_, rest) = document.split_once(&row).expect(first);
        let (cell, _) = rest.split_once(" |").expect(first);
        cell.trim_matches('`')
    }

    #[test]
    fn the_clocks_are_those_of_the_document() {
        let shown = documented("`clock_time_get`");
        let (wall, monotonic) = (WALL_CLOCK.as_nanos(), MONOTONIC_CLOCK_NS);
        assert!(
            shown.contains(&format!("realtime (0): {wall}, ")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("monotonic (1): {monotonic};")),
            "{shown}"
        );

        let shown = documented("`clock_res_get`");
        let wall = HostWallClock::resolution(&Clock::default()).as_nanos();
        let monotonic = HostMonotonicClock::resolution(&Clock::default());
        assert!(shown.contains(&format!("realtime (0): {wall};")), "{shown}");
        assert!(
            shown.contains(&format!("monotonic (1): {monotonic};")),
            "{shown}"
        );
    }

    #[test]
    fn random_bytes_are_those_of_the_document() {
        let hexadecimal =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let bundle: [u8; 32] = std::array::from_fn(|index| index as u8);
        assert_eq!(documented("BundleId"), hexadecimal(&bundle));
        let seed = Seed {
            bundle,
            callable: documented("callable").parse().expect("a number"),
            seed: documented("seed").parse().expect("a number"),
            arguments: Bytes::from_static(&[3, 4]),
        };
        assert_eq!(documented("arguments"), hexadecimal(&seed.arguments));
        assert_eq!(documented("key"), hexadecimal(&seed.key()));

        // How WASI makes bytes of words, `tests/tests/hosts/abi.rs` asks a host.
        let mut words = seed.generator();
        let bytes = [0; 24].map(|_: u8| words.next_u32() as u8);
        assert_eq!(documented("random bytes"), hexadecimal(&bytes));
    }
}
