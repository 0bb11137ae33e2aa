//! `demo`: the main job on real data in one go.
//!
//! A table of all flights that left New York in 2013, written as the airline would: the
//! schedule of the year is appended, then each day's departures and arrivals upsert it and
//! cancellations delete from it, while scans watch and a follower keeps a replica by changes
//! alone. In the middle the follower is killed and goes on from its token; at the end its replica
//! must be the table. The table stays.

mod airline;
mod board;
mod follower;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures::TryStreamExt;

use super::failure::{Failure, Outcome};
use super::names::ensure_namespace;
use super::partition::partition_spec;
use super::schema::schema_like;
use super::session::Session;
use super::terminal::say;
use crate::catalog::NewTable;
use crate::error::{Error, ErrorKind};
use crate::expr;
use crate::spec::{DataContentType, SnapshotId, TableIdent};
use crate::table::{RefUpdate, Table};
use crate::write::{AppendOptions, UpsertOptions};
use airline::{Airline, Day, KEY, News};
use board::{Board, Latencies};
use follower::Follower;

const TABLE: &str = "demo.flights";
const FOLDER: &str = "meltwater-demo";
const TAG: &str = "as-scheduled";

/// Show the main job on real data: flights scheduled, flown and cancelled.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where catalog and table go [default: ./meltwater-demo, or the next free name]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Days to fly, from the first of January
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
}

impl Demo {
    /// Runs the demo. Ctrl-C between two commits leaves a table that is as far as it got.
    pub(super) async fn run(self, session: &Session) -> Outcome {
        let folder = folder(self.dir)?;
        let uri = format!("sqlite:{0}/catalog.db?warehouse={0}", folder.display());
        let session = session.with_catalog(uri.clone());
        let airline = Airline::open()?;
        let mut show = Show::begin(&session, &folder, &airline).await?;
        show.publish_schedule(&airline).await?;
        show.fly(&airline, &session, usize::from(self.days)).await?;
        show.look_back().await?;
        show.prove_the_replica().await?;
        show.say_how_to_go_on(&uri);
        Ok(())
    }
}

/// An empty or new folder; a demo that is there is left alone.
fn folder(given: Option<PathBuf>) -> Outcome<PathBuf> {
    let taken = |path: &Path| path.join("catalog.db").exists();
    if let Some(path) = given {
        if taken(&path) {
            let message = format!("there is a demo in `{}` already", path.display());
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .with_hint("remove the folder, or name another with --dir")
                .into());
        }
        return Ok(path);
    }
    let names = (1..1000).map(|n| match n {
        1 => PathBuf::from(FOLDER),
        n => PathBuf::from(format!("{FOLDER}-{n}")),
    });
    names
        .into_iter()
        .find(|path| !taken(path))
        .ok_or_else(|| Failure::from(Error::invalid("a thousand demos are here; remove some")))
}

/// The demo on stage: the table, and what was measured.
struct Show {
    table: Table,
    follower: Option<Follower>,
    began: Instant,
    rows: usize,
    writing: Duration,
    commits: Latencies,
    scans: Latencies,
}

impl Show {
    async fn begin(session: &Session, folder: &Path, airline: &Airline) -> Outcome<Self> {
        let ident = TableIdent::from_strs(TABLE.split('.')).map_err(Error::from)?;
        let key = KEY.map(str::to_string);
        let mut new = NewTable::new(schema_like(&airline.schema(), &key)?);
        new.spec = partition_spec("month(time_hour)", &new.schema)?;
        std::fs::create_dir_all(folder)?;
        let catalog = session.catalog(true).await?;
        ensure_namespace(catalog.as_ref(), &ident).await?;
        let loaded = catalog.create_table(&ident, new).await?;
        say(format!(
            "Table {TABLE}: every flight that left New York City in 2013, {} rows in {} days, keyed by\n\
             {}, partitioned by month. Catalog and files are in {}/.\n",
            group(airline.days().iter().map(Day::scheduled).sum()),
            airline.days().len(),
            KEY.join(", "),
            folder.display(),
        ));
        let table = Table::from_loaded(catalog, ident, loaded);
        Ok(Self {
            follower: Some(Follower::start(&table)),
            table,
            began: Instant::now(),
            rows: 0,
            writing: Duration::ZERO,
            commits: Latencies::default(),
            scans: Latencies::default(),
        })
    }

