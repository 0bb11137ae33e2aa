//! Tests of the commit engine on made-up files: manifests are real, data files need not exist.

mod commits;
mod conflicts;
mod epochs;
mod evolution;
mod faults;
pub(crate) mod kit;
mod refs;
mod rules;
