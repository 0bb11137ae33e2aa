//! Filters over record batches: which rows pass?
//!
//! In: a batch whose columns carry Iceberg field ids. Out: one boolean per row, never null.
//! Memory: a bit per row and test, and a hash set per large IN list.

use std::collections::HashMap;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray,
    RecordBatch,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use hashbrown::HashSet;

use super::filter::{Cmp, Column, Filter, Leaf, Node, Test};
use super::order::bytes_of;
use crate::error::{Error, Result};
use crate::spec::{BoundPredicate, PrimitiveLiteral, PrimitiveType};

/// Where a field's metadata names its Iceberg id.
const FIELD_ID: &str = "PARQUET:field_id";

/// Sets up to this size are searched, larger ones hashed.
const SEARCHED_SET: usize = 8;

/// Tells which rows pass the filter: SQL's three-valued logic with unknown as false (EXP-1).
///
/// Columns are found by the field id in their metadata (`PARQUET:field_id`), nested ones inside
/// structs. Dictionaries and view arrays are fine. The result has no nulls.
///
/// # Errors
/// `Internal` naming the column if the batch does not have it or holds another type.
pub fn evaluate(filter: &BoundPredicate, batch: &RecordBatch) -> Result<BooleanArray> {
    Filter::new(filter).evaluate(batch)
}

impl Filter {
    /// Tells which rows pass; see [`evaluate`].
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        Ok(BooleanArray::new(mask(&self.root, &mut Columns::new(batch))?, None))
    }
}

/// The columns of a batch by field id, each found once.
struct Columns<'a> {
    batch: &'a RecordBatch,
    found: HashMap<i32, Found>,
}

/// A column and where the structs around it are null.
#[derive(Clone)]
struct Found {
    array: ArrayRef,
    parents: Option<NullBuffer>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        Self { batch, found: HashMap::new() }
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn get(&mut self, column: &Column) -> Result<Found> {
        if let Some(found) = self.found.get(&column.id) {
            return Ok(found.clone());
        }
        let schema = self.batch.schema();
        let top = schema.fields().iter().zip(self.batch.columns());
        let found = find(top, column.id, None).ok_or_else(|| {
            Error::internal(format!("the batch lacks column `{}` of the filter", column.name))
                .with_context("field id", column.id)
        })?;
        let found = Found { array: canonical(found.array, column)?, parents: found.parents };
        self.found.insert(column.id, found.clone());
        Ok(found)
    }
}

fn find<'f>(
    fields: impl Iterator<Item = (&'f FieldRef, &'f ArrayRef)>,
    id: i32,
    parents: Option<&NullBuffer>,
) -> Option<Found> {
    for (field, array) in fields {
        if has_id(field, id) {
            return Some(Found { array: array.clone(), parents: parents.cloned() });
        }
        if let DataType::Struct(children) = field.data_type() {
            let nested = array.as_struct_opt()?;
            let nulls = NullBuffer::union(parents, nested.nulls());
            let inner = children.iter().zip(nested.columns());
            if let Some(found) = find(inner, id, nulls.as_ref()) {
                return Some(found);
            }
        }
    }
    None
}

fn has_id(field: &Field, id: i32) -> bool {
    field.metadata().get(FIELD_ID).is_some_and(|text| text.parse() == Ok(id))
}

