//! A filter prepared for one partition spec: which manifests and partitions are worth opening,
//! and which match as a whole.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::filter::{Filter, Leaf, Node, Test, compile, is_float};
use super::project::{Projection, project};
use crate::error::Result;
use crate::spec::{
    BoundPredicate, FieldSummary, ManifestFile, PartitionSpec, PrimitiveType, Schema, Struct, Type,
    datum_from_bound,
};

/// One filter prepared for one partition spec.
///
/// A column may have several partition fields (`day(ts)` and `bucket(16, ts)`): all of them
/// prune. What cannot be projected (void and unknown transforms, columns without a partition
/// field, columns dropped since) prunes nothing and proves nothing.
#[derive(Debug, Clone)]
pub struct PartitionFilter {
    spec_id: i32,
    inclusive: Node<FieldTest>,
    strict: Node<FieldTest>,
    residual: Residual,
}

/// One test of one partition value.
#[derive(Debug, Clone, PartialEq)]
struct FieldTest {
    position: usize,
    /// `None` if the type is not primitive, which proves nothing.
    kind: Option<PrimitiveType>,
    test: Test,
}

/// The filter cut into parts, each with its projections.
#[derive(Debug, Clone)]
struct Residual {
    filter: BoundPredicate,
    inclusive: Node<FieldTest>,
    strict: Node<FieldTest>,
    parts: Vec<Residual>,
}

impl PartitionFilter {
    /// Projects `filter` through the transforms of `spec`, whose values have `partition_types`.
    ///
    /// The schema is the one the filter was bound to; fields are matched by id, so that a spec
    /// whose source column was dropped is fine.
    ///
    /// # Errors
    /// None today; a projection that fails prunes nothing.
    pub fn new(
        filter: &BoundPredicate,
        spec: &PartitionSpec,
        partition_types: &[Type],
        _schema: &Schema,
    ) -> Result<Self> {
        let residual = Residual::new(filter, spec, partition_types);
        Ok(Self {
            spec_id: spec.spec_id(),
            inclusive: residual.inclusive.clone(),
            strict: residual.strict.clone(),
            residual,
        })
    }

    /// Whether the manifest may list a file of a partition with matching rows. True for a
    /// manifest of another spec, or without partition summaries.
    pub fn manifest_might_match(&self, manifest: &ManifestFile) -> bool {
        let Some(summaries) = &manifest.partitions else { return true };
        if manifest.partition_spec_id != self.spec_id {
            return true;
        }
        self.inclusive.holds(&mut |test| match (summaries.get(test.position), &test.kind) {
            (Some(summary), Some(kind)) => of_summary(summary, kind).might_pass(&test.test),
            _ => true,
        })
    }

    /// Whether the partition may hold matching rows.
    pub fn partition_might_match(&self, values: &Struct) -> bool {
        might(&self.inclusive, values)
    }

    /// Whether every row of the partition matches, whatever else it holds.
    pub fn partition_must_match(&self, values: &Struct) -> bool {
        must(&self.strict, values)
    }

    /// What is left to check on the rows of a partition: parts of the filter that the partition
    /// decides are gone. `AlwaysTrue` if all rows match, `AlwaysFalse` if none does.
    pub fn residual(&self, values: &Struct) -> BoundPredicate {
        self.residual.of(values)
    }
}

fn might(node: &Node<FieldTest>, values: &Struct) -> bool {
    node.holds(&mut |test| of_value(values, test).is_none_or(|facts| facts.might_pass(&test.test)))
}

fn must(node: &Node<FieldTest>, values: &Struct) -> bool {
    node.holds(&mut |test| of_value(values, test).is_some_and(|facts| facts.must_pass(&test.test)))
}

/// The facts of one partition value; `None` if the values are fewer than the spec's fields.
fn of_value(values: &Struct, test: &FieldTest) -> Option<Facts> {
    test.kind.as_ref()?;
    match values.fields().get(test.position)? {
        None => Some(Facts::of_value(None)),
        Some(value) => Some(Facts::of_value(Some(value.as_primitive_literal()?))),
    }
}

