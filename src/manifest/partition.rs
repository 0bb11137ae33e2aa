//! Partition values in Avro: their schema, and their encoding both ways (MAN-5).

use serde_json::{Value, json};

use super::avro::schema::{Field, Logical, Node, Schema};
use super::avro::{Cursor, put_bool, put_bytes, put_long, put_string};
use super::plan::{Nullness, record_fields, split_null, unexpected};
use crate::error::{Error, Result};
use crate::spec::{Literal, PartitionSpec, PrimitiveLiteral, PrimitiveType, Struct, Type};

/// How one partition value is read.
#[derive(Debug, Clone, Copy)]
enum Read {
    Null,
    Boolean,
    Int,
    /// Written before its column became a long.
    IntAsLong,
    Long,
    Float,
    /// Written before its column became a double.
    FloatAsDouble,
    Double,
    String,
    UuidText,
    Bytes(Option<usize>),
    Decimal(Option<usize>),
    Uuid(Option<usize>),
}

/// Reads partition tuples.
#[derive(Debug)]
pub(super) struct PartitionPlan {
    /// In the order of the bytes: how to read, and the place in the tuple.
    steps: Vec<(Nullness, Read, usize)>,
}

impl PartitionPlan {
    /// Plans for the record `node`.
    ///
    /// `spec_fields` are (field id, name) in the order of the spec, if the header had them;
    /// without them the order of the file stands. `types` widens values written before a
    /// promotion, and tells apart what Avro cannot.
    pub(super) fn new(
        schema: &Schema,
        node: &Node,
        spec_fields: Option<&[(i32, String)]>,
        types: Option<&[Type]>,
    ) -> Result<Self> {
        let fields = record_fields(schema, node)?;
        if let Some(spec) = spec_fields
            && spec.len() != fields.len()
        {
            return Err(Error::corrupt(format!(
                "partition has {} values where its spec has {} fields",
                fields.len(),
                spec.len()
            )));
        }
        let mut taken = vec![false; fields.len()];
        let mut steps = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            let place = spec_fields.map_or(Some(at), |spec| place_of(field, spec));
            let Some(place) = place.filter(|p| taken.get(*p) == Some(&false)) else {
                return Err(Error::corrupt("partition value belongs to no field of its spec")
                    .with_context("value", &field.name));
            };
            taken[place] = true;
            let (null, value) = split_null(&field.node)?;
            let read = read_as(field, value, types.and_then(|t| t.get(place)))?;
            steps.push((null, read, place));
        }
        Ok(Self { steps })
    }

    /// Reads one tuple.
    pub(super) fn read(&self, cursor: &mut Cursor<'_>) -> Result<Struct> {
        let in_order = self.steps.iter().enumerate().all(|(at, step)| at == step.2);
        if in_order {
            return self.steps.iter().map(|(n, read, _)| read_one(*n, *read, cursor)).collect();
        }
        let mut values = vec![None; self.steps.len()];
        for (null, read, place) in &self.steps {
            let value = read_one(*null, *read, cursor)?;
            if let Some(slot) = values.get_mut(*place) {
                *slot = value;
            }
        }
        Ok(Struct::from_iter(values))
    }
}

fn place_of(field: &Field, spec: &[(i32, String)]) -> Option<usize> {
    match field.id {
        Some(id) => spec.iter().position(|(known, _)| *known == id),
        None => spec.iter().position(|(_, name)| avro_name(name) == field.name),
    }
}

