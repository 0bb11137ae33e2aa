//! Random histories against a plain in-memory model: after every step the scan gives exactly the
//! model's rows, at every snapshot that is kept.

mod support;

use meltwater::Result;
use proptest::prelude::*;
use support::history::{Op, Pair, any_op};
use support::{AMOUNT, ID, NAME, REGION};

fn run(seed: u64, ops: &[Op]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime starts")
        .block_on(async { Pair::play(seed, ops).await?.check_past().await })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn scans_equal_the_model_after_every_step(
        seed in any::<u64>(),
        ops in prop::collection::vec(any_op(), 1..25),
    ) {
        if let Err(error) = run(seed, &ops) {
            return Err(TestCaseError::fail(format!("{error:?}")));
        }
    }
}

#[test]
fn the_key_and_the_value_columns_are_what_the_model_thinks() {
    assert_eq!([ID, REGION, AMOUNT, NAME], [1, 2, 3, 4]);
}
