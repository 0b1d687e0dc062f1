//! Asks a module what its callables are, in a sandbox that gives it nothing.

use spore_abi::{Description, export};
use spore_value::{DecodeError, Limits, codec};
use wasmi::{
    Config, Engine, Error, ExternType, Instance, Linker, Memory, Module, Store, StoreLimits,
    StoreLimitsBuilder, TrapCode,
};

/// Most fuel that describing one callable may take: one unit for about one instruction, and some
/// for translating each function that is called.
///
/// Callables of a few types take up to 170,000 in `tests/abi.rs`, most of it for translation. All
/// of it takes one to two seconds.
const FUEL_MAX: u64 = 1_000_000_000;

/// Most memory that a module may have while it is asked, in bytes.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// Largest table of functions of a module that is asked, in elements.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// Deepest recursion while a module is asked, in calls.
const RECURSION_MAX: usize = 1_000;

/// Largest stack while a module is asked, in bytes.
const STACK_BYTES_MAX: usize = 1 << 20;

/// Longest description of a callable, in bytes.
const DESCRIPTION_BYTES_MAX: u32 = 1 << 20;

/// Why [`describe`] got no answer. The guest is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// The module cannot be read or instantiated.
    #[error("the sandbox refuses the module")]
    Module(#[source] Error),
    /// No export has the name of a description.
    #[error(
        "the module describes no callables: put `#[callable]` on a `pub fn` that the crate's \
         library has"
    )]
    NoCallables,
    /// A description called an import.
    #[error(
        "describing `{name}` called `{import}`; descriptions may call nothing outside the module \
         (a panic does, to print its message)"
    )]
    Import {
        /// The callable
        name: String,
        /// The import, as `module.name`
        import: String,
    },
    /// A description took too long.
    #[error("describing `{name}` took more than {FUEL_MAX} units of fuel")]
    Endless {
        /// The callable
        name: String,
    },
    /// A description ended in a trap.
    #[error("describing `{name}` failed")]
    Trap {
        /// The callable
        name: String,
        /// The trap
        #[source]
        source: Error,
    },
    /// A description lies outside the memory, or there is no memory.
    #[error("the description of `{name}` lies outside the module's memory")]
    OutOfBounds {
        /// The callable
        name: String,
    },
    /// A description is too long.
    #[error(
        "the description of `{name}` has {bytes} bytes, where {DESCRIPTION_BYTES_MAX} are allowed"
    )]
    TooLong {
        /// The callable
        name: String,
        /// Its length
        bytes: u32,
    },
    /// A description cannot be decoded.
    #[error("the description of `{name}` cannot be decoded")]
    Decode {
        /// The callable
        name: String,
        /// What is wrong with it
        #[source]
        source: DecodeError,
    },
    /// A description is of another callable than its export says.
    #[error("the description of `{name}` is of a callable named `{found}`")]
    OtherName {
        /// The callable, as the export has it
        name: String,
        /// The name described
        found: String,
    },
}

/// What a module says of its callables, in the order of their names.
///
/// Each description runs once, in an instance of its own whose imports all trap, with bounds on
/// instructions, memory and stack.
///
/// # Errors
/// When the module has no descriptions, or one of them cannot be had.
pub fn describe(code: &[u8]) -> Result<Vec<Description>, DescribeError> {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .compilation_mode(wasmi::CompilationMode::LazyTranslation)
        .set_max_recursion_depth(RECURSION_MAX)
        .set_max_stack_height(STACK_BYTES_MAX);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, code).map_err(DescribeError::Module)?;
    let mut names: Vec<_> = module
        .exports()
        .filter_map(|each| each.name().strip_prefix(export::DESCRIBE))
        .collect();
    if names.is_empty() {
        return Err(DescribeError::NoCallables);
    }
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| describe_one(&engine, &module, name))
        .collect()
}

