//! The two tables of a SQL catalog, and every statement on them.
//!
//! The layout is the one that Java's JdbcCatalog and PyIceberg's SqlCatalog share; older files
//! lack the column `iceberg_type` (CAT-13). Each change is one statement, so that SQLite itself
//! is the transaction and an error of its commit is the error of the statement (CAT-14).

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::error::{Error, ErrorKind, Result};

/// How long a statement waits for another process to release the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

const CREATE_TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS iceberg_tables (\
     catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, \
     table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), \
     previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5), \
     PRIMARY KEY (catalog_name, table_namespace, table_name))",
    "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
     catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, \
     property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000) NOT NULL, \
     PRIMARY KEY (catalog_name, namespace, property_key))",
];

/// Marks a namespace without properties, as the other implementations do.
const EXISTS_KEY: &str = "exists";

/// What an insert found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    AlreadyThere,
}

/// The rows of one catalog in one database.
#[derive(Debug)]
pub(super) struct Rows {
    pool: SqlitePool,
    catalog: String,
    /// Whether `iceberg_tables` has the column `iceberg_type`.
    typed: bool,
    #[cfg(test)]
    pub(super) faults: super::fault::Faults,
}

impl Rows {
    /// Opens a database file. `create` makes file and tables where they are missing; without it
    /// they are `NotFound`. Without a `name` the only catalog in the file is meant.
    pub(super) async fn open(path: &Path, name: Option<&str>, create: bool) -> Result<Self> {
        let fresh = !path.exists();
        if fresh && !create {
            return Err(missing(path, "there is no catalog file"));
        }
        if fresh && let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| {
                Error::invalid(format!("the folder of the catalog file cannot be made: {e}"))
                    .with_context("file", path.display())
                    .with_source(e)
            })?;
        }
        let pool =
            connect(path, fresh).await.map_err(|e| e.with_context("file", path.display()))?;
        let mut columns = columns(&pool).await?;
        if columns.is_empty() {
            if !create {
                return Err(missing(path, "there is no Iceberg catalog in this file"));
            }
            for statement in CREATE_TABLES {
                sqlx::query(statement).execute(&pool).await.map_err(failed)?;
            }
            columns = self::columns(&pool).await?;
        }
        let typed = columns.iter().any(|column| column == "iceberg_type");
        let catalog = match name {
            Some(name) => name.to_string(),
            None => only_catalog(&pool).await?,
        };
        Ok(Self {
            pool,
            catalog,
            typed,
            #[cfg(test)]
            faults: Default::default(),
        })
    }

    /// The catalog's name: part of every row's key.
    pub(super) fn catalog(&self) -> &str {
        &self.catalog
    }

    /// A condition that leaves views out.
    fn tables_only(&self) -> &'static str {
        if self.typed { " AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)" } else { "" }
    }

    /// The metadata location of a table.
    pub(super) async fn location(&self, namespace: &str, table: &str) -> Result<Option<String>> {
        let sql = format!(
            "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? \
             AND table_namespace = ? AND table_name = ?{}",
            self.tables_only()
        );
        let row: Option<Option<String>> = sqlx::query_scalar(&sql)
            .bind(&self.catalog)
            .bind(namespace)
            .bind(table)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        match row {
            Some(None) => Err(Error::corrupt("the catalog's row of the table has no location")
                .with_context("table", format!("{namespace}.{table}"))),
            row => Ok(row.flatten()),
        }
    }

    /// Enters a table.
    pub(super) async fn insert(
        &self,
        namespace: &str,
        table: &str,
        location: &str,
    ) -> Result<Inserted> {
        let (column, value) = if self.typed { (", iceberg_type", ", 'TABLE'") } else { ("", "") };
        let sql = format!(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, \
             metadata_location{column}) VALUES (?, ?, ?, ?{value})"
        );
        let result = sqlx::query(&sql)
            .bind(&self.catalog)
            .bind(namespace)
            .bind(table)
            .bind(location)
            .execute(&self.pool)
            .await;
        inserted(result.map(|_| ()))
    }

    /// The pointer swap: true if the table pointed at `old` and now points at `new`.
    pub(super) async fn swap(
        &self,
        namespace: &str,
        table: &str,
        old: &str,
        new: &str,
    ) -> Result<bool> {
        #[cfg(test)]
        self.faults.before_swap()?;
        let sql = format!(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
             WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? \
             AND metadata_location = ?{}",
            self.tables_only()
        );
        let result = sqlx::query(&sql)
            .bind(new)
            .bind(old)
            .bind(&self.catalog)
            .bind(namespace)
            .bind(table)
            .bind(old)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        #[cfg(test)]
        self.faults.after_swap()?;
        Ok(result.rows_affected() == 1)
    }

    /// Takes a table out, if it still points at `location`.
    pub(super) async fn remove(
        &self,
        namespace: &str,
        table: &str,
        location: &str,
    ) -> Result<bool> {
        let sql = "DELETE FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? \
                   AND table_name = ? AND metadata_location = ?";
        let result = sqlx::query(sql)
            .bind(&self.catalog)
            .bind(namespace)
            .bind(table)
            .bind(location)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(result.rows_affected() == 1)
    }

    /// Renames a table: `None` if there is none of the old name.
    pub(super) async fn rename(
        &self,
        from: (&str, &str),
        to: (&str, &str),
    ) -> Result<Option<Inserted>> {
        let sql = format!(
            "UPDATE iceberg_tables SET table_namespace = ?, table_name = ? \
             WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?{}",
            self.tables_only()
        );
        let result = sqlx::query(&sql)
            .bind(to.0)
            .bind(to.1)
            .bind(&self.catalog)
            .bind(from.0)
            .bind(from.1)
            .execute(&self.pool)
            .await;
        match result {
            Ok(done) if done.rows_affected() == 0 => Ok(None),
            other => inserted(other.map(|_| ())).map(Some),
        }
    }

    /// The names of the tables of a namespace, sorted.
    pub(super) async fn tables(&self, namespace: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT table_name FROM iceberg_tables WHERE catalog_name = ? \
             AND table_namespace = ?{} ORDER BY table_name",
            self.tables_only()
        );
        let names = sqlx::query_scalar(&sql).bind(&self.catalog).bind(namespace);
        names.fetch_all(&self.pool).await.map_err(failed)
    }

    /// Every namespace that has a row, tables' own included; sorted.
    pub(super) async fn namespaces(&self) -> Result<Vec<String>> {
        let sql = "SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ? UNION \
                   SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ? \
                   ORDER BY 1";
        let names = sqlx::query_scalar(sql).bind(&self.catalog).bind(&self.catalog);
        names.fetch_all(&self.pool).await.map_err(failed)
    }

    /// The properties of a namespace, without the mark that it exists.
    pub(super) async fn properties(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        let sql = "SELECT property_key, property_value FROM iceberg_namespace_properties \
                   WHERE catalog_name = ? AND namespace = ? AND property_key <> ?";
        let rows = sqlx::query_as(sql).bind(&self.catalog).bind(namespace).bind(EXISTS_KEY);
        rows.fetch_all(&self.pool).await.map_err(failed)
    }

    /// Enters a namespace: the mark and its properties, in one transaction.
    pub(super) async fn insert_namespace<'a>(
        &self,
        namespace: &str,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Inserted> {
        let sql = "INSERT INTO iceberg_namespace_properties \
                   (catalog_name, namespace, property_key, property_value) VALUES (?, ?, ?, ?)";
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        for (key, value) in std::iter::once((EXISTS_KEY, "true")).chain(properties) {
            let row = sqlx::query(sql).bind(&self.catalog).bind(namespace).bind(key).bind(value);
            let done = inserted(row.execute(&mut *transaction).await.map(|_| ()))?;
            if done == Inserted::AlreadyThere {
                return Ok(done); // Dropping the transaction rolls it back.
            }
        }
        transaction.commit().await.map_err(failed)?;
        Ok(Inserted::New)
    }

    /// Removes a namespace's properties if no table is in it.
    pub(super) async fn remove_namespace(&self, namespace: &str) -> Result<bool> {
        let sql = "DELETE FROM iceberg_namespace_properties WHERE catalog_name = ?1 AND \
                   namespace = ?2 AND NOT EXISTS (SELECT 1 FROM iceberg_tables WHERE \
                   catalog_name = ?1 AND table_namespace = ?2)";
        let done = sqlx::query(sql).bind(&self.catalog).bind(namespace).execute(&self.pool).await;
        Ok(done.map_err(failed)?.rows_affected() > 0)
    }
}

