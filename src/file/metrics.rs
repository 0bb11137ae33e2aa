//! Statistics of a file that Iceberg keeps: counts, sizes, and bounds that are right.
//!
//! Bounds and NaN counts are gathered here from the rows themselves, because the Parquet
//! crate's own statistics cut long values and drop what they cut. Counts and sizes are taken
//! from the finished footer. Memory: two values per column.
//!
//! # Source
//! Iceberg spec v2, "Manifests", fields 108, 109, 110, 137, 125 and 128.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowNumericType, ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type,
    Float64Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use parquet::file::metadata::ParquetMetaData;

use super::leaf::leaf_at;
use super::options::{MetricsMode, WriterOptions};
use super::truncate::{bytes_lower, bytes_upper, text_lower, text_upper};
use crate::spec::{DataFile, IdBytes, IdMap, NestedFieldRef, PrimitiveType, Schema, Type};

/// Gathers bounds and NaN counts of every leaf column while batches pass (FIL-9).
#[derive(Debug)]
pub(crate) struct MetricsCollector {
    leaves: Vec<Leaf>,
}

/// Lower and upper bound as single-value binary.
pub(crate) type WholeBounds = (Vec<u8>, Vec<u8>);

/// One leaf column, in Parquet order.
#[derive(Debug)]
struct Leaf {
    field_id: i32,
    primitive: PrimitiveType,
    /// Child indices from the batch down.
    path: Vec<usize>,
    /// Below a list or map: counted by Parquet, without bounds (as the reference does).
    repeated: bool,
    mode: MetricsMode,
    bounds: Option<(Value, Value)>,
    nans: u64,
}

/// A bound while it is being gathered; one column holds one variant.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Value {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

impl MetricsCollector {
    pub(crate) fn new(schema: &Schema, options: &WriterOptions) -> Self {
        let mut leaves = Vec::new();
        add_leaves(schema.as_struct().fields(), &[], false, options, &mut leaves);
        Self { leaves }
    }

    /// Takes a batch in the table's exact Arrow schema.
    pub(crate) fn update(&mut self, batch: &RecordBatch) {
        for leaf in &mut self.leaves {
            if leaf.repeated || leaf.mode == MetricsMode::None {
                continue;
            }
            let floats = is_float(&leaf.primitive);
            if leaf.mode == MetricsMode::Counts && !floats {
                continue;
            }
            if let Some(array) = leaf_at(batch, &leaf.path) {
                leaf.take(&array);
            }
        }
    }

    /// What was gathered about each leaf outside lists and maps: field id, whole bounds, NaNs.
    pub(crate) fn found(&self) -> impl Iterator<Item = (i32, Option<WholeBounds>, u64)> + '_ {
        self.leaves.iter().filter(|leaf| !leaf.repeated).map(|leaf| {
            let (low, high) = leaf.bounds();
            (leaf.field_id, low.zip(high), leaf.nans)
        })
    }

    /// Fills the statistics of `file` from what was gathered and from its footer.
    pub(crate) fn finish(self, footer: &ParquetMetaData, file: &mut DataFile) {
        let mut sizes = Vec::new();
        let (mut values, mut nulls, mut nans) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        for (index, leaf) in self.leaves.iter().enumerate() {
            let id = leaf.field_id;
            let Some(chunks) = Chunks::of(footer, index) else { continue };
            sizes.push((id, chunks.bytes));
            if leaf.mode == MetricsMode::None {
                continue;
            }
            values.push((id, chunks.values));
            nulls.extend(chunks.nulls.map(|n| (id, n)));
            if is_float(&leaf.primitive) && !leaf.repeated {
                nans.push((id, leaf.nans));
            }
            let (low, high) = leaf.bounds();
            lower.extend(low.map(|b| (id, b)));
            upper.extend(high.map(|b| (id, b)));
        }
        file.column_sizes = sizes.into_iter().collect::<IdMap>();
        file.value_counts = values.into_iter().collect();
        file.null_value_counts = nulls.into_iter().collect();
        file.nan_value_counts = nans.into_iter().collect();
        file.lower_bounds = lower.into_iter().collect::<IdBytes>();
        file.upper_bounds = upper.into_iter().collect();
    }
}

/// What the footer says about one leaf column of all row groups.
struct Chunks {
    bytes: u64,
    values: u64,
    /// Unknown when one row group does not tell.
    nulls: Option<u64>,
}

impl Chunks {
    fn of(footer: &ParquetMetaData, leaf: usize) -> Option<Self> {
        let mut sum = Self { bytes: 0, values: 0, nulls: Some(0) };
        for group in footer.row_groups() {
            let chunk = group.columns().get(leaf)?;
            sum.bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
            sum.values += u64::try_from(chunk.num_values()).unwrap_or(0);
            let nulls = chunk.statistics().and_then(|s| s.null_count_opt());
            sum.nulls = sum.nulls.zip(nulls).map(|(a, b)| a + b);
        }
        Some(sum)
    }
}