/// The array in the one Arrow type in which its Iceberg type is tested; text and bytes keep
/// theirs, dictionaries and nulls too.
fn canonical(array: ArrayRef, column: &Column) -> Result<ArrayRef> {
    use DataType as D;
    let target = match (&column.kind, array.data_type()) {
        (_, D::Dictionary(..) | D::Null) => return Ok(array),
        (PrimitiveType::Boolean, _) => D::Boolean,
        (PrimitiveType::Int, _) => D::Int32,
        (PrimitiveType::Long, _) => D::Int64,
        (PrimitiveType::Float, _) => D::Float32,
        (PrimitiveType::Double, _) => D::Float64,
        (PrimitiveType::Date, _) => D::Date32,
        (PrimitiveType::Time, _) => D::Time64(TimeUnit::Microsecond),
        (
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz,
            D::Timestamp(TimeUnit::Microsecond, _),
        ) => return Ok(array),
        (PrimitiveType::Timestamp | PrimitiveType::Timestamptz, D::Timestamp(_, zone)) => {
            D::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        (PrimitiveType::Decimal { scale, .. }, D::Decimal128(_, s))
            if i64::from(*s) == i64::from(*scale) =>
        {
            return Ok(array);
        }
        (PrimitiveType::Decimal { scale, .. }, _) => {
            D::Decimal128(38, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        (PrimitiveType::String, D::Utf8 | D::LargeUtf8 | D::Utf8View) => return Ok(array),
        (PrimitiveType::String, _) => D::Utf8,
        (
            PrimitiveType::Uuid | PrimitiveType::Fixed(_) | PrimitiveType::Binary,
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_),
        ) => return Ok(array),
        (PrimitiveType::Uuid | PrimitiveType::Fixed(_) | PrimitiveType::Binary, _) => D::Binary,
        (other, _) => return Err(Error::unsupported(format!("a filter on type {other}"))),
    };
    if *array.data_type() == target {
        return Ok(array);
    }
    compute::cast(&array, &target).map_err(|e| {
        Error::internal(format!(
            "column `{}` holds {} instead of {target}",
            column.name,
            array.data_type()
        ))
        .with_source(e)
    })
}

fn mask(node: &Node<Leaf>, columns: &mut Columns<'_>) -> Result<BooleanBuffer> {
    let rows = columns.rows();
    match node {
        Node::True => Ok(BooleanBuffer::new_set(rows)),
        Node::False => Ok(BooleanBuffer::new_unset(rows)),
        Node::All(nodes) => {
            let mut all = BooleanBuffer::new_set(rows);
            for node in nodes {
                all = &all & &mask(node, columns)?;
                if all.count_set_bits() == 0 {
                    break;
                }
            }
            Ok(all)
        }
        Node::Any(nodes) => {
            let mut any = BooleanBuffer::new_unset(rows);
            for node in nodes {
                any = &any | &mask(node, columns)?;
                if any.count_set_bits() == rows {
                    break;
                }
            }
            Ok(any)
        }
        Node::Leaf(leaf) => leaf_mask(leaf, &columns.get(&leaf.column)?),
    }
}

fn leaf_mask(leaf: &Leaf, found: &Found) -> Result<BooleanBuffer> {
    let array = &found.array;
    let nulls = NullBuffer::union(found.parents.as_ref(), array.logical_nulls().as_ref());
    let valid = |nulls: Option<NullBuffer>| match nulls {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(array.len()),
    };
    match &leaf.test {
        Test::NotNull => Ok(valid(nulls)),
        Test::IsNull => Ok(!&valid(nulls)),
        // These two are never unknown: a null is not NaN (EXP-3).
        Test::IsNan => Ok(&values_mask(leaf, array)? & &valid(nulls)),
        Test::NotNan => Ok(&values_mask(leaf, array)? | &!&valid(nulls)),
        _ => match nulls {
            None => values_mask(leaf, array),
            Some(nulls) => Ok(&values_mask(leaf, array)? & nulls.inner()),
        },
    }
}

/// One bit per slot; what it says for null slots is meaningless.
fn values_mask(leaf: &Leaf, array: &ArrayRef) -> Result<BooleanBuffer> {
    let test = &leaf.test;
    if *array.data_type() == DataType::Null {
        return Ok(BooleanBuffer::new_unset(array.len()));
    }
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        let values = canonical(dictionary.values().clone(), &leaf.column)?;
        let passing = BooleanArray::new(values_mask(leaf, &values)?, None);
        let spread = compute::take(&passing, dictionary.keys(), None)?;
        return Ok(spread.as_boolean().values().clone());
    }
    match &leaf.column.kind {
        PrimitiveType::Boolean => booleans(array, test),
        PrimitiveType::Int => numbers::<Int32Type>(array, test),
        PrimitiveType::Long => numbers::<Int64Type>(array, test),
        PrimitiveType::Float => numbers::<Float32Type>(array, test),
        PrimitiveType::Double => numbers::<Float64Type>(array, test),
        PrimitiveType::Date => numbers::<Date32Type>(array, test),
        PrimitiveType::Time => numbers::<Time64MicrosecondType>(array, test),
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            numbers::<TimestampMicrosecondType>(array, test)
        }
        PrimitiveType::Decimal { .. } => numbers::<Decimal128Type>(array, test),
        _ => texts(array, test),
    }
    .ok_or_else(|| {
        Error::internal(format!(
            "column `{}` of type {} holds {}",
            leaf.column.name,
            leaf.column.kind,
            array.data_type()
        ))
    })
}

