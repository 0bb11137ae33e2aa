//! Comes with the floor below.
#![allow(dead_code)]
use super::failure::Outcome;
use super::session::Session;
use clap::Args;
/// Comes with the floor below.
#[derive(Debug, Args)]
pub(super) struct Delete {}
impl Delete {
    pub(super) async fn run(self, _s: &Session) -> Outcome {
        Ok(())
    }
}
