//! The nouns of the Iceberg specification: what we take from the `iceberg` crate, and the few
//! that we hold in a form of our own because a table of many files needs them small.
//!
//! Nothing above this floor names the `iceberg` crate; it names `crate::spec`.

mod data_file;
mod id_map;
mod ids;
mod partition;
mod properties;
mod refs;
mod stable_hash;
mod value;

pub use data_file::{DataFile, ManifestEntry, ManifestStatus};
pub use id_map::{IdBytes, IdMap, IdSet};
pub use ids::{SequenceNumber, SnapshotId};
pub(crate) use partition::encoded_name;
pub(crate) use partition::promoted;
pub use partition::{PartitionKey, partition_path, partition_types};
pub use properties::{TableProperties, property};
pub use refs::{MAIN_BRANCH, refs_of, snapshots_of};
pub use stable_hash::StableHasher;
pub use value::{datum_from_bound, datum_of, datum_to_bound};

pub use iceberg::expr::{
    BinaryExpression, Bind, BoundPredicate, BoundReference, Predicate, PredicateOperator,
    Reference, SetExpression, UnaryExpression,
};
pub use iceberg::spec::{
    DataContentType, DataFileFormat, Datum, FieldSummary, FormatVersion, ListType, Literal,
    ManifestContentType, ManifestFile, MapType, MappedField, NameMapping, NestedField,
    NestedFieldRef, NullOrder, Operation, PartitionField, PartitionSpec, PartitionSpecRef,
    PrimitiveLiteral, PrimitiveType, Schema, SchemaRef, Snapshot, SnapshotRef, SnapshotReference,
    SnapshotRetention, SortDirection, SortField, SortOrder, SortOrderRef, StatisticsFile, Struct,
    StructType, Summary, TableMetadata, TableMetadataBuildResult, TableMetadataBuilder,
    TableMetadataRef, Transform, Type, UnboundPartitionField, UnboundPartitionSpec,
};
pub use iceberg::transform::{BoxedTransformFunction, create_transform_function};
pub use iceberg::{NamespaceIdent, TableCreation, TableIdent, TableRequirement, TableUpdate};
