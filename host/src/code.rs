//! Compiled code, and bundles that are ready to run. `compiler.rs` makes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use spore_abi::export;
use spore_bundle::image::Bound;
use spore_bundle::module::{self, Interior, Misfit, RewriteError};
use spore_bundle::{AbiError, Bundle, CodeId, Image, ModuleError};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use wasmtime::{InstancePre, Linker, Module, ModuleExport};

use crate::guest::Guest;
use crate::room::{Held, Total};
use crate::scheduler::lock;
use crate::snapshot::Fresh;

/// A page of a guest's memory, in bytes.
pub(crate) const PAGE_BYTES: u64 = 64 << 10;

/// Memory of a decoded manifest for each byte of the encoded one, in bytes. The most is that of a
/// type: one byte names it, and it may lie in a box of its own, to which the allocator adds a word.
pub(crate) const DECODED_PER_BYTE: u64 = 32;

/// Captures below this size are decoded in each call, which takes less than they would of memory.
const PREPARED_BYTES_MIN: u64 = 1 << 20;

/// Calls with captures after which these are decoded once for all.
const PREPARED_AFTER: u32 = 4;

/// Code of one module, compiled and linked.
pub(crate) struct Code {
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Exports,
    /// The mutable globals that hold numbers.
    pub(crate) globals: Vec<MutableGlobal>,
    /// What state the code has, and whether an image can hold it.
    pub(crate) interior: Interior,
    /// What an instance is in which nothing has run, once one has been seen.
    pub(crate) fresh: OnceLock<Fresh>,
    /// The code as it is after an initialiser, by the initialiser's name, while it is kept.
    pub(crate) initialised: Mutex<HashMap<String, Initialised>>,
    /// What an initialiser has left, when that is what the code begins with: for instances of which
    /// images are taken, and which are of the code as it was.
    initial: OnceLock<(Image, Held)>,
    /// Of the Wasm that was compiled: a bundle's code, or that with an image put in.
    pub(crate) id: CodeId,
    /// Memory of the machine code, of the Wasm that it was made of, and of what instances begin with,
    /// in bytes.
    bytes: u64,
    /// The Wasm, for other bundles that have the same; see [`Ready::share_code`].
    wasm: OnceLock<Bytes>,
    /// Whether the cache of code has it. Bundles that nobody uses are kept only as long.
    kept: AtomicBool,
    /// Counts the code once for all bundles that are there with it.
    held: Mutex<Weak<Held>>,
}

/// Code after one initialiser, while it is kept. Held while that runs: whoever wants the same waits,
/// and nobody else, for a manifest may name a function as initialiser that never ends.
pub(crate) type Initialised = Arc<tokio::sync::Mutex<Weak<Code>>>;

impl Code {
    /// Links a module. `bytes` is what it takes of memory.
    pub(crate) fn new(
        linker: &Linker<Guest>,
        module: &Module,
        interior: Interior,
        id: CodeId,
        bytes: u64,
    ) -> Result<Code, Refused> {
        let pre = linker
            .instantiate_pre(module)
            .map_err(|error| invalid(&error))?;
        let find = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no export {name}")))
        };
        let exports = Exports {
            memory: find(export::MEMORY)?,
            start: module.get_export_index(module::PRIVATE_START),
            initialize: module.get_export_index(export::INITIALIZE),
            alloc: find(export::ALLOC)?,
            poll: find(export::POLL)?,
            drop: find(export::DROP)?,
            unbind: find(export::UNBIND)?,
        };
        let globals = interior.mutable_globals().map(|(index, _)| {
            let export = find(&format!("{}{index}", module::PRIVATE_GLOBAL))?;
            Ok(MutableGlobal { index, export })
        });
        Ok(Code {
            pre,
            exports,
            globals: globals.collect::<Result<_, Refused>>()?,
            interior,
            fresh: OnceLock::new(),
            initialised: Mutex::default(),
            initial: OnceLock::new(),
            id,
            bytes,
            wasm: OnceLock::new(),
            kept: AtomicBool::new(true),
            held: Mutex::default(),
        })
    }

    /// Notes what an initialiser has left, with which the code begins.
    pub(crate) fn set_initial(&self, image: Image, room: Held) {
        self.initial.get_or_init(|| (image, room));
    }

    /// The Wasm, if a bundle shares it.
    pub(crate) fn shared_wasm(&self) -> Option<Bytes> {
        self.wasm.get().cloned()
    }

    /// The cache does not have it any more.
    pub(crate) fn let_go(&self) {
        self.kept.store(false, Ordering::Release);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// What an initialiser has left, when that is what the code begins with.
    pub(crate) fn initial(&self) -> Option<&Image> {
        self.initial.get().map(|(image, _)| image)
    }

    /// A function that the manifest names, which takes and gives nothing.
    pub(crate) fn hook(&self, name: &str) -> Result<ModuleExport, Refused> {
        // Its type was checked with the interface.
        let found = self.pre.module().get_export_index(name);
        found.ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no function {name}")))
    }

    fn hold(&self, total: &Arc<Total>) -> Arc<Held> {
        let mut held = lock(&self.held);
        held.upgrade().unwrap_or_else(|| {
            let new = Arc::new(total.hold(self.bytes));
            *held = Arc::downgrade(&new);
            new
        })
    }
}

