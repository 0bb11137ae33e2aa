//! The `meltwater` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    meltwater::cli::run()
}
