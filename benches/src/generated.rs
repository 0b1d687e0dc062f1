//! Modules of any size that no host has seen.

use anyhow::Result;
use bytes::Bytes;
use spore_abi::{Description, export, poll};
use spore_client::Bundle;
use spore_value::{Signature, Type};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemArg, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};

/// The one callable: takes nothing, returns a small `u32`.
pub(crate) const CALLABLE: &str = "generated::run";

/// Addresses in the guest's one page.
const RECORD: i32 = 8;
const VALUE: i32 = 64;
const BUFFER: i32 = 1024;
/// Steps of one generated function, about as long as a compiler's functions are on average.
const STEPS: u32 = 24;

/// Types by index.
const STEP: u32 = 0;
const ONE_IN: u32 = 1;
const TWO_OUT: u32 = 2;
const THREE_IN: u32 = 3;
const THREE_OUT: u32 = 4;

/// A module of about `size` bytes that follows the ABI. Another `variant` gives another module.
pub(crate) fn code(size: usize, variant: u32) -> Bytes {
    let body = step(variant, 0).byte_len();
    module(size / (body + 4), variant).into()
}

/// The bundle of such a module.
pub(crate) fn bundle(code: Bytes) -> Result<Bundle> {
    let description = Description {
        name: CALLABLE.to_owned(),
        docs: String::new(),
        signature: Signature {
            captures: Vec::new(),
            parameters: Vec::new(),
            returns: Type::U32,
            error: None,
            definitions: Vec::new(),
        },
        consumes_captures: false,
        resumable: false,
        streams: false,
        grants: Vec::new(),
    };
    let bundle = spore_bundle::Bundle::pack(code, "generated", "0.1.0", vec![description])?;
    Ok(bundle.into())
}

fn module(steps: usize, variant: u32) -> Vec<u8> {
    use ValType::I32;
    let mut types = TypeSection::new();
    types.ty().function([I32], [I32]);
    types.ty().function([I32], []);
    types.ty().function([I32; 2], [I32]);
    types.ty().function([I32; 3], []);
    types.ty().function([I32; 3], [I32]);

    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });

    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    let mut bodies = CodeSection::new();
    exports.export(export::MEMORY, ExportKind::Memory, 0);
    let bind = format!("{}{CALLABLE}", export::BIND);
    let start = format!("{}{CALLABLE}", export::START);
    let interface = [
        (export::ALLOC, TWO_OUT, constant(BUFFER)),
        (export::FREE, THREE_IN, nothing()),
        (bind.as_str(), TWO_OUT, constant(0)),
        (start.as_str(), THREE_OUT, constant(0)),
        (export::POLL, STEP, poll_body(9)),
        (export::CANCEL, ONE_IN, nothing()),
        (export::DROP, ONE_IN, nothing()),
        (export::UNBIND, ONE_IN, nothing()),
    ];
    for (index, (name, ty, body)) in interface.into_iter().enumerate() {
        functions.function(ty);
        exports.export(name, ExportKind::Func, index as u32);
        bodies.function(&body);
    }
    for index in 0..steps.max(2) {
        functions.function(STEP);
        bodies.function(&step(variant, index as u32));
    }
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&exports);
    module.section(&bodies);
    module.finish()
}

fn nothing() -> Function {
    let mut body = Function::new([]);
    body.instructions().end();
    body
}

fn constant(value: i32) -> Function {
    let mut body = Function::new([]);
    body.instructions().i32_const(value).end();
    body
}

/// Writes what function `index` returns as the value, and the record of it.
fn poll_body(index: u32) -> Function {
    let at = |offset: u64| MemArg {
        offset,
        align: 2,
        memory_index: 0,
    };
    let mut body = Function::new([]);
    body.instructions()
        .i32_const(VALUE)
        .local_get(0)
        .call(index)
        // A number below 128 is encoded as itself.
        .i32_const(0x7f)
        .i32_and()
        .i32_store8(MemArg {
            offset: 0,
            align: 0,
            memory_index: 0,
        })
        .i32_const(RECORD)
        .i32_const(poll::READY as i32)
        .i32_store(at(0))
        .i32_const(RECORD)
        .i32_const(VALUE)
        .i32_store(at(4))
        .i32_const(RECORD)
        .i32_const(1)
        .i32_store(at(8))
        .i32_const(RECORD)
        .end();
    body
}

/// A function of arithmetic, a branch and memory, unlike any other by its constants.
fn step(variant: u32, index: u32) -> Function {
    let mut body = Function::new([(1, ValType::I32)]);
    let mut code = body.instructions();
    let mut noise = variant.wrapping_mul(0x9E37_79B9) ^ index.wrapping_mul(0x85EB_CA6B);
    for _ in 0..STEPS {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        // Always of the same length, so that a count of functions gives a size.
        let constant = (noise & 0x07FF_FFFF | 0x0400_0000) as i32;
        code.local_get(0).i32_const(constant).i32_mul();
        code.local_get(1).i32_xor().local_tee(1);
        code.i32_const(11)
            .i32_shr_u()
            .local_get(0)
            .i32_add()
            .local_set(0);
    }
    code.local_get(0).if_(wasm_encoder::BlockType::Empty);
    code.i32_const(BUFFER).local_get(1).i32_store(MemArg {
        offset: 0,
        align: 2,
        memory_index: 0,
    });
    code.end().local_get(1).end();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_asked_and_variants_differ() {
        for size in [25_000, 1_000_000] {
            let code = code(size, 1);
            assert!(
                code.len().abs_diff(size) < size / 20,
                "{} for {size}",
                code.len()
            );
            assert_ne!(code, self::code(size, 2));
            bundle(code).expect("it follows the ABI");
        }
    }
}