    /// Appends the schedule, one commit per month, and tags the result.
    async fn publish_schedule(&mut self, airline: &Airline) -> Outcome {
        for month in 1..=12 {
            let schedule = airline.schedule(month)?;
            let began = Instant::now();
            let mut writer = self.table.append_writer(AppendOptions::default())?;
            self.rows += schedule.num_rows();
            writer.write(schedule).await?;
            let written = writer.close().await?;
            let written_at = Instant::now();
            let commit = self.table.append(written).summary("demo", "schedule");
            self.table = commit.discard_on_failure().commit().await?.table;
            self.note(began, written_at);
        }
        if let Some(snapshot) = self.table.current_snapshot() {
            let snapshot = SnapshotId(snapshot.snapshot_id());
            let tag = RefUpdate::CreateTag { name: TAG.into(), snapshot, max_ref_age_ms: None };
            self.table = self.table.update_ref(tag).await?;
        }
        say(format!(
            "Schedule published: {} rows appended in 12 commits, {} rows/s, tagged `{TAG}`.\n",
            group(self.rows),
            group(self.rows_per_second()),
        ));
        Ok(())
    }

    /// Flies day after day; each line is a scan of the day as the table has it now.
    async fn fly(&mut self, airline: &Airline, session: &Session, days: usize) -> Outcome {
        say("date        scheduled  flown  cancelled  delay   late   commit    scan");
        for (number, day) in airline.days().iter().take(days).enumerate() {
            self.disturb(number, days).await?;
            let commits = Instant::now();
            let news = airline.news(day)?;
            let count = u32::try_from(news.len()).unwrap_or(1).max(1);
            let mut cancelled = 0;
            for news in news {
                cancelled += news.cancellations();
                self.commit_news(&news).await?;
            }
            let per_commit = commits.elapsed() / count;
            let began = Instant::now();
            let filter = format!(
                "year = 2013 AND month = {} AND day = {} AND {}",
                day.month,
                day.day,
                hours(day)
            );
            let board = self.scan(&filter).await?;
            let scan = began.elapsed();
            self.scans.add(scan);
            say(format!(
                "2013-{:02}-{:02}  {:9}  {:5}  {cancelled:9}  {:+4.0} m  {:3.0} %  {:>6}  {:>6}",
                day.month,
                day.day,
                day.scheduled(),
                board.total.departed,
                board.total.mean_departure_delay(),
                board.total.late_percent(),
                millis(per_commit),
                millis(scan),
            ));
            if session.interrupt.is_asked() {
                say("stopped between two days; the table holds what was committed");
                return Err(Failure::Interrupted);
            }
        }
        Ok(())
    }

    /// Kills the follower in the middle of the days, and lets another go on a day later.
    async fn disturb(&mut self, day: usize, days: usize) -> Outcome {
        let Some(follower) = &mut self.follower else { return Ok(()) };
        if day == days / 2 {
            let changes = follower.kill().await?;
            let changes = group(usize::try_from(changes).unwrap_or_default());
            say(format!("  (the follower is killed after {changes} changes)"));
        }
        if day == (days / 2 + 1).min(days - 1) {
            follower.resume(2);
            say("  (another goes on from its token, on two lanes)");
        }
        Ok(())
    }

