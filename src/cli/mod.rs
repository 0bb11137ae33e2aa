//! What a person at a terminal does: the `meltwater` command.
//!
//! One file per command. A command parses its words, calls the public face of the library and
//! prints; data goes to stdout, words and progress to stderr. Nothing here knows the format.

mod action;
mod allocator;
mod alter;
mod canonical;
mod compact;
mod config;
mod conform;
mod convert_deletes;
mod create;
mod delete;
mod demo;
mod diff;
mod expire;
mod failure;
mod follow;
mod input;
mod inspect;
mod inspect_health;
mod maintain;
mod names;
mod output;
mod partition;
mod picture;
mod place;
mod quotes;
mod readable;
mod refs;
mod remove_orphans;
mod rewrite_manifests;
mod rewrite_position_deletes;
mod scan;
mod schema;
mod session;
mod shell;
mod size;
mod spelled;
mod streams;
mod terminal;
mod time;
mod verify;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use allocator::{give_memory_back, limit_arenas};
use failure::{Failure, Outcome};
use session::{Interrupt, Session};
use terminal::{OutputFormat, Words};

/// Streaming lakehouses on plain Apache Iceberg v2: write tables, read them merge-on-read.
#[derive(Debug, Parser)]
#[command(name = "meltwater", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed as described, 2 wrong usage, \
                        3 conflict worth retrying.")]
struct Cli {
    /// Where tables are registered: `sqlite:PATH?warehouse=URL` or `file:PATH`
    /// [default: sqlite:warehouse/catalog.db?warehouse=warehouse]
    #[arg(
        long,
        global = true,
        value_name = "URI",
        env = "MELTWATER_CATALOG",
        hide_env_values = true
    )]
    catalog: Option<String>,
    /// How answers are printed; `json` is stable
    #[arg(long, global = true, value_enum)]
    output: Option<OutputFormat>,
    /// Where a table's files lie if not where its metadata says (tables named by folder)
    #[arg(long, global = true, value_name = "FROM=TO")]
    map_prefix: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job on real data: flights scheduled, flown and cancelled
    Demo(demo::Demo),
    /// Make a table
    Create(create::Create),
    /// List namespaces and tables
    Ls(names::Ls),
    /// Add rows
    Append(write::Append),
    /// Add rows, replacing those with the same key
    Upsert(write::Upsert),
    /// Delete the rows that match a filter
    Delete(delete::Delete),
    /// Rewrite files of the wrong size and files with many deletes
    Compact(compact::Compact),
    /// Remove old snapshots and the files that only they needed
    Expire(expire::ExpireSnapshots),
    /// Remove files that nothing in the table names
    RemoveOrphans(remove_orphans::RemoveOrphans),
    /// Turn equality deletes into position deletes
    ConvertDeletes(convert_deletes::ConvertDeletes),
    /// Merge position deletes, and remove deletes that delete nothing
    RewritePositionDeletes(rewrite_position_deletes::RewritePositionDeletes),
    /// Sort the entries of manifests by partition, in files of a good size
    RewriteManifests(rewrite_manifests::RewriteManifests),
    /// Watch tables and run the maintenance that they need
    Maintain(maintain::Maintain),
    /// Check that all files of a table are there and hold what its metadata says
    Verify(verify::Verify),
    /// Print the rows that are alive
    Scan(scan::Scan),
    /// Print the changes of a table in order, as they are committed
    Follow(Box<follow::Follow>),
    /// Print what tells two snapshots of a table apart
    Diff(diff::Diff),
    /// List, reset or remove named streams
    Streams(streams::Streams),
    /// Look at a table's metadata
    Inspect(inspect::Inspect),
    /// Change schema, partition spec or properties
    Alter(alter::Alter),
    /// Make, move or drop a branch
    Branch(refs::Branch),
    /// Make or drop a tag
    Tag(refs::Tag),
    /// Rewind a branch to one of its ancestors
    Rollback(refs::Rollback),
    /// Give a table another name
    Rename(names::Rename),
    /// Take a table over by its metadata file
    Register(names::Register),
    /// Forget a table, and remove its files if asked to
    Drop(names::Drop),
    /// Print a completion script for a shell
    Completions(shell::Completions),
    /// Print the manual page
    Man(shell::Man),
}

/// Runs the command of this process's arguments; never panics on what a person types.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are answers, not mistakes.
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    log_to_stderr();
    limit_arenas();
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.spawn(give_memory_back());
            let outcome = runtime.block_on(cli.run());
            // A thread that waits for stdin must not hold the process back.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::from(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            use std::io::Write;
            let _ = Words.write_all(failure.message(terminal::coloured()).as_bytes());
            ExitCode::from(failure.exit_code())
        }
    }
}

impl Cli {
    async fn run(self) -> Outcome {
        let interrupt = Interrupt::listen();
        let session = Session::new(self.catalog, self.output, &self.map_prefix, interrupt.clone())?;
        let session = &session;
        match self.command {
            // Writers stop between batches and clean up after themselves.
            Command::Append(command) => command.run(session).await,
            Command::Upsert(command) => command.run(session).await,
            Command::Delete(command) => command.run(session).await,
            Command::Compact(command) => command.run(session).await,
            Command::Expire(command) => command.run(session).await,
            Command::RemoveOrphans(command) => command.run(session).await,
            Command::ConvertDeletes(command) => command.run(session).await,
            Command::RewritePositionDeletes(command) => command.run(session).await,
            Command::RewriteManifests(command) => command.run(session).await,
            Command::Maintain(command) => command.run(session).await,
            Command::Verify(command) => command.run(session).await,
            Command::Demo(command) => command.run(session).await,
            // Ends cleanly by itself, with the position stored.
            Command::Follow(command) => command.run(session).await,
            Command::Streams(command) => command.run(session).await,
            // One commit each: over before a person could mean to stop it.
            Command::Create(command) => command.run(session).await,
            Command::Alter(command) => command.run(session).await,
            Command::Branch(command) => command.run(session).await,
            Command::Tag(command) => command.run(session).await,
            Command::Rollback(command) => command.run(session).await,
            Command::Rename(command) => command.run(session).await,
            Command::Register(command) => command.run(session).await,
            Command::Drop(command) => command.run(session).await,
            // Readers may be dropped anywhere.
            Command::Ls(command) => interrupt.or_stop(command.run(session)).await,
            Command::Scan(command) => interrupt.or_stop(command.run(session)).await,
            Command::Diff(command) => interrupt.or_stop(command.run(session)).await,
            Command::Inspect(command) => interrupt.or_stop(command.run(session)).await,
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

/// `MELTWATER_LOG=meltwater=debug` prints what the library does.
fn log_to_stderr() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("MELTWATER_LOG") else { return };
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Words).try_init();
}

#[cfg(test)]
mod tests;
