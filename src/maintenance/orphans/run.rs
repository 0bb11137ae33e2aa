//! Lists, finds out what is named, and deletes the rest.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::listing::{Look, Sieve};
use super::places::Places;
use super::report::{OrphanFile, OrphanPlan, OrphanReport};
use super::{FLOOR, OrphanOptions, RemoveOrphans, reach};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::paths::{fingerprint, normal, split};
use crate::maintenance::sweep::Sweep;
use crate::maintenance::{Report, Stopwatch, Totals, Unit};
use crate::spec::{NamespaceIdent, TableIdent, TableMetadata, TableRequirement, property};
use crate::table::Table;

/// Tables that are looked at at the same time.
const LOADERS: usize = 8;

/// See [`RemoveOrphans::plan`].
#[tracing::instrument(name = "maintenance.find_orphans", skip_all, err(level = "debug"),
    fields(table = %orphans.table.ident()))]
pub(super) async fn plan(orphans: &RemoveOrphans) -> Result<OrphanPlan> {
    let (options, progress) = (&orphans.options, &orphans.progress);
    refuse_young(options)?;
    let table = orphans.table.refresh().await?;
    table.check_gc_enabled()?;
    refuse_foreign(&table).await?;
    refuse_shared(&table).await?;

    let location = table.metadata().location().trim_end_matches('/').to_string();
    let (root, folder) = place(&location)?;
    let sieve = Sieve::new(&table, &folder, options.older_than);
    let mut places = Places::new(&root, &options.equal_prefixes);
    let (mut listed, mut young, mut hidden) = (0, 0, 0);
    progress.begin("listing", Unit::Files, None);
    let mut files = table.storage().list(&location)?;
    while let Some(file) = files.try_next().await? {
        listed += 1;
        progress.advance(1);
        let (_, path) = place(&file.location)?;
        match sieve.look(&file, &path) {
            Look::Candidate => places.add(&path),
            Look::Young => young += 1,
            Look::Hidden => hidden += 1,
        }
    }
    // Loaded after the listing: what was listed and is committed by now is named (MNT-30).
    let table = table.refresh().await?;
    table.check_gc_enabled()?;
    if normal(table.metadata().location().trim_end_matches('/')) != normal(&location) {
        return Err(Error::new(ErrorKind::CommitConflict, "the table moved while it was listed")
            .with_context("was", &location)
            .with_hint("run it again"));
    }
    reach::name_all(&table, &mut places).await?;
    let prints = places.orphans(options.prefix_mismatch)?.into_keys().collect();
    let prints: Arc<std::collections::HashSet<u128>> = Arc::new(prints);
    let orphans = prints.len() as u64;
    let table = table.ident().to_string();
    Ok(OrphanPlan { table, location, listed, young, hidden, orphans, sieve, prints })
}

fn place(location: &str) -> Result<(String, String)> {
    split(location).ok_or_else(|| {
        Error::invalid("the table's folder cannot be listed").with_context("location", location)
    })
}

/// See [`RemoveOrphans::files`].
pub(super) fn files(
    orphans: &RemoveOrphans,
    plan: &OrphanPlan,
) -> Result<BoxStream<'static, Result<OrphanFile>>> {
    let listing = orphans.table.storage().list(&plan.location)?;
    let (sieve, prints) = (plan.sieve.clone(), plan.prints.clone());
    let orphan = move |file: crate::storage::ObjectInfo| {
        let found = split(&file.location).is_some_and(|(_, path)| {
            // Looked at again: a name may have been written anew since.
            prints.contains(&fingerprint(&path)) && sieve.look(&file, &path) == Look::Candidate
        });
        let file = OrphanFile {
            location: file.location,
            bytes: file.size,
            last_modified_ms: file.last_modified_ms,
        };
        std::future::ready(Ok(found.then_some(file)))
    };
    Ok(listing.try_filter_map(orphan).boxed())
}

