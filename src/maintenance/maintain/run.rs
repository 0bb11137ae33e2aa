//! The loop: tables that come and go, each looked at in its own time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::event::{MaintainEvent, MaintainReport};
use super::turn::{self, Turned};
use super::{Maintainer, tables};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::TableIdent;
use crate::table::Table;

/// Tables that are worked on at the same time.
const WORKERS: usize = 2;

/// How often new tables are looked for.
const DISCOVER: Duration = Duration::from_secs(60);

/// An unchanged table is looked at after so many shortest intervals.
const IDLE: u32 = 10;

/// Pauses after failures: doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Pauses between two looks at the catalog's pointer.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What all tables share.
pub(super) struct Shared {
    pub maintainer: Maintainer,
    pub stop: watch::Receiver<bool>,
    report: Mutex<MaintainReport>,
    turns: Semaphore,
}

impl Shared {
    fn new(maintainer: Maintainer) -> (Arc<Self>, watch::Sender<bool>) {
        let (sender, stop) = watch::channel(false);
        let report = Mutex::default();
        (Arc::new(Self { maintainer, stop, report, turns: Semaphore::new(WORKERS) }), sender)
    }

    /// Tells the listener.
    pub fn tell(&self, event: &MaintainEvent) {
        if let Ok(mut report) = self.report.lock() {
            report.count(event);
        }
        (self.maintainer.listener)(event);
    }

    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        // The sender lives as long as the run.
        let _ = self.stop.clone().wait_for(|stopped| *stopped).await;
    }

    fn report(&self) -> MaintainReport {
        self.report.lock().map(|report| *report).unwrap_or_default()
    }

    async fn tables(&self) -> Result<Vec<TableIdent>> {
        tables::matching(&*self.maintainer.catalog, &self.maintainer.patterns).await
    }

    async fn load(&self, ident: &TableIdent) -> Result<Table> {
        let table = Table::load(self.maintainer.catalog.clone(), ident).await?;
        Ok(table.with_environment(self.maintainer.environment.clone()))
    }

    /// One look at a table, and what is due. Returns the version that it left behind.
    async fn look(&self, ident: &TableIdent) -> Result<(Table, Turned)> {
        let _turn = self.turns.acquire().await;
        let table = self.load(ident).await?;
        let turned = turn::turn(self, &table).boxed().await?;
        Ok((table.refresh().await?, turned))
    }
}

/// See [`Maintainer::once`].
pub(super) async fn once(
    maintainer: Maintainer,
    stop: impl Future<Output = ()> + Send,
) -> Result<MaintainReport> {
    let (shared, sender) = Shared::new(maintainer);
    let work = async {
        let tables = shared.tables().await?;
        if tables.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no table is meant")
                .with_context("asked for", shared.maintainer.patterns.join(", "))
                .with_hint("`meltwater ls` lists the tables that there are"));
        }
        for ident in tables {
            if shared.is_stopped() {
                break;
            }
            if let Err(error) = shared.look(&ident).await {
                shared.tell(&MaintainEvent::failed(&ident, None, &error));
            }
        }
        Ok(shared.report())
    };
    stopping(work, stop, &sender).await
}

/// See [`Maintainer::run`].
pub(super) async fn run(
    maintainer: Maintainer,
    stop: impl Future<Output = ()> + Send,
) -> Result<MaintainReport> {
    let (shared, sender) = Shared::new(maintainer);
    let work = async {
        let mut known: BTreeSet<TableIdent> = BTreeSet::new();
        let mut running: JoinSet<TableIdent> = JoinSet::new();
        let mut found = shared.tables().await?;
        while !shared.is_stopped() {
            for ident in found.drain(..) {
                if known.insert(ident.clone()) {
                    running.spawn(watch_table(shared.clone(), ident));
                }
            }
            tokio::select! {
                () = shared.stopped() => break,
                Some(Ok(gone)) = running.join_next() => { known.remove(&gone); }
                () = tokio::time::sleep(DISCOVER) => {}
            }
            match shared.tables().await {
                Ok(tables) => found = tables,
                Err(error) => tracing::warn!(%error, "the catalog was not listed"),
            }
        }
        while running.join_next().await.is_some() {}
        Ok(shared.report())
    };
    stopping(work, stop, &sender).await
}

/// Runs work to its end; once `stop` is ready, everybody is told so.
async fn stopping<T>(
    work: impl Future<Output = Result<T>>,
    stop: impl Future<Output = ()>,
    sender: &watch::Sender<bool>,
) -> Result<T> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = stop => {}
    }
    let _ = sender.send(true);
    work.await
}

/// Looks at one table again and again, until all is stopped; after a failure later (MNT-68).
async fn watch_table(shared: Arc<Shared>, ident: TableIdent) -> TableIdent {
    let mut failures = 0u32;
    while !shared.is_stopped() {
        // Never dropped half-way: its actions ask whether to stop before each commit.
        let looked = shared.look(&ident).await;
        let rest = async {
            match looked {
                Ok((table, turned)) => {
                    failures = if turned.failed { failures.saturating_add(1) } else { 0 };
                    if turned.failed {
                        tokio::time::sleep(pause(failures)).await;
                    }
                    wait_for_change(&table, turned.rest).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    shared.tell(&MaintainEvent::failed(&ident, None, &error));
                    tokio::time::sleep(pause(failures)).await;
                }
            }
        };
        tokio::select! {
            () = rest => {}
            () = shared.stopped() => {}
        }
    }
    ident
}

/// Rests for the interval, then until somebody commits, or ten intervals have passed.
async fn wait_for_change(table: &Table, interval: Duration) {
    tokio::time::sleep(interval).await;
    let mut watch = table.watch().every(LOOK.0, LOOK.1);
    tokio::select! {
        // A catalog that does not answer is asked again with the next look.
        _ = watch.changed() => {}
        () = tokio::time::sleep(interval.saturating_mul(IDLE)) => {}
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1).min(20));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!([1, 2, 3, 4].map(pause), [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!([11, 99, u32::MAX].map(pause), [LONGEST_PAUSE; 3]);
    }
}
