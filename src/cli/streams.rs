//! `streams`: who follows a table, and how far behind.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use super::follow::words;
use super::session::Session;
use super::terminal::{Listing, say};
use super::time::show_ms;
use crate::error::{Error, ErrorKind};
use crate::spec::{MAIN_BRANCH, refs_of};
use crate::stream::Lag;
use crate::table::{PositionStore, Table, Token};

/// List, reset or remove named streams.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Streams {
    /// NAMESPACE.TABLE, a table folder or a metadata file
    table: Option<String>,
    #[command(flatten)]
    at: PositionFlags,
    #[command(subcommand)]
    action: Option<Action>,
}

/// Where positions are.
#[derive(Debug, Args)]
struct PositionFlags {
    /// Where positions are stored [default: meltwater-positions beside the SQLite catalog]
    #[arg(long, value_name = "DIR")]
    positions: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a stream somewhere else; a follower that holds the name stops
    Reset {
        /// NAMESPACE.TABLE, a table folder or a metadata file
        table: String,
        /// The stream
        name: String,
        /// Where to: earliest, latest, full, after:ID or since:TIME
        #[arg(long, value_name = "START")]
        to: String,
        #[command(flatten)]
        at: PositionFlags,
    },
    /// Forget a stream; a follower that holds the name stops
    Remove {
        /// NAMESPACE.TABLE, a table folder or a metadata file
        table: String,
        /// The stream
        name: String,
        #[command(flatten)]
        at: PositionFlags,
    },
}

impl Streams {
    /// Lists, resets or removes.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        match (self.action, self.table) {
            (Some(Action::Reset { table, name, to, at }), _) => {
                let (table, store) = open(session, &table, &at).await?;
                reset(&table, &store, &name, &to).await
            }
            (Some(Action::Remove { table, name, at }), _) => {
                let (table, store) = open(session, &table, &at).await?;
                if !store.remove(&table, &name).await? {
                    return Err(unknown(&table, &name));
                }
                say(format!("forgot the stream `{name}`"));
                Ok(())
            }
            (None, Some(table)) => {
                let (table, store) = open(session, &table, &self.at).await?;
                list(&table, &store).await?.print(session.output)
            }
            (None, None) => Err(Failure::Usage("name a table: meltwater streams NS.T".into())),
        }
    }
}

async fn open(
    session: &Session,
    name: &str,
    at: &PositionFlags,
) -> Outcome<(Table, PositionStore)> {
    let table = session.readable(name).await?;
    let store = session.positions(name, at.positions.as_deref())?;
    Ok((table, store))
}

fn unknown(table: &Table, name: &str) -> Failure {
    let message = format!("no stream `{name}` of table `{}` is stored here", table.ident());
    let hint = format!("`meltwater streams {}` lists them", table.ident());
    Error::new(ErrorKind::NotFound, message).with_hint(hint).into()
}

async fn list(table: &Table, store: &PositionStore) -> Outcome<Listing> {
    let mut listing = Listing::new(&[
        "name",
        "branch",
        "held",
        "stored_at",
        "snapshots_behind",
        "rows_behind",
        "seconds_behind",
        "needs_snapshot",
    ]);
    for position in store.positions_of(table).await? {
        let (branch, lag) = behind(table, &position.token)?.unzip();
        let needs = position.oldest_needed(table).map(|s| s.snapshot_id());
        listing.push(vec![
            json!(position.name),
            json!(branch),
            json!(position.is_held),
            json!(show_ms(position.stored_at_ms)),
            json!(lag.map(|lag| lag.snapshots)),
            json!(lag.map(|lag| lag.rows)),
            json!(lag.map(|lag| lag.behind.as_millis() as f64 / 1e3)),
            needs.map_or(Value::Null, Value::from),
        ]);
    }
    Ok(listing)
}

/// The branch that a token lies on, `main` before others, and how far behind its head; none if
/// its history expired.
fn behind(table: &Table, token: &Token) -> Outcome<Option<(String, Lag)>> {
    let refs = refs_of(table.metadata())?;
    let others = refs.keys().map(String::as_str).filter(|name| *name != MAIN_BRANCH);
    let mut branches = std::iter::once(MAIN_BRANCH).chain(others);
    Ok(branches.find_map(|name| Some((name.to_string(), table.stream_lag(token, name).ok()?))))
}

/// The new position keeps the promise of the old one: emission, key, order and filter.
async fn reset(table: &Table, store: &PositionStore, name: &str, to: &str) -> Outcome {
    let stored = store.load(table, name).await?.ok_or_else(|| unknown(table, name))?;
    let branch = behind(table, &stored.token)?.map_or(MAIN_BRANCH.to_string(), |(name, _)| name);
    let start = words::start(to)?;
    let place = table.stream().branch(branch).start(start).open().await?.token().place(0);
    let place = place.ok_or_else(|| Error::internal("a start without a place"))?;
    let (uuid, promise) = (table.metadata().uuid(), stored.token.fingerprint());
    let token = Token::new(uuid, promise, stored.token.groups(), place);
    store.reset(table, name, &token).await?;
    say(format!("the stream `{name}` goes on at {to}"));
    Ok(())
}