/// A global that the host has exported for itself.
pub(crate) struct MutableGlobal {
    /// Among all globals of the code.
    pub(crate) index: u32,
    pub(crate) export: ModuleExport,
}

/// Where the exports are that all callables share.
pub(crate) struct Exports {
    pub(crate) memory: ModuleExport,
    /// The start function, which the host runs itself.
    pub(crate) start: Option<ModuleExport>,
    pub(crate) initialize: Option<ModuleExport>,
    pub(crate) alloc: ModuleExport,
    pub(crate) poll: ModuleExport,
    pub(crate) drop: ModuleExport,
    pub(crate) unbind: ModuleExport,
}

/// Where the exports of one callable are.
pub(crate) struct Entry {
    pub(crate) bind: ModuleExport,
    pub(crate) start: ModuleExport,
    /// Whether its tasks may yield and wait.
    pub(crate) resumable: bool,
    /// Whether its tasks emit items.
    pub(crate) streams: bool,
}

/// A bundle and its compiled code.
pub(crate) struct Ready {
    pub(crate) bundle: Bundle,
    pub(crate) code: Arc<Code>,
    /// In the order of the manifest's callables.
    pub(crate) entries: Vec<Entry>,
    /// What an instance runs before captures are bound, besides what all code runs.
    pub(crate) hook: Option<Hook>,
    /// Its captures as they were decoded once for all calls of the callable that has them.
    prepared: OnceLock<Prepared>,
    /// Calls that have used the bundle's captures since they were last to be decoded once.
    uses: AtomicU32,
    /// Whether that cannot be done.
    never_prepared: AtomicBool,
    own: Held,
    _code: Arc<Held>,
}

/// Code that begins with the captures of a bundle bound.
struct Prepared {
    code: Arc<Code>,
    entry: Entry,
    bound: Bound,
    /// What they take of what a host may have of them.
    _room: PreparedRoom,
}

/// The room for captures that are decoded once.
pub(crate) struct PreparedRoom {
    _held: Held,
    /// How many there are.
    count: Arc<AtomicU64>,
}

impl PreparedRoom {
    /// Counts one more.
    pub(crate) fn new(held: Held, count: &Arc<AtomicU64>) -> PreparedRoom {
        count.fetch_add(1, Ordering::Relaxed);
        PreparedRoom {
            _held: held,
            count: count.clone(),
        }
    }
}

impl Drop for PreparedRoom {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a call of a callable runs in, and how it begins there.
pub(crate) struct Way<'a> {
    pub(crate) code: &'a Code,
    pub(crate) entry: &'a Entry,
    pub(crate) hook: Option<&'a Hook>,
    /// The handle of captures that are bound already.
    pub(crate) bound: Option<u32>,
}

/// A function of the guest's that takes and gives nothing.
pub(crate) enum Hook {
    /// The initialiser of this code, which has no images, so that each instance runs it.
    Init(ModuleExport, CodeId),
    /// What an instance that begins with an image runs.
    Restored(ModuleExport),
}