    /// Replaying the followed changes must have given exactly the table.
    async fn prove_the_replica(&mut self) -> Outcome {
        let Some(follower) = self.follower.take() else { return Ok(()) };
        let began = Instant::now();
        let replica = follower.prove(&self.table).await?;
        let number = |n: u64| group(usize::try_from(n).unwrap_or_default());
        say(format!(
            "Followed beside the writer: {} inserts, {} updates with old and new values, {} deletes;\n\
             first change seen {} after the commit (p50), {} (p95).",
            number(replica.inserted),
            number(replica.updated),
            number(replica.deleted),
            millis(replica.seen.percentile(50)),
            millis(replica.seen.percentile(95)),
        ));
        say(format!(
            "Replayed: the changes alone, across the kill, give exactly the table's {} rows ({} to catch\n\
             up and compare). {:.0} s in all.",
            group(replica.len()),
            millis(began.elapsed()),
            self.began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Commits what one window of a day brought: upserts and deletes by key in one snapshot.
    async fn commit_news(&mut self, news: &News) -> Outcome {
        let began = Instant::now();
        let mut writer = self.table.upsert_writer(UpsertOptions::default())?;
        for batch in &news.upserts {
            writer.write(batch.clone()).await?;
        }
        if let Some(keys) = &news.cancelled {
            writer.delete(keys.clone()).await?;
        }
        let written = writer.close().await?;
        let written_at = Instant::now();
        let commit = self
            .table
            .row_delta(written)
            .summary("demo.departures", news.departures.to_string())
            .summary("demo.arrivals", news.arrivals.to_string())
            .summary("demo.cancellations", news.cancellations().to_string());
        self.table = commit.discard_on_failure().commit().await?.table;
        self.rows += news.rows();
        self.note(began, written_at);
        Ok(())
    }

    fn note(&mut self, began: Instant, written: Instant) {
        self.writing += began.elapsed();
        self.commits.add(written.elapsed());
    }

    fn rows_per_second(&self) -> usize {
        (self.rows as f64 / self.writing.as_secs_f64().max(1e-9)) as usize
    }

    async fn scan(&self, filter: &str) -> Outcome<Board> {
        let filter = expr::parse(filter, self.table.schema())?;
        let scan = self
            .table
            .scan()
            .select(["carrier", "origin", "dest", "dep_delay", "arr_delay"])
            .filter(filter);
        let mut batches = scan.to_batches().await?;
        let mut board = Board::default();
        while let Some(batch) = batches.try_next().await? {
            board.add(&batch)?;
        }
        Ok(board)
    }

    /// One scan over everything that flew, and what the work cost.
    async fn look_back(&mut self) -> Outcome {
        let began = Instant::now();
        let board = self.scan("dep_time IS NOT NULL").await?;
        let took = began.elapsed();
        let list = |routes: Vec<(String, board::Tally)>| -> String {
            let show = |(name, t): &(String, board::Tally)| {
                format!("{name} {:+.0} min", t.mean_arrival_delay())
            };
            routes.iter().map(show).collect::<Vec<_>>().join(", ")
        };
        say(format!("\nWorst routes at arrival: {}", list(board.worst_routes(5))));
        say(format!("Best airlines at arrival: {}", list(board.best_carriers(3))));
        let live = self.table.scan().count().await?;
        say(format!(
            "Alive: {} flights; {} have flown (one scan of the year: {}).",
            group(usize::try_from(live).unwrap_or_default()),
            group(usize::try_from(board.total.departed).unwrap_or_default()),
            millis(took),
        ));
        let (data, positions, equality) = self.files().await?;
        say(format!(
            "Written: {} rows in {} commits, {} rows/s; commit p50 {}, p95 {}; scan of a day p50 {}.",
            group(self.rows),
            self.commits.count(),
            group(self.rows_per_second()),
            millis(self.commits.percentile(50)),
            millis(self.commits.percentile(95)),
            millis(self.scans.percentile(50)),
        ));
        say(format!(
            "Files: {data} data, {positions} position-delete, {equality} equality-delete."
        ));
        Ok(())
    }

    async fn files(&self) -> Outcome<(usize, usize, usize)> {
        let mut counts = (0, 0, 0);
        let Some(snapshot) = self.table.current_snapshot() else { return Ok(counts) };
        for manifest in self.table.manifests(snapshot).await?.iter() {
            for entry in self.table.entries(manifest).await?.iter().filter(|e| e.is_live()) {
                match entry.file.content {
                    DataContentType::Data => counts.0 += 1,
                    DataContentType::PositionDeletes => counts.1 += 1,
                    DataContentType::EqualityDeletes => counts.2 += 1,
                }
            }
        }
        Ok(counts)
    }

    fn say_how_to_go_on(&self, uri: &str) {
        let program = std::env::args().next().unwrap_or_else(|| "meltwater".to_string());
        say(format!(
            "\nThe table stays. Go on with it:\n\n  \
             export MELTWATER_CATALOG='{uri}'\n  \
             {program} scan {TABLE} --where \"dest = 'SFO' and dep_delay > 60\" --limit 10\n  \
             {program} scan {TABLE} --tag {TAG} --where \"origin = 'JFK' and dest = 'HNL'\" --limit 3\n  \
             {program} delete {TABLE} --where \"carrier = 'HA'\"\n  \
             {program} follow {TABLE} --from earliest --until caught-up --where \"dest = 'HNL'\"\n  \
             {program} inspect snapshots {TABLE}\n  \
             {program} inspect partitions {TABLE}\n"
        ));
    }
}

/// The scheduled hours (UTC) that a local day can have: what lets a scan skip the other months.
fn hours(day: &Day) -> String {
    let date = format!("2013-{:02}-{:02}", day.month, day.day);
    format!(
        "time_hour >= TIMESTAMP '{date} 00:00:00' AND time_hour < TIMESTAMP '{}'",
        chrono::NaiveDate::parse_from_str(&date, "%Y-%m-%d")
            .map(|d| (d + chrono::Days::new(2)).format("%Y-%m-%d 00:00:00").to_string())
            .unwrap_or(date.clone()),
    )
}

/// `336,776`.
fn group(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn millis(took: Duration) -> String {
    match took.as_millis() {
        0..10 => format!("{:.1} ms", took.as_secs_f64() * 1e3),
        10..10_000 => format!("{} ms", took.as_millis()),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_in_threes() {
        assert_eq!([group(7), group(1000), group(336_776)], ["7", "1,000", "336,776"]);
    }

    #[test]
    fn a_folder_that_holds_a_demo_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("catalog.db"), "").unwrap();
        assert!(folder(Some(root.path().into())).is_err());
        assert!(folder(Some(root.path().join("new"))).is_ok());
    }
}
