//! The `meltwater` command.

fn main() {}
