//! Types as text.

use alloc::string::String;
use core::fmt::{self, Display, Formatter};

use crate::types::{Definition, Type};

/// A type as one would write it in Rust: `Vec<Position>`, `Option<f64>`.
///
/// Named types are their names; one that the table does not have is `type #7`. Sets and maps are
/// `Set<…>` and `Map<…>`, since the table does not say which container they were.
#[must_use]
pub fn render(ty: &Type, definitions: &[Definition]) -> String {
    use alloc::string::ToString;
    Rendered { ty, definitions }.to_string()
}

struct Rendered<'a> {
    ty: &'a Type,
    definitions: &'a [Definition],
}

impl Display for Rendered<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of = |ty| Rendered {
            ty,
            definitions: self.definitions,
        };
        match self.ty {
            Type::Unit => f.write_str("()"),
            Type::Bool => f.write_str("bool"),
            Type::U8 => f.write_str("u8"),
            Type::U16 => f.write_str("u16"),
            Type::U32 => f.write_str("u32"),
            Type::U64 => f.write_str("u64"),
            Type::U128 => f.write_str("u128"),
            Type::I8 => f.write_str("i8"),
            Type::I16 => f.write_str("i16"),
            Type::I32 => f.write_str("i32"),
            Type::I64 => f.write_str("i64"),
            Type::I128 => f.write_str("i128"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("String"),
            Type::Bytes => f.write_str("Vec<u8>"),
            Type::Duration => f.write_str("Duration"),
            Type::Option(inner) => write!(f, "Option<{}>", of(inner)),
            Type::List(element) => write!(f, "Vec<{}>", of(element)),
            Type::Array(element, length) => write!(f, "[{}; {length}]", of(element)),
            Type::Set(element) => write!(f, "Set<{}>", of(element)),
            Type::Map(key, value) => write!(f, "Map<{}, {}>", of(key), of(value)),
            Type::Tuple(types) => {
                f.write_str("(")?;
                for (index, ty) in types.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { ", " }, of(ty))?;
                }
                f.write_str(if types.len() == 1 { ",)" } else { ")" })
            }
            Type::Result(ok, error) => write!(f, "Result<{}, {}>", of(ok), of(error)),
            Type::Named(index) => {
                match usize::try_from(*index)
                    .ok()
                    .and_then(|at| self.definitions.get(at))
                {
                    Some(definition) => f.write_str(&definition.name),
                    None => write!(f, "type #{index}"),
                }
            }
        }
    }
}
