//! The help texts as a golden file: a change of words is a change to be seen in review.

use clap::CommandFactory;

use super::Cli;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/help.txt");

fn all_help() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = command.render_long_help().to_string();
    for sub in command.get_subcommands_mut() {
        if sub.get_name() != "help" {
            text.push_str(&format!("\n==== {} ====\n\n", sub.get_name()));
            text.push_str(&sub.render_long_help().to_string());
            let nested = sub.get_subcommands_mut().filter(|s| s.get_name() != "help");
            for nested in nested {
                text.push_str(&format!("\n---- {} ----\n\n", nested.get_name()));
                text.push_str(&nested.render_long_help().to_string());
            }
        }
    }
    text.lines().map(|line| line.trim_end().to_string() + "\n").collect()
}

#[test]
fn help_is_as_the_golden_file_says() {
    let help = all_help();
    if std::env::var_os("MELTWATER_BLESS").is_some() {
        std::fs::write(GOLDEN, &help).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        help == golden,
        "help differs from {GOLDEN}; run this test with MELTWATER_BLESS=1\n{help}"
    );
}

#[test]
fn flags_do_not_contradict_each_other() {
    Cli::command().debug_assert();
}
