//! Comes with the floor below.
#![allow(dead_code)]
use super::failure::Outcome;
use super::session::Session;
use clap::Args;
/// Comes with the floor below.
#[derive(Debug, Args)]
pub(super) struct Append {}
impl Append {
    pub(super) async fn run(self, _s: &Session) -> Outcome {
        Ok(())
    }
}
/// Comes with the floor below.
#[derive(Debug, Args)]
pub(super) struct Upsert {}
impl Upsert {
    pub(super) async fn run(self, _s: &Session) -> Outcome {
        Ok(())
    }
}