fn describe_one(
    engine: &Engine,
    module: &Module,
    name: &str,
) -> Result<Description, DescribeError> {
    let limits = StoreLimitsBuilder::new()
        .memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .build();
    let mut store = Store::new(
        engine,
        Sandbox {
            limits,
            called: None,
        },
    );
    store.limiter(|sandbox| &mut sandbox.limits);
    store.set_fuel(FUEL_MAX).expect("the engine counts fuel");

    let linker = trapping_imports(engine, module).map_err(DescribeError::Module)?;
    let outcome = linker
        .instantiate_and_start(&mut store, module)
        .and_then(|instance| {
            let record = instance
                .get_typed_func::<(), u32>(&store, &format!("{}{name}", export::DESCRIBE))?
                .call(&mut store, ())?;
            Ok((instance, record))
        });
    let (instance, record) = match outcome {
        Ok(outcome) => outcome,
        Err(source) => return Err(why(name, source, store.data_mut())),
    };

    let bytes = description_bytes(&store, instance, name, record)?;
    let limits = Limits::default().with_bytes(u64::from(DESCRIPTION_BYTES_MAX));
    let description: Description =
        codec::decode_serde(bytes, &limits).map_err(|source| DescribeError::Decode {
            name: name.to_owned(),
            source,
        })?;
    if description.name != name {
        let found = description.name;
        return Err(DescribeError::OtherName {
            name: name.to_owned(),
            found,
        });
    }
    Ok(description)
}

/// What the store of one description holds.
struct Sandbox {
    limits: StoreLimits,
    /// The import that was called
    called: Option<String>,
}

/// Says `name` of what ended a description.
fn why(name: &str, source: Error, sandbox: &mut Sandbox) -> DescribeError {
    let name = name.to_owned();
    match (sandbox.called.take(), source.as_trap_code()) {
        (Some(import), _) => DescribeError::Import { name, import },
        (None, Some(TrapCode::OutOfFuel)) => DescribeError::Endless { name },
        (None, _) => DescribeError::Trap { name, source },
    }
}

/// Defines every function that the module imports as one that ends the instance.
fn trapping_imports(engine: &Engine, module: &Module) -> Result<Linker<Sandbox>, Error> {
    let mut linker = Linker::<Sandbox>::new(engine);
    // The same function may be imported twice.
    linker.allow_shadowing(true);
    for import in module.imports() {
        // Imports of other kinds stay undefined, and instantiating says so.
        if let ExternType::Func(ty) = import.ty() {
            let called = format!("{}.{}", import.module(), import.name());
            linker.func_new(
                import.module(),
                import.name(),
                ty.clone(),
                move |mut caller, _, _| {
                    caller.data_mut().called = Some(called.clone());
                    Err(Error::new(format!("`{called}` is not there")))
                },
            )?;
        }
    }
    Ok(linker)
}

/// The bytes that the record at `record` names.
fn description_bytes<'s>(
    store: &'s Store<Sandbox>,
    instance: Instance,
    name: &str,
    record: u32,
) -> Result<&'s [u8], DescribeError> {
    let outside = || DescribeError::OutOfBounds {
        name: name.to_owned(),
    };
    let memory: Memory = instance
        .get_memory(store, export::MEMORY)
        .ok_or_else(outside)?;
    let memory = memory.data(store);
    let record = slice(memory, record, 8).ok_or_else(outside)?;
    let (ptr, len) = record.split_at(4);
    let number = |bytes: &[u8]| {
        bytes
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| outside())
    };
    let (ptr, len) = (number(ptr)?, number(len)?);
    if len > DESCRIPTION_BYTES_MAX {
        return Err(DescribeError::TooLong {
            name: name.to_owned(),
            bytes: len,
        });
    }
    slice(memory, ptr, len).ok_or_else(outside)
}

/// `len` bytes of `memory` from `ptr`, if it has them.
fn slice(memory: &[u8], ptr: u32, len: u32) -> Option<&[u8]> {
    let end = ptr.checked_add(len)?;
    memory.get(ptr as usize..end as usize)
}
