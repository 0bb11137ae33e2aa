//! Noticing that somebody committed, as cheaply as the catalog can tell.

use std::time::Duration;

use crate::error::Result;
use crate::measure;

use super::Table;

/// Waits for the table to move on from one version.
#[derive(Debug)]
pub struct Watch {
    table: Table,
    shortest: Duration,
    longest: Duration,
}

impl Table {
    /// A watch that starts at this version, polling the catalog's pointer every 5 to 100 ms.
    pub fn watch(&self) -> Watch {
        Watch {
            table: self.clone(),
            shortest: Duration::from_millis(5),
            longest: Duration::from_millis(100),
        }
    }
}

impl Watch {
    /// Other bounds for the pause between two looks.
    pub fn every(mut self, shortest: Duration, longest: Duration) -> Self {
        (self.shortest, self.longest) = (shortest, longest.max(shortest));
        self
    }

    /// Waits until the table has changed, and returns the new version. Cancel-safe.
    ///
    /// # Errors
    /// What the catalog answers; the watch can be asked again.
    pub async fn changed(&mut self) -> Result<Table> {
        let mut pause = self.shortest;
        loop {
            let (catalog, ident) = (self.table.catalog().clone(), self.table.ident().clone());
            let name = ident.to_string();
            measure::TABLE_POLLS.add(&[&name], 1);
            if catalog.changed_since(&ident, self.table.metadata_location()).await? {
                self.table = self.table.refresh().await?;
                measure::TABLE_COMMITS_NOTICED.add(&[&name], 1);
                return Ok(self.table.clone());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.longest);
        }
    }
}