fn read_as(field: &Field, node: &Node, as_type: Option<&Type>) -> Result<Read> {
    let as_type = match as_type {
        Some(Type::Primitive(primitive)) => Some(primitive),
        _ => None,
    };
    let decimal = |logical| {
        logical == Logical::Decimal || matches!(as_type, Some(PrimitiveType::Decimal { .. }))
    };
    let uuid = |logical| logical == Logical::Uuid || matches!(as_type, Some(PrimitiveType::Uuid));
    Ok(match node {
        Node::Null => Read::Null,
        Node::Boolean => Read::Boolean,
        Node::Int if as_type == Some(&PrimitiveType::Long) => Read::IntAsLong,
        Node::Int => Read::Int,
        Node::Long => Read::Long,
        Node::Float if as_type == Some(&PrimitiveType::Double) => Read::FloatAsDouble,
        Node::Float => Read::Float,
        Node::Double => Read::Double,
        Node::String(logical) if uuid(*logical) => Read::UuidText,
        Node::String(_) => Read::String,
        Node::Bytes(logical) if decimal(*logical) => Read::Decimal(None),
        Node::Bytes(logical) if uuid(*logical) => Read::Uuid(None),
        Node::Bytes(_) => Read::Bytes(None),
        Node::Fixed(size, logical) if decimal(*logical) => Read::Decimal(Some(*size)),
        Node::Fixed(size, logical) if uuid(*logical) => Read::Uuid(Some(*size)),
        Node::Fixed(size, _) => Read::Bytes(Some(*size)),
        Node::Enum | Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => {
            return Err(unexpected(field));
        }
    })
}

fn read_one(null: Nullness, read: Read, cursor: &mut Cursor<'_>) -> Result<Option<Literal>> {
    if !null.has_value(cursor)? {
        return Ok(None);
    }
    let sized = |size: Option<usize>, cursor: &mut Cursor<'_>| match size {
        Some(size) => cursor.take(size).map(<[u8]>::to_vec),
        None => cursor.bytes().map(<[u8]>::to_vec),
    };
    Ok(Some(match read {
        Read::Null => return Ok(None),
        Read::Boolean => Literal::bool(cursor.boolean()?),
        Read::Int => Literal::int(cursor.int()?),
        Read::IntAsLong => Literal::long(cursor.int()?),
        Read::Long => Literal::long(cursor.long()?),
        Read::Float => Literal::float(f32::from_le_bytes(cursor.array()?)),
        Read::FloatAsDouble => Literal::double(f32::from_le_bytes(cursor.array()?)),
        Read::Double => Literal::double(f64::from_le_bytes(cursor.array()?)),
        Read::String => Literal::Primitive(PrimitiveLiteral::String(cursor.string()?.to_string())),
        Read::UuidText => {
            let uuid = uuid::Uuid::try_parse(cursor.string()?)
                .map_err(|e| Error::corrupt("partition value is not a UUID").with_source(e))?;
            Literal::Primitive(PrimitiveLiteral::UInt128(uuid.as_u128()))
        }
        Read::Bytes(size) => Literal::Primitive(PrimitiveLiteral::Binary(sized(size, cursor)?)),
        Read::Decimal(size) => Literal::decimal(decimal_from_bytes(&sized(size, cursor)?)?),
        Read::Uuid(size) => {
            let bytes: [u8; 16] = sized(size, cursor)?
                .try_into()
                .map_err(|_| Error::corrupt("partition value is not a UUID of 16 bytes"))?;
            Literal::Primitive(PrimitiveLiteral::UInt128(u128::from_be_bytes(bytes)))
        }
    }))
}

/// Two's complement, big endian, any length up to the sign bytes that say nothing new.
fn decimal_from_bytes(bytes: &[u8]) -> Result<i128> {
    let negative = bytes.first().is_some_and(|b| *b >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let (extra, digits) = bytes.split_at(bytes.len().saturating_sub(16));
    let sign_kept = digits.first().is_none_or(|b| (*b >= 0x80) == negative);
    if bytes.is_empty() || extra.iter().any(|b| *b != fill) || !sign_kept {
        return Err(Error::corrupt("partition value is not a decimal of up to 38 digits"));
    }
    let mut wide = [fill; 16];
    wide[16 - digits.len()..].copy_from_slice(digits);
    Ok(i128::from_be_bytes(wide))
}

/// A name as Avro allows it: letters, digits and `_`, no digit in front. Other characters
/// become `_x` and their code in hexadecimal, as the reference implementation does.
pub(super) fn avro_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.chars().enumerate() {
        match c {
            'a'..='z' | 'A'..='Z' | '_' => out.push(c),
            '0'..='9' => {
                if at == 0 {
                    out.push('_');
                }
                out.push(c);
            }
            other => out.push_str(&format!("_x{:X}", u32::from(other))),
        }
    }
    out
}