impl Ready {
    /// Counts in `total` what the bundle takes, and what its code does.
    pub(crate) fn new(
        bundle: Bundle,
        code: Arc<Code>,
        hook: Option<Hook>,
        total: &Arc<Total>,
    ) -> Result<Ready, Refused> {
        // The module may be known from another bundle, whose manifest names other callables.
        let entries = entries(code.pre.module(), &bundle)?;
        let wasm = code.wasm.get();
        let shared = match wasm.is_some_and(|wasm| wasm.as_ptr() == bundle.code().as_ptr()) {
            true => bundle.code().len() as u64,
            false => 0,
        };
        Ok(Ready {
            own: total.hold(bytes(&bundle) - shared),
            _code: code.hold(total),
            bundle,
            code,
            entries,
            hook,
            prepared: OnceLock::new(),
            uses: AtomicU32::new(0),
            never_prepared: AtomicBool::new(false),
        })
    }

    /// Has calls begin with the captures bound, as this code does.
    ///
    /// # Errors
    ///
    /// When the code is none of the bundle's.
    pub(crate) fn prepare(
        &self,
        code: Arc<Code>,
        bound: Bound,
        room: PreparedRoom,
    ) -> Result<(), Refused> {
        let entries = entries(code.pre.module(), &self.bundle)?;
        let Some(entry) = entries.into_iter().nth(bound.callable as usize) else {
            return Ok(());
        };
        self.prepared.get_or_init(|| Prepared {
            code,
            entry,
            bound,
            _room: room,
        });
        Ok(())
    }

    /// Whether its captures were decoded once for all calls.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.get().is_some()
    }

    /// What a call of this callable runs in.
    pub(crate) fn way(&self, callable: u32) -> Way<'_> {
        let prepared = self.prepared.get();
        match prepared.filter(|prepared| prepared.bound.callable == callable) {
            Some(prepared) => Way {
                code: &prepared.code,
                entry: &prepared.entry,
                hook: None,
                bound: Some(prepared.bound.handle),
            },
            None => Way {
                code: &self.code,
                entry: &self.entries[callable as usize],
                hook: self.hook.as_ref(),
                bound: self.bound(callable),
            },
        }
    }

    /// Counts a use of the bundle's captures. Says whether it is one after which they are to be decoded
    /// once for all.
    pub(crate) fn is_worth_preparing(&self) -> bool {
        let captures = self.bundle.captures();
        let bytes = captures.map_or(0, |(_, captures)| captures.len() as u64);
        if self.is_prepared() || bytes < PREPARED_BYTES_MIN {
            return false;
        }
        // It is one of them alone, however many there are at one time.
        let uses = self.uses.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        uses.is_multiple_of(PREPARED_AFTER)
            && !self.never_prepared.load(Ordering::Relaxed)
            && self.code.interior.check_imageable().is_ok()
    }

    /// Notes that the captures cannot be decoded once for all.
    pub(crate) fn never_prepare(&self) {
        self.never_prepared.store(true, Ordering::Relaxed);
    }

    /// Lets bundles that have the same code use the memory that this one has it in: those which come
    /// later need not read it again, and it counts once.
    pub(crate) fn share_code(&self) {
        // Code that begins with an image is none that a bundle names.
        if self.code.id == self.bundle.code_id() {
            self.code.wasm.get_or_init(|| self.bundle.code().clone());
        }
    }

    /// The handle of the callable's captures, when the code begins with an image that has them
    /// bound.
    pub(crate) fn bound(&self, callable: u32) -> Option<u32> {
        let bound = &self.bundle.image()?.index().bound;
        let found = bound.iter().find(|bound| bound.callable == callable)?;
        Some(found.handle)
    }

    /// Memory that the bundle takes beside what it shares with others.
    pub(crate) fn bytes(&self) -> u64 {
        self.own.bytes
    }
}

/// Memory that a bundle takes.
pub(crate) fn bytes(bundle: &Bundle) -> u64 {
    let state = bundle.state().map_or(0, |state| state.len());
    let parts = (bundle.code().len() + state) as u64;
    let manifest = bundle.manifest_bytes().len() as u64 * DECODED_PER_BYTE;
    parts + manifest + bundle.image().map_or(0, Image::changed_bytes)
}