/// See [`RemoveOrphans::run_plan`].
pub(super) async fn run_plan(orphans: &RemoveOrphans, plan: &OrphanPlan) -> Result<OrphanReport> {
    let table = &orphans.table;
    let watch = Stopwatch::start(table);
    if plan.table != table.ident().to_string() {
        return Err(Error::invalid("the plan was made for another table")
            .with_context("plan", &plan.table)
            .with_context("table", table.ident())
            .with_hint("plan on the table that is to be cleaned"));
    }
    let mut report = Report::new("remove-orphans", table);
    let sweep = Sweep::new(table.storage(), &orphans.progress);
    let removed = |file: &OrphanFile| {
        report.before += Totals { files: 1, rows: 0, bytes: file.bytes };
    };
    let swept = sweep.run(files(orphans, plan)?, removed).await;
    report.failed = swept.failed;
    report.stopped = swept.stopped;
    report.finish(&watch);
    let OrphanPlan { listed, young, hidden, .. } = *plan;
    Ok(OrphanReport { report, listed, young, hidden })
}

fn refuse_young(options: &OrphanOptions) -> Result<()> {
    if options.older_than >= FLOOR || options.allow_younger {
        return Ok(());
    }
    let age = |age: Duration| match age.as_secs_f64() / 3_600.0 {
        hours if hours < 24.0 => format!("{hours:.1} hours"),
        hours => format!("{:.1} days", hours / 24.0),
    };
    Err(Error::invalid("a file so young may still be on its way into the table")
        .with_context("older than", age(options.older_than))
        .with_context("floor", age(FLOOR))
        .with_hint("if no writer is at work, say so with `--allow-younger`"))
}

/// A table that another catalog manages may be further than we can see.
async fn refuse_foreign(table: &Table) -> Result<()> {
    let same = vec![TableRequirement::UuidMatch { uuid: table.metadata().uuid() }];
    // Changes nothing, but only where something could be changed.
    table.catalog().commit(table.ident(), same, Vec::new()).await.map(|_| ())
}

/// Refuses a folder that another table of the catalog shares: its files would be orphans here
/// (MNT-33).
async fn refuse_shared(table: &Table) -> Result<()> {
    let catalog = table.catalog();
    let ours = format!("{}/", normal(table.metadata().location().trim_end_matches('/')));
    let others = match all_tables(&**catalog).await {
        // A catalog of one table.
        Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(()),
        other => other?,
    };
    let others = others.into_iter().filter(|ident| ident != table.ident());
    let location = |ident: TableIdent| async move {
        match catalog.load_table(&ident).await {
            Ok(loaded) => Ok(Some((ident, folders(&loaded.metadata)))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::new(e.kind(), "where another table lies cannot be told")
                .with_context("other table", &ident)
                .with_hint("its files might be in this folder: repair or drop that table first")
                .with_source(e)),
        }
    };
    let mut found = stream::iter(others).map(location).buffer_unordered(LOADERS);
    while let Some(other) = found.try_next().await? {
        let Some((ident, theirs)) = other else { continue };
        let (at, theirs) = theirs;
        let shared = theirs.into_iter().find(|folder| folder.starts_with(&ours));
        let shared = shared.or_else(|| ours.starts_with(&at).then_some(at));
        if let Some(theirs) = shared {
            return Err(Error::invalid("two tables share a folder")
                .with_context("table", table.ident())
                .with_context("other table", ident)
                .with_context("folder", theirs.trim_end_matches('/'))
                .with_hint("files of one look like orphans of the other: neither can be cleaned"));
        }
    }
    Ok(())
}

/// Where a table lies, and where all of its files may go.
fn folders(metadata: &TableMetadata) -> (String, Vec<String>) {
    let folder = |location: &str| format!("{}/", normal(location.trim_end_matches('/')));
    let at = folder(metadata.location());
    let paths = [property::DATA_PATH, property::METADATA_PATH];
    let paths = paths.iter().filter_map(|name| metadata.properties().get(*name));
    (at.clone(), std::iter::once(at).chain(paths.map(|path| folder(path))).collect())
}

/// Every table of a catalog.
pub(in crate::maintenance) async fn all_tables(catalog: &dyn Catalog) -> Result<Vec<TableIdent>> {
    let mut tables = Vec::new();
    let mut next: Vec<NamespaceIdent> = catalog.list_namespaces(None).await?;
    while let Some(namespace) = next.pop() {
        tables.extend(catalog.list_tables(&namespace).await?);
        next.extend(catalog.list_namespaces(Some(&namespace)).await?);
    }
    Ok(tables)
}