/// The Avro record type of partition tuples, `r102`.
pub(super) fn record_schema(spec: &PartitionSpec, types: &[PrimitiveType]) -> Value {
    let mut defined = Vec::new();
    let fields: Vec<Value> = spec
        .fields()
        .iter()
        .zip(types)
        .map(|(field, value_type)| {
            let name = avro_name(&field.name);
            let kind = json!(["null", value_schema(value_type, &mut defined)]);
            let mut out = json!({
                "name": name, "type": kind, "default": null, "field-id": field.field_id,
            });
            if name != field.name {
                out["iceberg-field-name"] = json!(field.name);
            }
            out
        })
        .collect();
    json!({"type": "record", "name": "r102", "fields": fields})
}

fn value_schema(value_type: &PrimitiveType, defined: &mut Vec<String>) -> Value {
    let timestamp =
        |unit: &str, utc: bool| json!({"type": "long", "logicalType": unit, "adjust-to-utc": utc});
    match value_type {
        PrimitiveType::Boolean => json!("boolean"),
        PrimitiveType::Int => json!("int"),
        PrimitiveType::Long => json!("long"),
        PrimitiveType::Float => json!("float"),
        PrimitiveType::Double => json!("double"),
        PrimitiveType::Date => json!({"type": "int", "logicalType": "date"}),
        PrimitiveType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        PrimitiveType::Timestamp => timestamp("timestamp-micros", false),
        PrimitiveType::Timestamptz => timestamp("timestamp-micros", true),
        PrimitiveType::TimestampNs => timestamp("timestamp-nanos", false),
        PrimitiveType::TimestamptzNs => timestamp("timestamp-nanos", true),
        PrimitiveType::String => json!("string"),
        PrimitiveType::Binary => json!("bytes"),
        PrimitiveType::Uuid => named(
            defined,
            "uuid_fixed".to_string(),
            |name| json!({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"}),
        ),
        PrimitiveType::Fixed(size) => named(
            defined,
            format!("fixed_{size}"),
            |name| json!({"type": "fixed", "name": name, "size": size}),
        ),
        PrimitiveType::Decimal { precision, scale } => {
            named(defined, format!("decimal_{precision}_{scale}"), |name| {
                json!({
                    "type": "fixed", "name": name, "size": decimal_size(*precision),
                    "logicalType": "decimal", "precision": precision, "scale": scale,
                })
            })
        }
    }
}

/// Avro wants a named type spelled out once and called by name afterwards.
fn named(defined: &mut Vec<String>, name: String, spell: impl Fn(&str) -> Value) -> Value {
    if defined.contains(&name) {
        return json!(name);
    }
    let spelled = spell(&name);
    defined.push(name);
    spelled
}

/// The fewest bytes that hold every number of `precision` digits.
fn decimal_size(precision: u32) -> usize {
    let most = 10u128.checked_pow(precision).map_or(u128::MAX >> 1, |p| p - 1);
    let bits = 129 - most.leading_zeros() as usize;
    bits.div_ceil(8)
}

/// Appends one tuple.
///
/// # Errors
/// `InvalidInput` if values do not fit the types.
pub(super) fn encode(values: &Struct, types: &[PrimitiveType], out: &mut Vec<u8>) -> Result<()> {
    if values.fields().len() != types.len() {
        return Err(Error::invalid(format!(
            "partition has {} values where its spec has {} fields",
            values.fields().len(),
            types.len()
        )));
    }
    for (value, value_type) in values.iter().zip(types) {
        match value {
            None => put_long(out, 0),
            Some(Literal::Primitive(value)) => {
                put_long(out, 1);
                encode_value(value, value_type, out)?;
            }
            Some(_) => return Err(mismatch(value_type)),
        }
    }
    Ok(())
}

fn encode_value(
    value: &PrimitiveLiteral,
    as_type: &PrimitiveType,
    out: &mut Vec<u8>,
) -> Result<()> {
    use PrimitiveLiteral as Lit;
    use PrimitiveType as Ty;
    match (as_type, value) {
        (Ty::Boolean, Lit::Boolean(v)) => put_bool(out, *v),
        (Ty::Int | Ty::Date, Lit::Int(v)) => put_long(out, i64::from(*v)),
        (Ty::Long, Lit::Int(v)) => put_long(out, i64::from(*v)),
        (
            Ty::Long
            | Ty::Time
            | Ty::Timestamp
            | Ty::Timestamptz
            | Ty::TimestampNs
            | Ty::TimestamptzNs,
            Lit::Long(v),
        ) => put_long(out, *v),
        (Ty::Float, Lit::Float(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Ty::Double, Lit::Float(v)) => out.extend_from_slice(&f64::from(v.0).to_le_bytes()),
        (Ty::Double, Lit::Double(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Ty::String, Lit::String(v)) => put_string(out, v),
        (Ty::Binary, Lit::Binary(v)) => put_bytes(out, v),
        (Ty::Fixed(size), Lit::Binary(v)) if v.len() as u64 == *size => out.extend_from_slice(v),
        (Ty::Uuid, Lit::UInt128(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (Ty::Decimal { precision, .. }, Lit::Int128(v)) => {
            let size = decimal_size(*precision);
            let bytes = v.to_be_bytes();
            let (cut, kept) = bytes.split_at(16usize.saturating_sub(size));
            let fill = if *v < 0 { 0xff } else { 0 };
            if cut.iter().any(|b| *b != fill)
                || kept.first().is_some_and(|b| (*b >= 0x80) != (*v < 0))
            {
                return Err(mismatch(as_type));
            }
            out.resize(out.len() + size.saturating_sub(16), fill);
            out.extend_from_slice(kept);
        }
        _ => return Err(mismatch(as_type)),
    }
    Ok(())
}

fn mismatch(as_type: &PrimitiveType) -> Error {
    Error::invalid(format!("partition value is not a {as_type}"))
}

/// A value as single-value binary, the form of bounds in manifest lists. `None` if it does not
/// fit the type.
pub(super) fn single_value(value: &PrimitiveLiteral, as_type: &PrimitiveType) -> Option<Vec<u8>> {
    use PrimitiveLiteral as Lit;
    use PrimitiveType as Ty;
    Some(match (as_type, value) {
        (Ty::Long, Lit::Int(v)) => i64::from(*v).to_le_bytes().to_vec(),
        (Ty::Double, Lit::Float(v)) => f64::from(v.0).to_le_bytes().to_vec(),
        (Ty::Decimal { .. }, Lit::Int128(v)) => minimal_decimal(*v),
        (_, Lit::Boolean(v)) => vec![u8::from(*v)],
        (_, Lit::Int(v)) => v.to_le_bytes().to_vec(),
        (_, Lit::Long(v)) => v.to_le_bytes().to_vec(),
        (_, Lit::Float(v)) => v.to_le_bytes().to_vec(),
        (_, Lit::Double(v)) => v.to_le_bytes().to_vec(),
        (_, Lit::String(v)) => v.as_bytes().to_vec(),
        (_, Lit::Binary(v)) => v.clone(),
        (_, Lit::UInt128(v)) => v.to_be_bytes().to_vec(),
        _ => return None,
    })
}

/// Two's complement, big endian, without the leading bytes that repeat the sign.
fn minimal_decimal(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let spare = if value < 0 { value.leading_ones() } else { value.leading_zeros() };
    let cut = (spare.saturating_sub(1) / 8) as usize;
    bytes.get(cut.min(15)..).unwrap_or(&bytes).to_vec()
}
