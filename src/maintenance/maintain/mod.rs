//! Maintenance as a task: watches tables and runs the actions that they need, when they need them.
//!
//! ```text
//! Maintainer ─look→ HealthReport ─triggers→ Due ─lease→ action ─→ MaintainEvent
//! ```
//!
//! A table is looked at when somebody committed, and now and then. *Triggers* decide from metadata
//! which actions are due ([`MaintainOptions`], table properties `meltwater.maintain.*`). A *lease*
//! makes sure that one process at a time works on a table. An error on one table does not stop the
//! others; it is tried again, later and later. Rules: `format-spec/maintenance.md`.

mod event;
mod lease;
mod options;
mod run;
mod tables;
#[cfg(test)]
mod tests;
mod trigger;
mod turn;
mod work;

use std::fmt;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::clock::Environment;
use crate::error::Result;
use crate::spec::MAIN_BRANCH;
use crate::table::PositionStore;

pub use event::{MaintainEvent, MaintainReport};
pub use options::{MaintainOptions, Trigger};
pub use trigger::{Action, Due};

/// Who is told what happens.
type Listener = Arc<dyn Fn(&MaintainEvent) + Send + Sync>;

/// Keeps tables in good health; see the module's text.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use meltwater::maintenance::Maintainer;
/// # async fn run(catalog: Arc<dyn meltwater::catalog::Catalog>) -> meltwater::Result<()> {
/// let maintainer = Maintainer::new(catalog, ["sales.*"])
///     .set("compact.files", "50")?
///     .on_event(|event| println!("{event}"));
/// let stop = std::future::pending::<()>(); // such as Ctrl-C
/// maintainer.run(stop).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "nothing is maintained before `run` or `once` is awaited"]
pub struct Maintainer {
    catalog: Arc<dyn Catalog>,
    patterns: Vec<String>,
    options: MaintainOptions,
    /// Settings that win over table properties.
    overrides: Vec<(String, String)>,
    only: Option<Vec<Action>>,
    branch: String,
    positions: Option<PositionStore>,
    environment: Environment,
    listener: Listener,
    dry_run: bool,
}

impl Maintainer {
    /// Maintains the tables of a catalog that match a pattern: `ns.table`, `ns` or `ns.*` for a
    /// whole namespace, `*` for all. Tables that are made later are found.
    pub fn new<S: Into<String>>(
        catalog: Arc<dyn Catalog>,
        patterns: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            catalog,
            patterns: patterns.into_iter().map(Into::into).collect(),
            options: MaintainOptions::default(),
            overrides: Vec::new(),
            only: None,
            branch: MAIN_BRANCH.to_string(),
            positions: None,
            environment: Environment::default(),
            listener: Arc::new(|_| {}),
            dry_run: false,
        }
    }

    /// The values where a table's properties say nothing.
    pub fn options(mut self, options: MaintainOptions) -> Self {
        self.options = options;
        self
    }

    /// A value that wins over tables' properties; see [`MaintainOptions::set`].
    ///
    /// # Errors
    /// `InvalidInput` for a name that means nothing, or a value that is none.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        MaintainOptions::default().set(&name, &value)?;
        self.overrides.push((name, value));
        Ok(self)
    }

    /// Only these actions.
    pub fn only(mut self, actions: impl Into<Vec<Action>>) -> Self {
        self.only = Some(actions.into());
        self
    }

    /// The branch whose files are rewritten (default: `main`). Snapshots expire and orphans go for
    /// the table as a whole. A table without such a branch is a failure that is told (MNT-66).
    pub fn branch(mut self, branch: impl Into<String>) -> Self {
        self.branch = branch.into();
        self
    }

    /// The named streams whose backlog must stay.
    pub fn positions(mut self, store: PositionStore) -> Self {
        self.positions = Some(store);
        self
    }

    /// Another clock and other identifiers.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Who is told what happens, at once.
    pub fn on_event(mut self, listener: impl Fn(&MaintainEvent) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// Looks at every table once, runs what is due, and returns.
    ///
    /// # Errors
    /// The catalog cannot be listed; `NotFound` if no table is meant. What fails on a table is an event, and counted.
    pub async fn once(self) -> Result<MaintainReport> {
        run::once(self, std::future::pending()).await
    }

    /// As [`Maintainer::once`], stopping after the current commit when `stop` is ready.
    ///
    /// # Errors
    /// As [`Maintainer::once`].
    pub async fn once_until(self, stop: impl Future<Output = ()> + Send) -> Result<MaintainReport> {
        run::once(self, stop).await
    }

    /// Says what would run now and why, and changes nothing.
    ///
    /// # Errors
    /// As [`Maintainer::once`].
    pub async fn dry_run(mut self) -> Result<MaintainReport> {
        self.dry_run = true;
        run::once(self, std::future::pending()).await
    }

    /// Watches the tables until `stop` is ready; then stops after the current commits.
    ///
    /// # Errors
    /// The catalog cannot be listed at the start. What fails later is an event, and tried again.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<MaintainReport> {
        run::run(self, stop).await
    }
}

impl fmt::Debug for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintainer")
            .field("patterns", &self.patterns)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
