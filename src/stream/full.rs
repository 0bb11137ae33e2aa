//! The full phase: the rows of a whole snapshot, read by more decoders than there are lanes.
//!
//! Every lane reads with its own task; helpers read beside them, for whichever lane has splits
//! waiting and the fewest readers. A helper that waits for a consumer stops no lane but that
//! consumer's, since the others still have their own.

use super::guard::TaskGuard;
use super::reader::SplitReader;

pub(super) struct Helper {
    reader: SplitReader,
}

impl Helper {
    pub fn new(reader: SplitReader) -> Self {
        Self { reader }
    }

    /// Runs until the rows of the whole snapshot were read.
    pub async fn run(mut self) {
        while let Some((lane, split, held)) = self.reader.hub.take_beside().await {
            let guard = TaskGuard::new(self.reader.hub.clone(), Some(lane));
            let span = split.span(lane);
            tracing::Instrument::instrument(self.reader.read_beside(lane, split), span).await;
            guard.disarm();
            drop(held);
            // Another helper may have waited for that memory.
            self.reader.hub.ring_lanes();
        }
    }
}