fn add_leaves(
    fields: &[NestedFieldRef],
    above: &[usize],
    repeated: bool,
    options: &WriterOptions,
    leaves: &mut Vec<Leaf>,
) {
    for (index, field) in fields.iter().enumerate() {
        let path = [above, &[index]].concat();
        match field.field_type.as_ref() {
            Type::Primitive(primitive) => leaves.push(Leaf {
                field_id: field.id,
                primitive: primitive.clone(),
                path,
                repeated,
                mode: options.metrics_mode(field.id),
                bounds: None,
                nans: 0,
            }),
            Type::Struct(nested) => {
                add_leaves(nested.fields(), &path, repeated, options, leaves);
            }
            Type::List(list) => {
                let element = std::slice::from_ref(&list.element_field);
                add_leaves(element, &path, true, options, leaves);
            }
            Type::Map(map) => {
                let parts = [map.key_field.clone(), map.value_field.clone()];
                add_leaves(&parts, &path, true, options, leaves);
            }
        }
    }
}

fn is_float(primitive: &PrimitiveType) -> bool {
    matches!(primitive, PrimitiveType::Float | PrimitiveType::Double)
}

impl Leaf {
    fn take(&mut self, array: &ArrayRef) {
        let found = match array.data_type() {
            DataType::Boolean => {
                let array = array.as_boolean();
                pair(compute::min_boolean(array), compute::max_boolean(array), Value::Bool)
            }
            DataType::Int32 => numbers::<Int32Type>(array, Value::Int),
            DataType::Date32 => numbers::<Date32Type>(array, Value::Int),
            DataType::Int64 => numbers::<Int64Type>(array, Value::Long),
            DataType::Time64(_) => numbers::<Time64MicrosecondType>(array, Value::Long),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                numbers::<TimestampMicrosecondType>(array, Value::Long)
            }
            DataType::Timestamp(_, _) => numbers::<TimestampNanosecondType>(array, Value::Long),
            DataType::Decimal128(..) => numbers::<Decimal128Type>(array, Value::Decimal),
            DataType::Float32 => {
                let (bounds, nans) = floats(array.as_primitive::<Float32Type>());
                self.nans += nans;
                bounds.map(|(a, b)| (Value::Float(a), Value::Float(b)))
            }
            DataType::Float64 => {
                let (bounds, nans) = floats(array.as_primitive::<Float64Type>());
                self.nans += nans;
                bounds.map(|(a, b)| (Value::Double(a), Value::Double(b)))
            }
            _ => return self.take_bytes(array),
        };
        if let Some((low, high)) = found {
            self.widen(low, high);
        }
    }

    /// Text and bytes: one pass, and a value is copied only when it moves a bound.
    fn take_bytes(&mut self, array: &ArrayRef) {
        match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                self.widen_bytes(array.iter().map(|v| v.map(str::as_bytes)));
            }
            DataType::Binary => self.widen_bytes(array.as_binary::<i32>().iter()),
            DataType::FixedSizeBinary(_) => {
                self.widen_bytes(array.as_fixed_size_binary().iter());
            }
            _ => {}
        }
    }

    fn widen_bytes<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8]>>) {
        let mut values = values.flatten();
        if self.bounds.is_none() {
            let Some(first) = values.next() else { return };
            let first = || Value::Bytes(first.to_vec());
            self.bounds = Some((first(), first()));
        }
        let Some((Value::Bytes(lowest), Value::Bytes(highest))) = &mut self.bounds else { return };
        let (mut low, mut high): (Option<&[u8]>, Option<&[u8]>) = (None, None);
        for value in values {
            if value < low.unwrap_or(lowest) {
                low = Some(value);
            } else if value > high.unwrap_or(highest) {
                high = Some(value);
            }
        }
        if let Some(low) = low {
            *lowest = low.to_vec();
        }
        if let Some(high) = high {
            *highest = high.to_vec();
        }
    }

    fn widen(&mut self, low: Value, high: Value) {
        match &mut self.bounds {
            Some((lowest, highest)) => {
                if low < *lowest {
                    *lowest = low;
                }
                if high > *highest {
                    *highest = high;
                }
            }
            None => self.bounds = Some((low, high)),
        }
    }

    fn bounds(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let Some((low, high)) = &self.bounds else { return (None, None) };
        let cut = match self.mode {
            MetricsMode::None | MetricsMode::Counts => return (None, None),
            MetricsMode::Full => usize::MAX,
            MetricsMode::Truncate(length) => length,
        };
        (low.lower(&self.primitive, cut), high.upper(&self.primitive, cut))
    }
}

