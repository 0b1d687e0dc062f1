//! Callables and types as people and scripts read them.

use serde_json::{Value as Json, json};
use spore_bundle::Callable;
use spore_value::{Definition, Fields, Parameter, Shape, Signature, Type, render};

use crate::output::plain;

/// A callable as one would write it in Rust, captures first.
pub(crate) fn line(callable: &Callable) -> String {
    let Signature {
        captures,
        parameters,
        definitions,
        ..
    } = &callable.signature;
    let all: Vec<_> = captures
        .iter()
        .map(|capture| format!("#[capture] {}", named(capture, definitions)))
        .chain(
            parameters
                .iter()
                .map(|parameter| named(parameter, definitions)),
        )
        .collect();
    format!(
        "{}({}){}",
        plain(&callable.name),
        all.join(", "),
        returns(&callable.signature, callable.streams)
    )
}

/// What is returned, from its arrow on; nothing for `()`. One that streams emits items of it.
fn returns(signature: &Signature, streams: bool) -> String {
    let mut returns = ty(&signature.returns, &signature.definitions);
    if streams {
        returns.insert_str(0, "stream of ");
    }
    match &signature.error {
        Some(error) => format!(
            " -> Result<{returns}, {}>",
            ty(error, &signature.definitions)
        ),
        None if signature.returns == Type::Unit && !streams => String::new(),
        None => format!(" -> {returns}"),
    }
}

/// `name: type`
pub(crate) fn named(parameter: &Parameter, definitions: &[Definition]) -> String {
    format!(
        "{}: {}",
        plain(&parameter.name),
        ty(&parameter.ty, definitions)
    )
}

/// A type as one would write it in Rust.
pub(crate) fn ty(ty: &Type, definitions: &[Definition]) -> String {
    plain(&render(ty, definitions))
}

/// A definition as one would write it in Rust, with its documentation.
pub(crate) fn definition(definition: &Definition, definitions: &[Definition]) -> String {
    let name = plain(&definition.name);
    let mut text = docs(&definition.docs, "");
    match &definition.shape {
        Shape::Struct(parts) => {
            text.push_str(&format!(
                "struct {name}{}\n",
                fields(parts, definitions, "")
            ));
        }
        Shape::Enum(variants) => {
            text.push_str(&format!("enum {name} {{\n"));
            for variant in variants {
                text.push_str(&docs(&variant.docs, "    "));
                let parts = fields(&variant.fields, definitions, "    ");
                text.push_str(&format!("    {}{parts},\n", plain(&variant.name)));
            }
            text.push_str("}\n");
        }
    }
    text
}

fn fields(fields: &Fields, definitions: &[Definition], indent: &str) -> String {
    match fields {
        Fields::Unit => String::new(),
        Fields::Tuple(types) => {
            let types: Vec<_> = types.iter().map(|each| ty(each, definitions)).collect();
            format!("({})", types.join(", "))
        }
        Fields::Named(fields) => {
            let mut text = String::from(" {\n");
            for field in fields {
                text.push_str(&docs(&field.docs, &format!("{indent}    ")));
                let ty = ty(&field.ty, definitions);
                text.push_str(&format!("{indent}    {}: {ty},\n", plain(&field.name)));
            }
            text.push_str(&format!("{indent}}}"));
            text
        }
    }
}

fn docs(docs: &str, indent: &str) -> String {
    docs.lines()
        .map(|line| format!("{indent}/// {}\n", plain(line.trim_end())))
        .collect()
}

/// What scripts see of a callable's types.
pub(crate) fn json(signature: &Signature) -> Json {
    let definitions = &signature.definitions;
    let list = |parameters: &[Parameter]| -> Json {
        let each = |parameter: &Parameter| json!({ "name": parameter.name, "type": render(&parameter.ty, definitions) });
        parameters.iter().map(each).collect()
    };
    json!({
        "captures": list(&signature.captures),
        "parameters": list(&signature.parameters),
        "returns": render(&signature.returns, definitions),
        "error": signature.error.as_ref().map(|error| render(error, definitions)),
        "types": definitions.iter().map(|each| definition_json(each, definitions)).collect::<Json>(),
    })
}

fn definition_json(definition: &Definition, definitions: &[Definition]) -> Json {
    let (name, docs) = (&definition.name, &definition.docs);
    match &definition.shape {
        Shape::Struct(parts) => json!({
            "name": name,
            "docs": docs,
            "struct": fields_json(parts, definitions),
        }),
        Shape::Enum(variants) => {
            let each = |variant: &spore_value::Variant| {
                json!({
                    "name": variant.name,
                    "docs": variant.docs,
                    "fields": fields_json(&variant.fields, definitions),
                })
            };
            let variants: Json = variants.iter().map(each).collect();
            json!({ "name": name, "docs": docs, "enum": variants })
        }
    }
}

/// Fields: `null` for none, types for those by position, objects for those by name.
fn fields_json(fields: &Fields, definitions: &[Definition]) -> Json {
    match fields {
        Fields::Unit => Json::Null,
        Fields::Tuple(types) => types.iter().map(|ty| render(ty, definitions)).collect(),
        Fields::Named(fields) => fields
            .iter()
            .map(|field| {
                json!({
                    "name": field.name,
                    "type": render(&field.ty, definitions),
                    "docs": field.docs,
                })
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spore_value::{Field, Variant};

    fn sample() -> Signature {
        let field = |name: &str, ty| Field {
            name: name.into(),
            docs: String::new(),
            ty,
        };
        let position = Definition {
            name: "Position".into(),
            docs: "What is held.".into(),
            shape: Shape::Struct(Fields::Named(vec![field("shares", Type::F64)])),
        };
        let variant = |name: &str, fields| Variant {
            name: name.into(),
            docs: String::new(),
            fields,
        };
        let wrong = Definition {
            name: "Wrong".into(),
            docs: String::new(),
            shape: Shape::Enum(vec![
                variant("Empty", Fields::Unit),
                variant("Short", Fields::Tuple(vec![Type::U32, Type::Named(0)])),
            ]),
        };
        Signature {
            captures: vec![Parameter {
                name: "book".into(),
                ty: Type::List(Type::Named(0).into()),
            }],
            parameters: vec![Parameter {
                name: "seed".into(),
                ty: Type::U64,
            }],
            returns: Type::Unit,
            error: Some(Type::Named(1)),
            definitions: vec![position, wrong],
        }
    }

    #[test]
    fn types_read_like_rust() {
        let signature = sample();
        let callable = Callable {
            name: "risk::check".into(),
            docs: String::new(),
            codec: 0,
            signature: signature.clone(),
            consumes_captures: false,
            resumable: false,
            streams: false,
            grants: Vec::new(),
        };
        assert_eq!(
            line(&callable),
            "risk::check(#[capture] book: Vec<Position>, seed: u64) -> Result<(), Wrong>"
        );
        let all = &signature.definitions;
        assert_eq!(
            definition(&all[0], all),
            "/// What is held.\nstruct Position {\n    shares: f64,\n}\n"
        );
        assert_eq!(
            definition(&all[1], all),
            "enum Wrong {\n    Empty,\n    Short(u32, Position),\n}\n"
        );
    }

    #[test]
    fn scripts_see_the_same_types() {
        let json = json(&sample());
        assert_eq!(json["captures"][0]["type"], "Vec<Position>");
        assert_eq!(json["error"], "Wrong");
        assert_eq!(json["types"][0]["struct"][0]["type"], "f64");
        assert_eq!(json["types"][1]["enum"][0]["fields"], Json::Null);
        assert_eq!(json["types"][1]["enum"][1]["fields"][1], "Position");
    }
}
