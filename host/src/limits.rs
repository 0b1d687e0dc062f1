//! Every limit of a host, with its default.

use std::ops::RangeInclusive;
use std::time::Duration;

use spore_bundle::limits::{CODE_BYTES_MAX_DEFAULT, STATE_BYTES_MAX_DEFAULT};
use spore_bundle::module::{BODY_BYTES_MAX_DEFAULT, FUNCTIONS_MAX_DEFAULT};
use spore_transport::authorized_keys::MEMORY_BYTES_MIN;
use spore_transport::message::CallLimits;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What the memory of one guest may be limited to, in bytes: all that 32 bits address at the most.
pub const MEMORY_BYTES: RangeInclusive<u64> = MEMORY_BYTES_MIN..=4 * GIB;

/// What a host allows. Past each limit there is a typed refusal that carries it.
///
/// The configuration sets each by its name here; a caller may lower the first four for one call,
/// and a line of `authorized_keys` lowers some of them for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of a guest, from its first instruction to its last. Default 60 s.
    pub wall: Duration,
    /// Memory of one guest, in bytes. Default 256 MiB.
    pub memory: u64,
    /// Encoded result of one call, in bytes. Default 64 MiB.
    pub result: u64,
    /// Output of one call, both streams together, in bytes; more is cut. Default 1 MiB.
    pub output: u64,
    /// Encoded arguments of one call, in bytes. Default 64 MiB.
    pub arguments: u64,
    /// Arguments of all calls that one key has open, in bytes; more wait. Default 512 MiB.
    pub arguments_per_key: u64,
    /// Code of one bundle, in bytes. Default 64 MiB.
    pub code: u64,
    /// State of one bundle, uncompressed, in bytes: also of what is saved. Default 264 MiB, which is
    /// room for an image of a guest that has changed all of 256 MiB.
    pub state: u64,
    /// Functions of one module. Default 100,000.
    pub functions: u32,
    /// Body of one function, in bytes. Default 4 MiB.
    pub function_body: u32,
    /// Elements of one table. Default 100,000.
    pub table_elements: u32,
    /// Files and directories that one guest may have open, those that were granted not counted.
    /// Default 64.
    pub open_files: u32,
    /// Stack of a guest, in bytes, the same on every architecture. Default 1 MiB.
    pub stack: u64,
    /// Calls that wait for a worker, of all keys. Default 1,024.
    pub queue: u32,
    /// Calls that one key may have queued or running. Default 512.
    pub queue_per_key: u32,
    /// Instances alive at one time, of all keys. Default 256.
    pub instances: u32,
    /// Instances alive at one time of one key. Default 128.
    pub instances_per_key: u32,
    /// Memory of all guests together, in bytes. Default 8 GiB.
    pub memory_total: u64,
    /// Memory of all guests of one key together, in bytes. Default 4 GiB.
    pub memory_per_key: u64,
    /// Sessions of one key at one time. Default 1,024.
    pub sessions_per_key: u32,
    /// Time without a call after which a session is closed. Default 24 h.
    pub session_idle: Duration,
    /// Images of all sessions and jobs of one key, in bytes of changed memory. Default 1 GiB.
    pub session_images_per_key: u64,
    /// Large captures that are decoded once for all calls, in bytes of memory; 0 has each call decode its
    /// own. Default 384 MiB.
    pub prepared: u64,
    /// Jobs of one key, those that have ended and are not acknowledged among them. Default 256.
    pub jobs_per_key: u32,
    /// Images of sessions and jobs on the disk, in bytes. Default 8 GiB.
    pub kept: u64,
    /// Compiled code kept in memory while nobody uses it, with its Wasm, in bytes. Default 512 MiB.
    pub code_cache: u64,
    /// Bundles kept in memory while nobody uses them, without their code, in bytes. Default 512 MiB.
    pub blob_cache: u64,
    /// Blobs stored on disk, in bytes. Default 8 GiB.
    pub store: u64,
    /// Uploads held in memory at one time, of all keys, in bytes; one key gets a half at most.
    /// Default 1 GiB.
    pub uploads: u64,
    /// Connections of authorised keys at one time. Default 1,024.
    pub connections: u32,
    /// Connections of one key at one time. What a peer may have on its way is bounded for each.
    /// Default 16.
    pub connections_per_key: u32,
    /// Handshakes under way at one time, with peers of which it is not known yet whether they are
    /// authorised. Addresses that are not proved get a quarter at most. Default 256.
    pub handshakes: u32,
    /// The same from one address; of IPv6, from one network of 64 bits. Default 16.
    pub handshakes_per_address: u32,
    /// Requests that one key may have open, queued and running calls among them. Default 2,048.
    pub requests_per_key: u32,
    /// Time an upload may stand still. Default 10 s.
    pub upload_stall: Duration,
    /// Time that compiling one module may take, and wait before it begins. Default 60 s.
    pub compilation: Duration,
    /// Time that a reader may take no event of a call before the call is given up. Default 60 s.
    pub reader_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            wall: Duration::from_secs(60),
            memory: 256 * MIB,
            result: 64 * MIB,
            output: MIB,
            arguments: 64 * MIB,
            arguments_per_key: 512 * MIB,
            code: CODE_BYTES_MAX_DEFAULT,
            state: STATE_BYTES_MAX_DEFAULT,
            functions: FUNCTIONS_MAX_DEFAULT,
            function_body: BODY_BYTES_MAX_DEFAULT,
            table_elements: 100_000,
            open_files: 64,
            stack: MIB,
            queue: 1024,
            queue_per_key: 512,
            instances: 256,
            instances_per_key: 128,
            memory_total: 8 * GIB,
            memory_per_key: 4 * GIB,
            sessions_per_key: 1024,
            session_idle: Duration::from_secs(24 * 60 * 60),
            session_images_per_key: GIB,
            prepared: 384 * MIB,
            jobs_per_key: 256,
            kept: 8 * GIB,
            code_cache: 512 * MIB,
            blob_cache: 512 * MIB,
            store: 8 * GIB,
            uploads: GIB,
            connections: 1024,
            connections_per_key: 16,
            handshakes: 256,
            handshakes_per_address: 16,
            requests_per_key: 2048,
            upload_stall: Duration::from_secs(10),
            compilation: Duration::from_secs(60),
            reader_stall: Duration::from_secs(60),
        }
    }
}