fn booleans(array: &ArrayRef, test: &Test) -> Option<BooleanBuffer> {
    let array = array.as_boolean_opt()?;
    let literal = |value: &PrimitiveLiteral| match value {
        PrimitiveLiteral::Boolean(b) => Some(*b),
        _ => None,
    };
    let passes: [bool; 2] = match test {
        Test::Compare(cmp, value) => {
            let value = literal(value)?;
            [false, true].map(|v| holds(*cmp, v.partial_cmp(&value)))
        }
        Test::In(values) => [false, true].map(|v| values.iter().any(|l| literal(l) == Some(v))),
        Test::NotIn(values) => [false, true].map(|v| values.iter().all(|l| literal(l) != Some(v))),
        _ => return None,
    };
    Some(match passes {
        [false, false] => BooleanBuffer::new_unset(array.len()),
        [true, true] => BooleanBuffer::new_set(array.len()),
        [false, true] => array.values().clone(),
        [true, false] => !array.values(),
    })
}

fn holds(cmp: Cmp, order: Option<std::cmp::Ordering>) -> bool {
    match cmp {
        Cmp::Less => order.is_some_and(|o| o.is_lt()),
        Cmp::LessEq => order.is_some_and(|o| o.is_le()),
        Cmp::Greater => order.is_some_and(|o| o.is_gt()),
        Cmp::GreaterEq => order.is_some_and(|o| o.is_ge()),
        Cmp::Eq => order.is_some_and(|o| o.is_eq()),
        Cmp::NotEq => !order.is_some_and(|o| o.is_eq()),
    }
}

/// What number columns need of their native type: the literal of a test, and a hashable key.
trait Native: Copy + PartialOrd {
    fn of(value: &PrimitiveLiteral) -> Option<Self>;
    /// Equal values have equal keys: both zeros share one.
    fn key(self) -> u128;
    fn is_nan(self) -> bool {
        false
    }
}

impl Native for i32 {
    fn of(value: &PrimitiveLiteral) -> Option<Self> {
        if let PrimitiveLiteral::Int(v) = value { Some(*v) } else { None }
    }
    fn key(self) -> u128 {
        u128::from(self.cast_unsigned())
    }
}

impl Native for i64 {
    fn of(value: &PrimitiveLiteral) -> Option<Self> {
        match value {
            PrimitiveLiteral::Long(v) => Some(*v),
            PrimitiveLiteral::Int(v) => Some(i64::from(*v)),
            _ => None,
        }
    }
    fn key(self) -> u128 {
        u128::from(self.cast_unsigned())
    }
}

impl Native for i128 {
    fn of(value: &PrimitiveLiteral) -> Option<Self> {
        if let PrimitiveLiteral::Int128(v) = value { Some(*v) } else { None }
    }
    fn key(self) -> u128 {
        self.cast_unsigned()
    }
}

