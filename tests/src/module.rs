//! Modules that no compiler makes, and bundles that no `spore build` packs.

use std::convert::Infallible;

use bytes::Bytes;
use spore_abi::{ABI_VERSION, Description};
use spore_bundle::manifest::Code;
use spore_bundle::{Bundle, Callable, CodeId, CodeKind, Manifest};
use spore_client::{Handle, NoCaptures};
use spore_value::{Parameter, Signature, Type};

/// The callable of a [`Raw`] guest, for a program that knows its types.
pub const RUN: Handle<NoCaptures, (Vec<u8>,), Vec<u8>, Infallible> = Handle::new("raw::run", run);

/// A guest of `raw::run`, which takes bytes, captures nothing and returns bytes. By itself it
/// returns the single byte 0: an empty list.
///
/// Each field is the text of a part in the text format of Wasm, to be replaced by a worse one.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The memory, or its lack
    pub memory: String,
    /// Imports
    pub imports: String,
    /// Anything else: globals, tables, functions, a start
    pub more: String,
    /// The body of `spore1:alloc`, given size 0 and alignment 1
    pub alloc: String,
    /// The body of `spore1:bind`, given address 0 and length 1
    pub bind: String,
    /// The body of `spore1:start`, given handle 0, address 1 and length 2
    pub start: String,
    /// The body of `spore1:poll`, given task 0
    pub poll: String,
}

impl Default for Raw {
    fn default() -> Self {
        Raw {
            memory: r#"(memory (export "memory") 1)"#.to_owned(),
            imports: String::new(),
            more: String::new(),
            alloc: "(i32.const 1024)".to_owned(),
            bind: "(i32.const 0)".to_owned(),
            start: "(i32.const 0)".to_owned(),
            poll: record(0, 64, 1),
        }
    }
}

/// The body of a poll that writes a record at address 8 and gives its address.
pub fn record(kind: u32, ptr: u32, len: u32) -> String {
    format!(
        "(i32.store (i32.const 8) (i32.const {kind}))
         (i32.store (i32.const 12) (i32.const {ptr}))
         (i32.store (i32.const 16) (i32.const {len}))
         (i32.const 8)"
    )
}

impl Raw {
    /// The module as text.
    pub fn text(&self) -> String {
        let Raw {
            memory,
            imports,
            more,
            alloc,
            bind,
            start,
            poll,
        } = self;
        format!(
            r#"(module
              {imports}
              {memory}
              {more}
              (func (export "spore1:alloc") (param i32 i32) (result i32) {alloc})
              (func (export "spore1:free") (param i32 i32 i32))
              (func (export "spore1:bind/raw::run") (param i32 i32) (result i32) {bind})
              (func (export "spore1:start/raw::run") (param i32 i32 i32) (result i32) {start})
              (func (export "spore1:poll") (param i32) (result i32) {poll})
              (func (export "spore1:cancel") (export "spore1:drop") (export "spore1:unbind")
                (param i32)))"#
        )
    }

    /// The module.
    ///
    /// # Panics
    ///
    /// When the text is none.
    pub fn code(&self) -> Vec<u8> {
        wat::parse_str(self.text()).expect("the text is a module")
    }

    /// The bundle of it, whether a host will take it or not.
    pub fn bundle(&self) -> spore_client::Bundle {
        bundle_of(self.code())
    }
}

/// A bundle of any bytes that begin like a module, which says that it has `raw::run`.
///
/// # Panics
///
/// When the bytes are no sequence of sections.
pub fn bundle_of(code: impl Into<Bytes>) -> spore_client::Bundle {
    bundle_with(code, |_| {})
}

/// The same, with a manifest that says something else.
///
/// # Panics
///
/// When the bytes are no sequence of sections, or the manifest is not sound.
pub fn bundle_with(
    code: impl Into<Bytes>,
    change: impl FnOnce(&mut Manifest),
) -> spore_client::Bundle {
    let code = code.into();
    let mut manifest = Manifest {
        abi: ABI_VERSION,
        name: "raw".to_owned(),
        version: "0.1.0".to_owned(),
        code: Code {
            id: CodeId::of(&code),
            bytes: code.len() as u64,
            kind: CodeKind::Module,
        },
        state: None,
        init: None,
        restored: None,
        callables: vec![Callable::from(run())],
    };
    change(&mut manifest);
    let manifest = manifest.encode().expect("the manifest is sound");
    Bundle::from_parts(manifest, code, None)
        .expect("the parts fit")
        .into()
}

/// A bundle whose code takes the compiler seconds: half a million additions, none of which can be
/// left out. Those of different numbers share nothing.
///
/// # Panics
///
/// Never: the text is a module.
pub fn slow(number: u32) -> spore_client::Bundle {
    let sums = "(global.set 0 (i32.add (i32.mul (global.get 0) (i32.const 7)) (i32.const 3)))";
    let function = format!("(func (export \"f0\") {})", sums.repeat(250));
    let functions: String = (0..2_000)
        .map(|n| function.replace("f0", &format!("f{n}")))
        .collect();
    Raw {
        more: format!("(global (mut i32) (i32.const {number})) {functions}"),
        ..Raw::default()
    }
    .bundle()
}

/// What the guest says of `raw::run`.
fn run() -> Description {
    Description {
        name: "raw::run".to_owned(),
        docs: String::new(),
        signature: Signature {
            captures: Vec::new(),
            parameters: vec![Parameter {
                name: "input".to_owned(),
                ty: Type::Bytes,
            }],
            returns: Type::Bytes,
            error: None,
            definitions: Vec::new(),
        },
        consumes_captures: false,
        resumable: false,
        streams: false,
        grants: Vec::new(),
    }
}
