//! `completions` and `man`: what a shell and a manual reader want to know.

use std::io::Write;

use clap::{Args, CommandFactory};

use super::Cli;
use super::failure::Outcome;
use super::terminal::stdout;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    /// Prints the script.
    pub(super) fn run(self) -> Outcome {
        // The generator writes with `expect`; into memory that cannot fail.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "meltwater", &mut script);
        let mut out = stdout();
        out.write_all(&script)?;
        out.flush()?;
        Ok(())
    }
}

/// Print the manual page.
#[derive(Debug, Args)]
pub(super) struct Man {}

impl Man {
    /// Prints the page in roff: `meltwater man | man -l -`.
    pub(super) fn run(self) -> Outcome {
        let mut out = stdout();
        clap_mangen::Man::new(Cli::command()).render(&mut out)?;
        for command in Cli::command().get_subcommands() {
            clap_mangen::Man::new(command.clone()).render_description_section(&mut out)?;
            clap_mangen::Man::new(command.clone()).render_options_section(&mut out)?;
        }
        out.flush()?;
        Ok(())
    }
}
