//! What no contract can ask: faults, foreign files, old layouts, hostile bytes.

mod foreign;
mod hostile;
mod pointer;
mod render;
#[cfg(feature = "sqlite")]
mod sql;