/// What one call may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunLimits {
    pub(crate) wall: Duration,
    pub(crate) memory: u64,
    pub(crate) result: u64,
    pub(crate) output: u64,
    pub(crate) table_elements: u32,
}

impl Limits {
    /// Bundles that calls hold at one time, of all keys, in bytes: as many as are kept while nobody
    /// uses them, and as many as may come in at one time.
    pub(crate) fn bundles_in_use(&self) -> u64 {
        self.blob_cache.saturating_add(self.uploads)
    }

    /// What a call may use, when its caller asks for no more than `asked`.
    pub(crate) fn for_call(&self, asked: &CallLimits) -> RunLimits {
        let lower = |own: u64, asked: Option<u64>| asked.map_or(own, |asked| own.min(asked));
        RunLimits {
            wall: asked
                .wall_ms
                .map_or(self.wall, |ms| self.wall.min(Duration::from_millis(ms))),
            memory: lower(self.memory, asked.memory_bytes),
            result: lower(self.result, asked.result_bytes),
            output: lower(self.output, asked.output_bytes),
            table_elements: self.table_elements,
        }
    }

    /// These limits for a key whose line in `authorized_keys` lowers some.
    pub(crate) fn for_key(&self, options: &spore_transport::KeyOptions) -> Limits {
        let mut limits = self.clone();
        if let Some(wall) = options.wall {
            limits.wall = limits.wall.min(wall);
        }
        if let Some(memory) = options.memory_bytes {
            limits.memory = limits.memory.min(memory);
        }
        if let Some(stored) = options.stored_bytes {
            limits.store = limits.store.min(stored);
        }
        if let Some(running) = options.running {
            limits.instances_per_key = limits.instances_per_key.min(running);
        }
        if let Some(queued) = options.queued {
            limits.queue_per_key = limits.queue_per_key.min(queued);
        }
        limits
    }

