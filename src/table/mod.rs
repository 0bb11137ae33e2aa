//! Files to snapshots: history, refs, transaction, operations, validation.
