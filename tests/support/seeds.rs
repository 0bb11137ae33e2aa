//! Properties over seeded cases: one seed decides everything, a failure is made small and prints
//! the line that replays it.

use meltwater::{Error, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs a property on seeded cases, each shrunk by itself: `MELTWATER_SEED` replays one,
/// `MELTWATER_CASES` tries more of them.
pub fn cases<S: Strategy>(name: &str, few: u64, strategy: S, law: impl Fn(S::Value) -> Result<()>) {
    let binary = env!("CARGO_CRATE_NAME");
    for seed in seeds(few) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 300,
            ..Config::default()
        };
        let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
            law(value).map_err(|error| TestCaseError::fail(format!("{error:?}")))
        });
        if let Err(error) = outcome {
            panic!("{error}\nreplay: MELTWATER_SEED={seed} cargo test --test {binary} {name}");
        }
    }
}

/// The seeds to try: the one that is asked for, or the first so many.
pub fn seeds(few: u64) -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    match (number("MELTWATER_SEED"), number("MELTWATER_CASES")) {
        (Some(seed), _) => seed..=seed,
        (None, cases) => 1..=cases.unwrap_or(few),
    }
}

/// Runs one case on a clock that nobody waits for.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|e| Error::internal("no runtime").with_source(e))?
        .block_on(work)
}
