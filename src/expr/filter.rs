//! The compiled filter: a bound predicate without NOT, with sorted sets, ready for every evaluator.
//!
//! In: a [`BoundPredicate`]. Out: a [`Filter`] that tests statistics and batches. Compile once,
//! ask often: a set of a million literals is sorted once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::order::Values;
use crate::spec::{
    BoundPredicate, BoundReference, PredicateOperator, PrimitiveLiteral, PrimitiveType,
};

/// A bound predicate in the form that evaluators share.
///
/// Cheap to clone. See [`might_match`](Self::might_match), [`must_match`](Self::must_match) and
/// [`evaluate`](Self::evaluate).
#[derive(Debug, Clone)]
pub struct Filter {
    pub(super) root: Arc<Node<Leaf>>,
}

/// One test of one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    pub(super) column: Column,
    pub(super) test: Test,
}

/// The column a test reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) kind: PrimitiveType,
}

impl Column {
    pub(super) fn is_float(&self) -> bool {
        is_float(&self.kind)
    }
}

/// True for the types that know NaN.
pub(super) fn is_float(kind: &PrimitiveType) -> bool {
    matches!(kind, PrimitiveType::Float | PrimitiveType::Double)
}

/// A boolean tree over tests of type `L`, without NOT.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<L> {
    True,
    False,
    All(Vec<Node<L>>),
    Any(Vec<Node<L>>),
    Leaf(L),
}

impl<L> Node<L> {
    /// The tree's value when `leaf` answers for the leaves.
    pub(super) fn holds(&self, leaf: &mut impl FnMut(&L) -> bool) -> bool {
        match self {
            Self::True => true,
            Self::False => false,
            Self::All(nodes) => nodes.iter().all(|n| n.holds(leaf)),
            Self::Any(nodes) => nodes.iter().any(|n| n.holds(leaf)),
            Self::Leaf(test) => leaf(test),
        }
    }

    /// The same tree with every leaf replaced by a tree.
    pub(super) fn map<M>(&self, leaf: &mut impl FnMut(&L) -> Node<M>) -> Node<M> {
        match self {
            Self::True => Node::True,
            Self::False => Node::False,
            Self::All(nodes) => Node::all(nodes.iter().map(|n| n.map(leaf)).collect()),
            Self::Any(nodes) => Node::any(nodes.iter().map(|n| n.map(leaf)).collect()),
            Self::Leaf(test) => leaf(test),
        }
    }

    /// Conjunction with constants folded and nested conjunctions flattened.
    pub(super) fn all(nodes: Vec<Self>) -> Self {
        let mut kept = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::True => {}
                Self::False => return Self::False,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::True,
            1 => kept.remove(0),
            _ => Self::All(kept),
        }
    }

    /// Disjunction, folded and flattened alike.
    pub(super) fn any(nodes: Vec<Self>) -> Self {
        let mut kept = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::False => {}
                Self::True => return Self::True,
                Self::Any(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::False,
            1 => kept.remove(0),
            _ => Self::Any(kept),
        }
    }
}

/// What is asked of one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    IsNull,
    NotNull,
    IsNan,
    NotNan,
    Compare(Cmp, PrimitiveLiteral),
    StartsWith(PrimitiveLiteral),
    NotStartsWith(PrimitiveLiteral),
    In(Arc<Values>),
    NotIn(Arc<Values>),
}

/// A comparison with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmp {
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Eq,
    NotEq,
}

impl Filter {
    /// Compiles a bound predicate. Any NOT in it is pushed down to the tests first.
    pub fn new(filter: &BoundPredicate) -> Self {
        Self { root: Arc::new(compile(filter, false)) }
    }

    /// The field ids of the columns that the filter reads.
    pub fn field_ids(&self) -> BTreeSet<i32> {
        let mut ids = BTreeSet::new();
        visit(&self.root, &mut |leaf| {
            ids.insert(leaf.column.id);
        });
        ids
    }

