//! Hashes that mean the same on every machine and in every version: tokens store what hangs on
//! them.

use std::hash::Hasher;

use twox_hash::XxHash64;

use super::{Literal, PartitionKey, PrimitiveLiteral};

/// XXH64 over parts that are told apart by their lengths. Stored in tokens: never to be changed
/// without a new token version.
#[derive(Debug, Clone)]
pub struct StableHasher(XxHash64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(XxHash64::with_seed(0))
    }
}

impl StableHasher {
    /// Adds bytes, after their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.write(&number.to_le_bytes());
        self
    }

    /// The hash of all that was added.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl PartitionKey {
    /// A hash of spec and values that never changes: it decides which group of a stream a
    /// partition belongs to. Values that were promoted (int to long, float to double) hash alike.
    pub fn stable_hash(&self) -> u64 {
        let mut hasher = StableHasher::default();
        hasher.number(self.spec_id as u64);
        for value in self.values.iter() {
            match value {
                None => hasher.number(0),
                Some(Literal::Primitive(value)) => add(&mut hasher, value),
                // Partition values are primitive; anything else hashes by its printed form.
                Some(other) => hasher.number(9).bytes(format!("{other:?}").as_bytes()),
            };
        }
        hasher.finish()
    }
}

fn add<'a>(hasher: &'a mut StableHasher, value: &PrimitiveLiteral) -> &'a mut StableHasher {
    let float = |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
    match value {
        PrimitiveLiteral::Boolean(v) => hasher.number(1).number(u64::from(*v)),
        PrimitiveLiteral::Int(v) => hasher.number(2).number(i64::from(*v) as u64),
        PrimitiveLiteral::Long(v) => hasher.number(2).number(*v as u64),
        PrimitiveLiteral::Float(v) => hasher.number(3).number(float(f64::from(v.0))),
        PrimitiveLiteral::Double(v) => hasher.number(3).number(float(v.0)),
        PrimitiveLiteral::String(v) => hasher.number(4).bytes(v.as_bytes()),
        PrimitiveLiteral::Binary(v) => hasher.number(5).bytes(v),
        PrimitiveLiteral::Int128(v) => hasher.number(6).bytes(&v.to_le_bytes()),
        PrimitiveLiteral::UInt128(v) => hasher.number(7).bytes(&v.to_le_bytes()),
        PrimitiveLiteral::AboveMax => hasher.number(8).number(1),
        PrimitiveLiteral::BelowMin => hasher.number(8).number(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Struct;

    fn key(values: impl IntoIterator<Item = Option<Literal>>) -> PartitionKey {
        PartitionKey { spec_id: 1, values: Struct::from_iter(values) }
    }

    #[test]
    fn partition_hashes_are_pinned_because_tokens_store_them() {
        let day = key([Some(Literal::int(3)), Some(Literal::string("a"))]);
        assert_eq!(day.stable_hash(), PINNED);
        assert_eq!(
            day.stable_hash(),
            key([Some(Literal::long(3)), Some(Literal::string("a"))]).stable_hash()
        );
        assert_ne!(day.stable_hash(), key([Some(Literal::int(3)), None]).stable_hash());
        assert_ne!(
            key([Some(Literal::string("ab")), Some(Literal::string("c"))]).stable_hash(),
            key([Some(Literal::string("a")), Some(Literal::string("bc"))]).stable_hash()
        );
    }

    const PINNED: u64 = 6_313_312_934_170_114_796;
}