async fn connect(path: &Path, fresh: bool) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(fresh)
        .busy_timeout(BUSY_TIMEOUT)
        // An acknowledged commit survives a power cut.
        .synchronous(SqliteSynchronous::Full);
    // Followers poll the pointer while writers swap it; a write-ahead log lets both go on. Files
    // that others made keep the mode that they chose.
    let first = match fresh {
        true => options.clone().journal_mode(SqliteJournalMode::Wal),
        false => options.clone(),
    };
    let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(BUSY_TIMEOUT * 2);
    match pool.clone().connect_with(first).await {
        Ok(pool) => Ok(pool),
        Err(error) if !fresh && !log_of(path).exists() => {
            // A file in a folder that cannot be written, without a log to replay.
            let fixed = options.read_only(true).immutable(true);
            pool.connect_with(fixed).await.map_err(|_| failed(error))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The write-ahead log beside a database file.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push("-wal");
    PathBuf::from(name)
}

async fn columns(pool: &SqlitePool) -> Result<Vec<String>> {
    let names = sqlx::query_scalar("SELECT name FROM pragma_table_info('iceberg_tables')");
    names.fetch_all(pool).await.map_err(failed)
}

async fn only_catalog(pool: &SqlitePool) -> Result<String> {
    let sql = "SELECT catalog_name FROM iceberg_tables UNION \
               SELECT catalog_name FROM iceberg_namespace_properties ORDER BY 1";
    let mut names: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.map_err(failed)?;
    if names.len() > 1 {
        return Err(Error::invalid(format!(
            "the file holds several catalogs: {}",
            names.join(", ")
        ))
        .with_hint("choose one with `&name=NAME` in the catalog URI"));
    }
    Ok(names.pop().unwrap_or_else(|| "default".to_string()))
}

fn missing(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::NotFound, what)
        .with_context("file", path.display())
        .with_hint("check `--catalog`; the first `meltwater create` makes the file")
}