    /// The field ids of the columns of which the filter asks for certain values, by `=` or `IN`.
    pub fn point_ids(&self) -> BTreeSet<i32> {
        let mut ids = BTreeSet::new();
        visit(&self.root, &mut |leaf| {
            if matches!(leaf.test, Test::Compare(Cmp::Eq, _) | Test::In(_)) {
                ids.insert(leaf.column.id);
            }
        });
        ids
    }

    /// True if the filter lets every row pass.
    pub fn is_always_true(&self) -> bool {
        matches!(*self.root, Node::True)
    }

    /// True if the filter lets no row pass.
    pub fn is_always_false(&self) -> bool {
        matches!(*self.root, Node::False)
    }
}

fn visit(node: &Node<Leaf>, see: &mut impl FnMut(&Leaf)) {
    match node {
        Node::True | Node::False => {}
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|n| visit(n, see)),
        Node::Leaf(leaf) => see(leaf),
    }
}

/// Compiles `filter`, or its negation.
pub(super) fn compile(filter: &BoundPredicate, negated: bool) -> Node<Leaf> {
    match filter {
        BoundPredicate::AlwaysTrue if negated => Node::False,
        BoundPredicate::AlwaysFalse if negated => Node::True,
        BoundPredicate::AlwaysTrue => Node::True,
        BoundPredicate::AlwaysFalse => Node::False,
        BoundPredicate::Not(inner) => compile(inner.inputs()[0], !negated),
        BoundPredicate::And(pair) => join(pair.inputs(), negated, !negated),
        BoundPredicate::Or(pair) => join(pair.inputs(), negated, negated),
        BoundPredicate::Unary(e) => leaf(e.term(), operator(e.op(), negated), std::iter::empty()),
        BoundPredicate::Binary(e) => leaf(
            e.term(),
            operator(e.op(), negated),
            std::iter::once(e.literal().literal().clone()),
        ),
        BoundPredicate::Set(e) => leaf(
            e.term(),
            operator(e.op(), negated),
            e.literals().iter().map(|d| d.literal().clone()),
        ),
    }
}

fn join(inputs: [&BoundPredicate; 2], negated: bool, conjunction: bool) -> Node<Leaf> {
    let nodes = inputs.map(|input| compile(input, negated)).into();
    if conjunction { Node::all(nodes) } else { Node::any(nodes) }
}

fn operator(op: PredicateOperator, negated: bool) -> PredicateOperator {
    if negated { op.negate() } else { op }
}

fn leaf(
    term: &BoundReference,
    op: PredicateOperator,
    mut literals: impl Iterator<Item = PrimitiveLiteral>,
) -> Node<Leaf> {
    use PredicateOperator as Op;
    let Some(kind) = term.field().field_type.as_primitive_type() else {
        return Node::False; // only primitive columns can be bound
    };
    let test = match op {
        Op::IsNull => Test::IsNull,
        Op::NotNull => Test::NotNull,
        Op::IsNan => Test::IsNan,
        Op::NotNan => Test::NotNan,
        Op::In => Test::In(Arc::new(Values::new(literals))),
        Op::NotIn => Test::NotIn(Arc::new(Values::new(literals))),
        binary => match literals.next() {
            None => return Node::False,
            Some(value) => binary_test(binary, value),
        },
    };
    let column = Column { id: term.field().id, name: term.to_string(), kind: kind.clone() };
    Node::Leaf(Leaf { column, test })
}

fn binary_test(op: PredicateOperator, value: PrimitiveLiteral) -> Test {
    use PredicateOperator as Op;
    match op {
        Op::LessThan => Test::Compare(Cmp::Less, value),
        Op::LessThanOrEq => Test::Compare(Cmp::LessEq, value),
        Op::GreaterThan => Test::Compare(Cmp::Greater, value),
        Op::GreaterThanOrEq => Test::Compare(Cmp::GreaterEq, value),
        Op::NotEq => Test::Compare(Cmp::NotEq, value),
        Op::StartsWith => Test::StartsWith(value),
        Op::NotStartsWith => Test::NotStartsWith(value),
        _ => Test::Compare(Cmp::Eq, value),
    }
}