    /// Every limit by name, durations in milliseconds, for a status report.
    pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("wall_ms", millis(self.wall)),
            ("memory_bytes", self.memory),
            ("result_bytes", self.result),
            ("output_bytes", self.output),
            ("arguments_bytes", self.arguments),
            ("arguments_per_key_bytes", self.arguments_per_key),
            ("code_bytes", self.code),
            ("state_bytes", self.state),
            ("functions", u64::from(self.functions)),
            ("function_body_bytes", u64::from(self.function_body)),
            ("table_elements", u64::from(self.table_elements)),
            ("open_files", u64::from(self.open_files)),
            ("stack_bytes", self.stack),
            ("queue", u64::from(self.queue)),
            ("queue_per_key", u64::from(self.queue_per_key)),
            ("instances", u64::from(self.instances)),
            ("instances_per_key", u64::from(self.instances_per_key)),
            ("memory_total_bytes", self.memory_total),
            ("memory_per_key_bytes", self.memory_per_key),
            ("sessions_per_key", u64::from(self.sessions_per_key)),
            ("session_idle_ms", millis(self.session_idle)),
            ("session_images_per_key_bytes", self.session_images_per_key),
            ("prepared_bytes", self.prepared),
            ("jobs_per_key", u64::from(self.jobs_per_key)),
            ("kept_bytes", self.kept),
            ("code_cache_bytes", self.code_cache),
            ("blob_cache_bytes", self.blob_cache),
            ("store_bytes", self.store),
            ("uploads_bytes", self.uploads),
            ("connections", u64::from(self.connections)),
            ("connections_per_key", u64::from(self.connections_per_key)),
            ("handshakes", u64::from(self.handshakes)),
            (
                "handshakes_per_address",
                u64::from(self.handshakes_per_address),
            ),
            ("requests_per_key", u64::from(self.requests_per_key)),
            ("upload_stall_ms", millis(self.upload_stall)),
            ("compilation_ms", millis(self.compilation)),
            ("reader_stall_ms", millis(self.reader_stall)),
        ]
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What users are promised of a host that is told nothing else.
    #[test]
    fn the_defaults_are_the_promised_ones() {
        let limits = Limits::default();
        assert_eq!(limits.wall, Duration::from_secs(60));
        assert_eq!(limits.memory, 256 << 20);
        assert_eq!(limits.result, 64 << 20);
        assert_eq!(limits.output, 1 << 20);
        assert_eq!(limits.code, 64 << 20);
        assert_eq!(limits.state, 264 << 20);
        assert_eq!(limits.stack, 1 << 20);
        assert_eq!(limits.queue, 1024);
    }

    /// The rows of PROTOCOL's table of limits that are a host's to configure.
    #[test]
    fn the_limits_of_connections_are_those_of_the_protocol() {
        let document = include_str!("../../docs/PROTOCOL.md");
        let Limits {
            connections_per_key,
            handshakes,
            handshakes_per_address,
            ..
        } = Limits::default();
        for row in [
            format!("| connections of a key | {connections_per_key} |"),
            format!(
                "| handshakes under way, until the key is known to be authorised | {handshakes}, \
                 {handshakes_per_address} from one address |"
            ),
            "| the same from unproved addresses | a quarter of each |".to_owned(),
        ] {
            assert!(document.contains(&row), "{row}");
        }
    }

    #[test]
    fn a_caller_lowers_and_never_raises() {
        let limits = Limits::default();
        let asked = CallLimits {
            wall_ms: Some(10),
            memory_bytes: Some(u64::MAX),
            result_bytes: None,
            output_bytes: Some(0),
        };
        let run = limits.for_call(&asked);
        assert_eq!(run.wall, Duration::from_millis(10));
        assert_eq!(run.memory, limits.memory);
        assert_eq!(run.result, limits.result);
        assert_eq!(run.output, 0);
    }
}