impl Native for f32 {
    fn of(value: &PrimitiveLiteral) -> Option<Self> {
        if let PrimitiveLiteral::Float(v) = value { Some(v.0) } else { None }
    }
    fn key(self) -> u128 {
        // Adding a positive zero turns -0.0 into 0.0 and changes nothing else.
        u128::from((self + 0.0).to_bits())
    }
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

impl Native for f64 {
    fn of(value: &PrimitiveLiteral) -> Option<Self> {
        if let PrimitiveLiteral::Double(v) = value { Some(v.0) } else { None }
    }
    fn key(self) -> u128 {
        u128::from((self + 0.0).to_bits())
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

/// Tests an array of numbers; `None` if array or literal are of another type.
fn numbers<T>(array: &ArrayRef, test: &Test) -> Option<BooleanBuffer>
where
    T: ArrowPrimitiveType,
    T::Native: Native,
{
    let array = array.as_primitive_opt::<T>()?;
    let every = |f: &dyn Fn(T::Native) -> bool| Some(collect(array, f));
    match test {
        Test::IsNan => Some(collect(array, T::Native::is_nan)),
        Test::NotNan => Some(collect(array, |v| !v.is_nan())),
        Test::Compare(cmp, value) => {
            let value = T::Native::of(value)?;
            Some(match cmp {
                Cmp::Less => collect(array, |v| v < value),
                Cmp::LessEq => collect(array, |v| v <= value),
                Cmp::Greater => collect(array, |v| v > value),
                Cmp::GreaterEq => collect(array, |v| v >= value),
                Cmp::Eq => collect(array, |v| v == value),
                Cmp::NotEq => collect(array, |v| v != value),
            })
        }
        Test::In(values) | Test::NotIn(values) => {
            let wanted = matches!(test, Test::In(_));
            let members = values.iter().map(T::Native::of).collect::<Option<Vec<_>>>()?;
            if members.len() <= SEARCHED_SET {
                return every(&|v| members.contains(&v) == wanted);
            }
            let keys: HashSet<u128> = members.iter().map(|m| m.key()).collect();
            Some(collect(array, |v| keys.contains(&v.key()) == wanted))
        }
        _ => None,
    }
}

fn collect<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    test: impl Fn(T::Native) -> bool,
) -> BooleanBuffer {
    BooleanArray::from_unary(array, test).values().clone()
}

/// Tests text or bytes of any Arrow representation.
fn texts(array: &ArrayRef, test: &Test) -> Option<BooleanBuffer> {
    match array.data_type() {
        DataType::Utf8 => bytes(array.as_string_opt::<i32>()?, test),
        DataType::LargeUtf8 => bytes(array.as_string_opt::<i64>()?, test),
        DataType::Utf8View => bytes(array.as_string_view_opt()?, test),
        DataType::Binary => bytes(array.as_binary_opt::<i32>()?, test),
        DataType::LargeBinary => bytes(array.as_binary_opt::<i64>()?, test),
        DataType::BinaryView => bytes(array.as_binary_view_opt()?, test),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary_opt()?, test),
        _ => None,
    }
}

fn bytes<'a, A, B>(array: A, test: &Test) -> Option<BooleanBuffer>
where
    A: ArrayAccessor<Item = &'a B>,
    B: AsRef<[u8]> + ?Sized + 'a,
{
    let every = |f: &dyn Fn(&[u8]) -> bool| {
        Some(BooleanBuffer::collect_bool(array.len(), |i| f(array.value(i).as_ref())))
    };
    match test {
        Test::Compare(cmp, value) => {
            let value = literal_bytes(value)?;
            let value = value.as_slice();
            match cmp {
                Cmp::Less => every(&|v| v < value),
                Cmp::LessEq => every(&|v| v <= value),
                Cmp::Greater => every(&|v| v > value),
                Cmp::GreaterEq => every(&|v| v >= value),
                Cmp::Eq => every(&|v| v == value),
                Cmp::NotEq => every(&|v| v != value),
            }
        }
        Test::StartsWith(value) => {
            let prefix = literal_bytes(value)?;
            every(&|v| v.starts_with(&prefix))
        }
        Test::NotStartsWith(value) => {
            let prefix = literal_bytes(value)?;
            every(&|v| !v.starts_with(&prefix))
        }
        Test::In(values) | Test::NotIn(values) => {
            let wanted = matches!(test, Test::In(_));
            let members: HashSet<Vec<u8>> =
                values.iter().map(literal_bytes).collect::<Option<_>>()?;
            every(&|v| members.contains(v) == wanted)
        }
        _ => None,
    }
}

/// A literal as the bytes that an Arrow array holds for it: a uuid is its 16 bytes, high first.
fn literal_bytes(value: &PrimitiveLiteral) -> Option<Vec<u8>> {
    match value {
        PrimitiveLiteral::UInt128(v) => Some(v.to_be_bytes().to_vec()),
        other => bytes_of(other).map(<[u8]>::to_vec),
    }
}