/// The facts of all partition values of a manifest (EXP-13).
fn of_summary(summary: &FieldSummary, kind: &PrimitiveType) -> Facts {
    let decode = |bytes: Option<&[u8]>| {
        bytes.and_then(|b| datum_from_bound(b, kind)).map(|d| d.literal().clone())
    };
    let lower = summary.lower_bound.as_ref().map(|b| b.as_ref());
    let upper = summary.upper_bound.as_ref().map(|b| b.as_ref());
    let float = is_float(kind);
    let may_be_nan = float && summary.contains_nan != Some(false);
    let mut facts = Facts {
        lower: decode(lower),
        upper: decode(upper),
        may_be_null: summary.contains_null,
        may_be_nan,
        ..Facts::unknown(float)
    }
    .without_broken_bounds();
    // No bounds beside a null means that there is nothing to bound. For floats only if the
    // summary also speaks about NaN: then its writer knew the difference.
    let spoke_of_nan = !float || summary.contains_nan.is_some();
    if lower.is_none() && upper.is_none() && summary.contains_null && spoke_of_nan {
        facts.may_be_value = false;
    }
    facts
}

impl Residual {
    fn new(filter: &BoundPredicate, spec: &PartitionSpec, types: &[Type]) -> Self {
        let parts = match filter {
            BoundPredicate::And(pair) | BoundPredicate::Or(pair) => {
                pair.inputs().map(|part| Self::new(part, spec, types)).into()
            }
            _ => Vec::new(),
        };
        let join = |pick: fn(&Self) -> &Node<FieldTest>| {
            let nodes = parts.iter().map(|p| pick(p).clone()).collect();
            match filter {
                BoundPredicate::And(_) => Node::all(nodes),
                _ => Node::any(nodes),
            }
        };
        let (inclusive, strict) = if parts.is_empty() {
            let tree = compile(filter, false);
            (
                tree.map(&mut |leaf| project_leaf(leaf, spec, types).0),
                tree.map(&mut |leaf| project_leaf(leaf, spec, types).1),
            )
        } else {
            (join(|p| &p.inclusive), join(|p| &p.strict))
        };
        Self { filter: filter.clone(), inclusive, strict, parts }
    }

    fn of(&self, values: &Struct) -> BoundPredicate {
        if must(&self.strict, values) {
            return BoundPredicate::AlwaysTrue;
        }
        if !might(&self.inclusive, values) {
            return BoundPredicate::AlwaysFalse;
        }
        // A side that is decided goes; two undecided sides stay as they were written, because
        // the crate lets nobody else build a conjunction of bound predicates.
        let decided = match &self.filter {
            BoundPredicate::And(_) => BoundPredicate::AlwaysTrue,
            _ => BoundPredicate::AlwaysFalse,
        };
        match self.parts.as_slice() {
            [left, right] => match (left.of(values), right.of(values)) {
                (l, r) if l == decided => r,
                (l, r) if r == decided => l,
                _ => self.filter.clone(),
            },
            _ => self.filter.clone(),
        }
    }
}

/// The projections of one test through every partition field made from its column: a row that
/// passes is in a partition that passes all of the inclusive ones, and one strict one is enough.
fn project_leaf(
    leaf: &Leaf,
    spec: &PartitionSpec,
    types: &[Type],
) -> (Node<FieldTest>, Node<FieldTest>) {
    let mut inclusive = Vec::new();
    let mut strict = Vec::new();
    for (position, field) in spec.fields().iter().enumerate() {
        if field.source_id != leaf.column.id {
            continue;
        }
        let kind = types.get(position).and_then(|t| t.as_primitive_type()).cloned();
        let place = |node: Node<Test>| {
            node.map(&mut |test| {
                Node::Leaf(FieldTest { position, kind: kind.clone(), test: test.clone() })
            })
        };
        let Projection { inclusive: might, strict: must } = project(leaf, field.transform);
        inclusive.push(place(might));
        strict.push(place(must));
    }
    (Node::all(inclusive), Node::any(strict))
}

impl Filter {
    /// The partition fields of `spec` that this filter can prune by, for `explain`.
    pub fn partition_fields(&self, spec: &PartitionSpec) -> BTreeSet<String> {
        let ids = self.field_ids();
        let used = spec.fields().iter().filter(|field| ids.contains(&field.source_id));
        used.map(|field| field.name.clone()).collect()
    }
}
