//! wasmtime, set up so that the same bundle gives the same bytes on every machine.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails, WasmFeatures,
};

use crate::limits::Limits;

/// Stack for host functions beneath a guest's own, in bytes: WASI's futures run there.
const HOST_STACK_BYTES: usize = 1 << 20;

/// Address space of one guest memory on a machine with room: with all 32 bits of addresses and a
/// guard, loads and stores need no checks.
const RESERVATION_BYTES: u64 = 4 << 30;
const GUARD_BYTES: u64 = 32 << 20;

/// Memory of an ended instance that stays mapped for the next one instead of going back to the
/// system, in bytes. Zeroing this much costs less than unmapping it.
const KEEP_RESIDENT_BYTES: usize = 128 << 10;

/// What a guest may use of Wasm: what is standard, deterministic, and supported on every
/// architecture. Everything else is refused when the module is compiled.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::CALL_INDIRECT_OVERLONG
}

/// How an engine came to be, for the log and for `status`.
pub(crate) struct Built {
    pub(crate) engine: Engine,
    /// Address space that each memory slot takes, in bytes.
    pub(crate) reservation: u64,
}

/// Builds the engine with as much address space as the machine gives.
///
/// # Errors
///
/// When even the smallest reservation fails.
pub(crate) fn build(limits: &Limits) -> wasmtime::Result<Built> {
    let small = (limits.memory.next_multiple_of(64 << 10)).max(64 << 10);
    let mut last = None;
    // Machines with 39 bits of addresses, and emulators, have no room for a full reservation a
    // guest: those check addresses instead.
    for (reservation, guard) in [(RESERVATION_BYTES, GUARD_BYTES), (small, 64 << 10)] {
        match Engine::new(&config(limits, reservation.max(small), guard)) {
            Ok(engine) => {
                return Ok(Built {
                    engine,
                    reservation,
                });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("the loop ran"))
}

fn config(limits: &Limits, reservation: u64, guard: u64) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    pool.total_core_instances(limits.instances)
        .total_memories(limits.instances)
        .total_tables(limits.instances)
        .total_stacks(limits.instances)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(memory)
        .table_elements(usize::try_from(limits.table_elements).unwrap_or(usize::MAX))
        .max_core_instance_size(1 << 20)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);

    let mut config = Config::new();
    let stack = usize::try_from(limits.stack).unwrap_or(usize::MAX / 2);
    config
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(features(), true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK_BYTES)
        .memory_reservation(reservation)
        .memory_guard_size(guard)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .parallel_compilation(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
