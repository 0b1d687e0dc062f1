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

/// A page of Wasm memory, in bytes.
const PAGE_BYTES: u64 = 64 << 10;

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

/// The part of the address space that guests' memories may reserve: one in so many.
///
/// Leaves the rest to the program, and to emulators, which keep a record of each reserved page.
const ADDRESS_SPACE_PART: u64 = 32;

/// Bits of an address where the system does not tell: those of x86-64.
const ADDRESS_BITS_DEFAULT: u32 = 47;

/// How an engine came to be, for the log and for `status`.
pub(crate) struct Built {
    pub(crate) engine: Engine,
    /// Address space that each memory takes, in bytes.
    pub(crate) reservation: u64,
    /// Instances that there is room for: the limit, or less where addresses are short.
    pub(crate) instances: u32,
}

/// Builds the engine with as much address space as the machine gives.
///
/// # Errors
///
/// When wasmtime does not take the configuration, or finds no room.
pub(crate) fn build(limits: &Limits) -> wasmtime::Result<Built> {
    let (reservation, guard, instances) = plan(limits, address_bits());
    let limits = Limits {
        instances,
        ..limits.clone()
    };
    let engine = Engine::new(&config(&limits, reservation, guard))?;
    Ok(Built {
        engine,
        reservation,
        instances,
    })
}

/// What fits into addresses of so many bits: reservation and guard of each memory, and how many.
///
/// Machines with 39 bits of addresses, and emulators, have no room for a full reservation a guest:
/// there a memory takes what it may grow to, its accesses are checked, and there are fewer.
fn plan(limits: &Limits, bits: u32) -> (u64, u64, u32) {
    let space = (1u64 << bits.min(63)) / ADDRESS_SPACE_PART;
    let wanted = u64::from(limits.instances);
    let full = (RESERVATION_BYTES + GUARD_BYTES).saturating_mul(wanted);
    if limits.memory <= RESERVATION_BYTES && full <= space {
        return (RESERVATION_BYTES, GUARD_BYTES, limits.instances);
    }
    let reservation = limits.memory.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
    let room = space / (reservation + PAGE_BYTES);
    let instances = u32::try_from(room.clamp(1, wanted)).unwrap_or(limits.instances);
    (reservation, PAGE_BYTES, instances)
}

/// Bits of the highest address in use by this program. The stack lies near the end of its space.
fn address_bits() -> u32 {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return ADDRESS_BITS_DEFAULT;
    };
    let highest = maps
        .lines()
        // On x86-64 a page of the kernel shows up at the very end.
        .filter(|line| !line.contains("[vsyscall]"))
        .filter_map(|line| u64::from_str_radix(line.split_once('-')?.0, 16).ok())
        .max();
    highest.map_or(ADDRESS_BITS_DEFAULT, |highest| {
        u64::BITS - highest.leading_zeros()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_space_gives_full_reservations_and_a_small_one_fewer_checked_ones() {
        let limits = Limits::default();
        let large = (RESERVATION_BYTES, GUARD_BYTES, limits.instances);
        assert_eq!(plan(&limits, 47), large);
        let (reservation, guard, instances) = plan(&limits, 39);
        assert_eq!(reservation, limits.memory);
        assert!((1..limits.instances).contains(&instances));
        assert!((reservation + guard) * u64::from(instances) <= (1 << 39) / ADDRESS_SPACE_PART);
    }

    #[test]
    fn the_features_are_those_of_the_document() {
        let document = include_str!("../../docs/ABI.md");
        let head = "\n| feature | what it is |\n";
        let (_, rows) = document.split_once(head).expect("the table exists");
        let rows = rows.lines().skip(1).take_while(|row| row.starts_with('|'));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let named: WasmFeatures = cells
            .flat_map(|cell| cell.trim().split(", "))
            .map(|name| {
                let name = name.trim_matches('`').replace('-', "_").to_uppercase();
                WasmFeatures::from_name(&name).unwrap_or_else(|| panic!("no feature {name}"))
            })
            .collect();
        assert_eq!(named, features());
    }

    #[test]
    fn this_machine_has_addresses() {
        assert!((32..=57).contains(&address_bits()), "{}", address_bits());
    }
}
