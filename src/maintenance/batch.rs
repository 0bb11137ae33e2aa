//! Finished pieces of work on their way into one commit.

use std::time::Duration;

use tokio::time::Instant;

/// Collects until enough is there, or until the first piece has waited long enough.
#[derive(Debug)]
pub(super) struct Batch<T> {
    items: Vec<T>,
    weight: u64,
    max_weight: u64,
    patience: Duration,
    deadline: Option<Instant>,
}

impl<T> Batch<T> {
    pub(super) fn new(max_weight: u64, patience: Duration) -> Self {
        Self { items: Vec::new(), weight: 0, max_weight, patience, deadline: None }
    }

    /// Adds a piece; true when the batch should be committed now.
    pub(super) fn push(&mut self, item: T, weight: u64) -> bool {
        let now = Instant::now();
        // A patience beyond the clock's end is endless.
        let deadline = *self.deadline.get_or_insert(
            now.checked_add(self.patience).unwrap_or(now + Duration::from_secs(86_400 * 365)),
        );
        self.items.push(item);
        self.weight = self.weight.saturating_add(weight);
        self.weight >= self.max_weight || now >= deadline
    }

    /// The first piece.
    pub(super) fn first(&self) -> Option<&T> {
        self.items.first()
    }

    /// What was collected; the batch is empty then.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.weight = 0;
        self.deadline = None;
        std::mem::take(&mut self.items)
    }

    /// When the batch should be committed at the latest; never while it is empty.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// The result of `work`, or `None` if a batch should be committed before it is there.
pub(super) async fn or_due<O>(
    deadline: Option<Instant>,
    work: impl Future<Output = O>,
) -> Option<O> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_due_by_weight_and_by_time() {
        let mut batch = Batch::new(10, Duration::from_secs(60));
        assert!(!batch.push("a", 4));
        assert!(batch.push("b", 6));
        assert_eq!(batch.take(), ["a", "b"]);

        let slow = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert!(or_due(batch.deadline(), slow(1000)).await.is_some(), "nothing waits");
        assert!(!batch.push("c", 1));
        assert!(or_due(batch.deadline(), slow(59)).await.is_some());
        assert!(or_due(batch.deadline(), slow(2)).await.is_none());
        assert!(batch.push("d", 1), "too late to wait for more");
        assert_eq!(batch.take(), ["c", "d"]);
    }
}