/// The exports of each callable, which must be functions of the ABI's types.
fn entries(module: &Module, bundle: &Bundle) -> Result<Vec<Entry>, Refused> {
    let find = |prefix: &str, callable: &str, parameters: usize| {
        let name = format!("{prefix}{callable}");
        let fits = module.get_export(&name).is_some_and(|ty| {
            ty.func().is_some_and(|ty| {
                (ty.params().len(), ty.results().len()) == (parameters, 1)
                    && ty.params().chain(ty.results()).all(|ty| ty.is_i32())
            })
        });
        let index = module.get_export_index(&name).filter(|_| fits);
        index.ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no function {name}")))
    };
    let callables = bundle.manifest().callables.iter();
    callables
        .map(|callable| {
            Ok(Entry {
                bind: find(export::BIND, &callable.name, 2)?,
                start: find(export::START, &callable.name, 3)?,
                resumable: callable.resumable,
                streams: callable.streams,
            })
        })
        .collect()
}

/// Refuses an image with more memory than one guest may have.
pub(crate) fn check_image_memory(image: &Image, limit: u64) -> Result<(), Refused> {
    let bytes = u64::from(image.index().memory_pages) * PAGE_BYTES;
    if bytes > limit {
        let refused = Refused::new(RefusalCode::Memory, "memory of one guest, bytes");
        return Err(refused.past(limit, bytes));
    }
    Ok(())
}

pub(crate) fn invalid(error: &wasmtime::Error) -> Refused {
    Refused::new(RefusalCode::InvalidModule, format!("{error:#}"))
}

pub(crate) fn refuse_abi(error: AbiError) -> Refused {
    Refused::new(RefusalCode::AbiViolated, error.to_string())
}

/// Why code was not rewritten, as a refusal.
pub(crate) fn refuse_rewrite(error: RewriteError) -> Refused {
    match error {
        RewriteError::Module(error) => refuse_module(error),
        RewriteError::Misfit(misfit) => refuse_misfit(&misfit),
        RewriteError::Fragmented { pieces, limit } => {
            let refused = Refused::new(RefusalCode::ImageMisfit, "pieces of changed memory");
            refused.past(limit as u64, pieces as u64)
        }
        error => Refused::new(RefusalCode::InvalidModule, chain(&error)),
    }
}

/// Why an image is none of the code's, as a refusal.
pub(crate) fn refuse_misfit(misfit: &Misfit) -> Refused {
    let code = match misfit {
        Misfit::Obstacle(_) => RefusalCode::NoImage,
        _ => RefusalCode::ImageMisfit,
    };
    Refused::new(code, misfit.to_string())
}

pub(crate) fn refuse_module(error: ModuleError) -> Refused {
    let message = chain(&error);
    match error {
        ModuleError::TooMany {
            what: "functions",
            count,
            limit,
        } => Refused::new(RefusalCode::TooManyFunctions, "").past(u64::from(limit), count),
        ModuleError::BodyTooLarge {
            index,
            bytes,
            limit,
        } => Refused::new(RefusalCode::FunctionTooLarge, format!("function {index}"))
            .past(u64::from(limit), bytes),
        _ => Refused::new(RefusalCode::InvalidModule, message),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use spore_bundle::{Callable, Grant};
    use spore_value::{Definition, Field, Parameter, Type, Variant};

    use super::DECODED_PER_BYTE;

    /// What the allocator takes for a text of a few bytes.
    const TEXT_BYTES: usize = 32;

    #[test]
    fn what_is_charged_for_a_manifest_is_no_less_than_it_takes() {
        // Each with the fewest bytes that it is encoded as: a name has a length and a letter.
        for (what, memory, encoded) in [
            ("type in a box", size_of::<Type>() + size_of::<usize>(), 1),
            ("grant", size_of::<Grant>(), 1),
            ("parameter", size_of::<Parameter>() + TEXT_BYTES, 3),
            ("field", size_of::<Field>() + TEXT_BYTES, 4),
            ("variant", size_of::<Variant>() + TEXT_BYTES, 4),
            ("definition", size_of::<Definition>() + TEXT_BYTES, 5),
            ("callable", size_of::<Callable>() + TEXT_BYTES, 13),
        ] {
            let charged = encoded * DECODED_PER_BYTE as usize;
            assert!(
                memory <= charged,
                "{what}: {memory} bytes, {charged} charged"
            );
        }
    }
}
