//! A small guest, written by hand, and bundles made of it.
#![allow(dead_code, reason = "each test uses a part of this module")]

use spore_abi::Description;
use spore_bundle::{Bundle, Limits};
use spore_value::{Parameter, Signature, Type};
use wasm_encoder::{CustomSection, Section as _};

/// A guest whose `sum::add` adds a captured byte to its argument, without check of overflow.
///
/// Its poll record is at address 0, its result at 24. It has no heap: buffers follow each other from
/// 64 on and are never freed. Nothing has a name, so that the binary has no section of names.
pub(crate) const SUM: &str = r#"
(module
  (memory (export "memory") 1)
  (global (mut i32) (i32.const 64))
  ;; (size, align) → ptr
  (func (export "spore1:alloc") (param i32 i32) (result i32)
    global.get 0
    (global.set 0
      (i32.and
        (i32.add (i32.add (global.get 0) (local.get 0)) (i32.const 15))
        (i32.const -16))))
  (func (export "spore1:free") (param i32 i32 i32))
  ;; (ptr, len) → handle: the address of the captures
  (func (export "spore1:bind/sum::add") (param i32 i32) (result i32) local.get 0)
  ;; (handle, ptr, len) → task: there is one at a time, 0
  (func (export "spore1:start/sum::add") (param i32 i32 i32) (result i32)
    (i32.store8 (i32.const 24)
      (i32.add (i32.load8_u (local.get 0)) (i32.load8_u (local.get 1))))
    (i32.store (i32.const 4) (i32.const 24))
    (i32.store (i32.const 8) (i32.const 1))
    i32.const 0)
  ;; (task) → record
  (func (export "spore1:poll") (param i32) (result i32) i32.const 0)
  (func (export "spore1:cancel") (export "spore1:drop") (export "spore1:unbind") (param i32)))
"#;

/// Assembles a module.
pub(crate) fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is a module")
}

/// What the guest says of `sum::add`.
pub(crate) fn add() -> Description {
    let byte = |name: &str| Parameter {
        name: name.to_owned(),
        ty: Type::U8,
    };
    Description {
        name: "sum::add".to_owned(),
        docs: "n + x".to_owned(),
        signature: Signature {
            captures: vec![byte("n")],
            parameters: vec![byte("x")],
            returns: Type::U8,
            error: None,
            definitions: Vec::new(),
        },
        consumes_captures: false,
        resumable: false,
        streams: false,
        grants: Vec::new(),
    }
}

/// The guest without captures.
pub(crate) fn unbound() -> Bundle {
    Bundle::pack(module(SUM), "sum", "0.1.0", vec![add()]).expect("the guest is sound")
}

/// The guest with 7 captured.
pub(crate) fn bound() -> Bundle {
    unbound()
        .with_captures(0, vec![7])
        .expect("add captures a byte")
}

/// Reads a file with the default limits.
pub(crate) fn decode(file: Vec<u8>) -> Result<Bundle, spore_bundle::DecodeError> {
    Bundle::decode(file, &Limits::default())
}

/// A custom section, with its id and length.
pub(crate) fn custom(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to(&mut bytes);
    bytes
}

/// An error and all its causes, as a person reads them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