fn inserted(result: std::result::Result<(), sqlx::Error>) -> Result<Inserted> {
    match result {
        Ok(()) => Ok(Inserted::New),
        Err(sqlx::Error::Database(e)) if e.is_unique_violation() => Ok(Inserted::AlreadyThere),
        Err(e) => Err(failed(e)),
    }
}

/// What an error of SQLite means; the numbers are its primary result codes.
pub(super) fn failed(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    let (kind, hint) = match code.map(|code| code & 0xff) {
        Some(5 | 6) => {
            (ErrorKind::Unavailable, "another process holds the catalog file; try again")
        }
        Some(8) => (ErrorKind::InvalidInput, "give this user write access to file and folder"),
        Some(10) => (ErrorKind::Unavailable, "check the disk that the catalog file is on"),
        Some(13) => (ErrorKind::Unavailable, "the disk is full: free some space, then repeat"),
        Some(14) => (ErrorKind::InvalidInput, "check that the file's folder exists and is yours"),
        Some(11 | 26) => (ErrorKind::CorruptData, "this is no sound SQLite file"),
        _ if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => {
            (ErrorKind::Unavailable, "try again")
        }
        _ => (ErrorKind::Unavailable, "look at the cause below"),
    };
    Error::new(kind, format!("the SQL catalog failed: {error}")).with_hint(hint).with_source(error)
}
