//! The writer schema of an Avro file as a tree.
//!
//! Only what decoding needs is kept: shapes, field names, Iceberg's field ids and the logical
//! types of binary values.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// How binary values are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manifest) enum Logical {
    None,
    Decimal,
    Uuid,
}

/// The shape of a value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::manifest) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Enum,
    Bytes(Logical),
    String(Logical),
    Fixed(usize, Logical),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// A place in [`Schema`]'s list of records, so that schemas may refer to themselves.
    Record(usize),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::manifest) struct Field {
    pub(in crate::manifest) name: String,
    /// Iceberg's `field-id`.
    pub(in crate::manifest) id: Option<i32>,
    pub(in crate::manifest) node: Node,
}

/// A parsed schema.
#[derive(Debug)]
pub(in crate::manifest) struct Schema {
    /// The shape of every record of the file.
    pub(in crate::manifest) root: Node,
    records: Vec<Vec<Field>>,
}

impl Schema {
    /// Parses the `avro.schema` of a header.
    pub(in crate::manifest) fn parse(json: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|e| Error::corrupt("Avro schema is not JSON").with_source(e))?;
        let mut parser = Parser::default();
        // serde_json stops at 128 levels, so the recursion below is bounded too.
        let root = parser.node(&value)?;
        Ok(Self { root, records: parser.records })
    }

    /// The fields of record `id` in the order of their bytes.
    pub(in crate::manifest) fn fields(&self, id: usize) -> &[Field] {
        self.records.get(id).map_or(&[], Vec::as_slice)
    }
}

#[derive(Default)]
struct Parser {
    records: Vec<Vec<Field>>,
    named: HashMap<String, Node>,
}

impl Parser {
    fn node(&mut self, value: &Value) -> Result<Node> {
        match value {
            Value::String(name) => self.by_name(name, Logical::None),
            Value::Array(branches) => {
                Ok(Node::Union(branches.iter().map(|b| self.node(b)).collect::<Result<_>>()?))
            }
            Value::Object(object) => self.object(object),
            _ => Err(Error::corrupt("Avro schema holds neither a name nor an object")),
        }
    }

    fn by_name(&self, name: &str, logical: Logical) -> Result<Node> {
        Ok(match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes(logical),
            "string" => Node::String(logical),
            other => self.named.get(short(other)).cloned().ok_or_else(|| {
                Error::corrupt("Avro schema uses a type it does not define")
                    .with_context("type", other)
            })?,
        })
    }

    fn object(&mut self, object: &Map<String, Value>) -> Result<Node> {
        let logical = match object.get("logicalType").and_then(Value::as_str) {
            Some("decimal") => Logical::Decimal,
            Some("uuid") => Logical::Uuid,
            _ => Logical::None,
        };
        let Some(kind) = object.get("type") else {
            return Err(Error::corrupt("Avro schema has an object without a type"));
        };
        let Value::String(kind) = kind else {
            return self.node(kind); // {"type": {"type": …}} and {"type": [union]}
        };
        match kind.as_str() {
            "record" | "error" => self.record(object),
            "enum" => Ok(self.define(object, Node::Enum)),
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64);
                let Some(size) = size.and_then(|n| usize::try_from(n).ok()) else {
                    return Err(Error::corrupt("Avro fixed type has no size"));
                };
                Ok(self.define(object, Node::Fixed(size, logical)))
            }
            "array" => Ok(Node::Array(Box::new(self.part(object, "items")?))),
            "map" => Ok(Node::Map(Box::new(self.part(object, "values")?))),
            name => self.by_name(name, logical),
        }
    }

    fn part(&mut self, object: &Map<String, Value>, key: &str) -> Result<Node> {
        match object.get(key) {
            Some(value) => self.node(value),
            None => Err(Error::corrupt(format!("Avro schema lacks `{key}`"))),
        }
    }

    fn define(&mut self, object: &Map<String, Value>, node: Node) -> Node {
        if let Some(name) = object.get("name").and_then(Value::as_str) {
            self.named.insert(short(name).to_string(), node.clone());
        }
        node
    }

    fn record(&mut self, object: &Map<String, Value>) -> Result<Node> {
        let id = self.records.len();
        self.records.push(Vec::new());
        let node = self.define(object, Node::Record(id));
        let Some(Value::Array(parts)) = object.get("fields") else {
            return Err(Error::corrupt("Avro record has no fields"));
        };
        let mut fields = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(name) = part.get("name").and_then(Value::as_str) else {
                return Err(Error::corrupt("Avro field has no name"));
            };
            let id = part.get("field-id").and_then(Value::as_i64);
            let Some(kind) = part.get("type") else {
                return Err(Error::corrupt("Avro field has no type").with_context("field", name));
            };
            fields.push(Field {
                name: name.to_string(),
                id: id.and_then(|n| i32::try_from(n).ok()),
                node: self.node(kind)?,
            });
        }
        if let Some(slot) = self.records.get_mut(id) {
            *slot = fields;
        }
        Ok(node)
    }
}

/// Names compare without their namespace: manifests never define one name twice.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refer_to_types_defined_before_and_to_themselves() {
        let json = br#"{"type":"record","name":"a.tree","fields":[
            {"name":"f","field-id":7,"type":{"type":"fixed","name":"d","size":5,"logicalType":"decimal"}},
            {"name":"g","type":["null","d"]},
            {"name":"next","type":["tree","null"]}]}"#;
        let schema = Schema::parse(json).unwrap();
        assert_eq!(schema.root, Node::Record(0));
        let fields = schema.fields(0);
        assert_eq!(fields[0].id, Some(7));
        let decimal = Node::Fixed(5, Logical::Decimal);
        assert_eq!(fields[1].node, Node::Union(vec![Node::Null, decimal]));
        assert_eq!(fields[2].node, Node::Union(vec![Node::Record(0), Node::Null]));
    }

    #[test]
    fn broken_schemas_are_corrupt_not_a_panic() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        for json in
            ["", "7", "{}", r#""tree""#, r#"{"type":"array"}"#, r#"{"type":"record"}"#, &deep]
        {
            assert!(Schema::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
