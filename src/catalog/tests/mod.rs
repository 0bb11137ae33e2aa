//! What no contract can ask: faults, foreign files, old layouts, hostile bytes.

mod foreign;
mod hostile;
mod pointer;
#[cfg(feature = "sqlite")]
mod sql;