impl Value {
    fn lower(&self, primitive: &PrimitiveType, cut: usize) -> Option<Vec<u8>> {
        match (self, primitive) {
            (Self::Bytes(bytes), PrimitiveType::String) => {
                Some(text_lower(std::str::from_utf8(bytes).ok()?, cut).as_bytes().to_vec())
            }
            (Self::Bytes(bytes), PrimitiveType::Uuid) => Some(bytes.clone()),
            (Self::Bytes(bytes), _) => Some(bytes_lower(bytes, cut).to_vec()),
            // Whichever zero came first, the lower bound is the lower zero.
            (Self::Float(v), _) if *v == 0.0 => Some((-0.0f32).to_le_bytes().to_vec()),
            (Self::Double(v), _) if *v == 0.0 => Some((-0.0f64).to_le_bytes().to_vec()),
            _ => self.encode(),
        }
    }

    fn upper(&self, primitive: &PrimitiveType, cut: usize) -> Option<Vec<u8>> {
        match (self, primitive) {
            (Self::Bytes(bytes), PrimitiveType::String) => {
                text_upper(std::str::from_utf8(bytes).ok()?, cut).map(String::into_bytes)
            }
            (Self::Bytes(bytes), PrimitiveType::Uuid) => Some(bytes.clone()),
            (Self::Bytes(bytes), _) => bytes_upper(bytes, cut),
            (Self::Float(v), _) if *v == 0.0 => Some(0.0f32.to_le_bytes().to_vec()),
            (Self::Double(v), _) if *v == 0.0 => Some(0.0f64.to_le_bytes().to_vec()),
            _ => self.encode(),
        }
    }

    /// Single-value binary of a number.
    fn encode(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Bool(v) => vec![u8::from(*v)],
            Self::Int(v) => v.to_le_bytes().to_vec(),
            Self::Long(v) => v.to_le_bytes().to_vec(),
            Self::Float(v) => v.to_le_bytes().to_vec(),
            Self::Double(v) => v.to_le_bytes().to_vec(),
            Self::Decimal(v) => minimal_twos_complement(*v),
            Self::Bytes(_) => return None,
        })
    }
}

/// Big-endian, without the bytes that only repeat the sign.
fn minimal_twos_complement(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xFF } else { 0 };
    let mut start = 0;
    while start < 15 && bytes[start] == sign && (bytes[start + 1] & 0x80) == (sign & 0x80) {
        start += 1;
    }
    bytes[start..].to_vec()
}

fn pair<T>(low: Option<T>, high: Option<T>, wrap: fn(T) -> Value) -> Option<(Value, Value)> {
    Some((wrap(low?), wrap(high?)))
}

fn numbers<T: ArrowNumericType>(
    array: &ArrayRef,
    wrap: fn(T::Native) -> Value,
) -> Option<(Value, Value)> {
    let array = array.as_primitive_opt::<T>()?;
    pair(compute::min(array), compute::max(array), wrap)
}

/// Bounds, if there are any, and the number of NaNs.
type FloatFacts<F> = (Option<(F, F)>, u64);

/// Least and greatest of what is neither null nor NaN, and how many NaNs there are.
fn floats<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> FloatFacts<T::Native>
where
    T::Native: PartialOrd,
{
    if array.null_count() == 0 {
        float_bounds(array.values().iter().copied())
    } else {
        float_bounds(array.iter().flatten())
    }
}

fn float_bounds<F: Copy + PartialOrd>(values: impl Iterator<Item = F>) -> FloatFacts<F> {
    let (mut bounds, mut nans): (Option<(F, F)>, u64) = (None, 0);
    for value in values {
        if value.partial_cmp(&value).is_none() {
            nans += 1;
            continue;
        }
        bounds = Some(match bounds {
            None => (value, value),
            Some((low, high)) => {
                (if value < low { value } else { low }, if value > high { value } else { high })
            }
        });
    }
    (bounds, nans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_encoded_in_as_few_bytes_as_keep_the_sign() {
        let table: &[(i128, &[u8])] = &[
            (0, &[0]),
            (1, &[1]),
            (127, &[127]),
            (128, &[0, 128]),
            (-1, &[255]),
            (-128, &[128]),
            (-129, &[255, 127]),
            (1420, &[0x05, 0x8C]),
        ];
        for (value, bytes) in table {
            assert_eq!(minimal_twos_complement(*value), *bytes, "{value}");
        }
        assert_eq!(minimal_twos_complement(i128::MIN).len(), 16);
    }
}
