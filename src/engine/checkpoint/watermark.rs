//! The position that settled batches add up to. Pure.
//!
//! Batches settle out of order; positions must not. The watermark is the highest end LSN among
//! the batches before which nothing is open.

use std::collections::BTreeMap;

use crate::ack::batch::{BatchDescriptor, LoadedChunk};
use crate::change::Lsn;

/// Batches that have settled, numbered from 0 without a gap, and the position that they add up to.
#[derive(Debug, Default)]
pub struct Watermark {
    /// The first batch that is not settled.
    next: u64,
    /// Settled batches past `next`, with what each completes.
    ahead: BTreeMap<u64, (Option<Lsn>, Option<LoadedChunk>)>,
    position: Option<Lsn>,
    loaded: Vec<LoadedChunk>,
}

impl Watermark {
    /// One batch has settled.
    ///
    /// # Panics
    /// Where a batch settles twice: acknowledging too much would lose changes for good.
    pub fn settle(&mut self, descriptor: &BatchDescriptor) {
        let sequence = descriptor.sequence;
        assert!(sequence >= self.next, "batch {sequence} settled twice");
        let before = self.ahead.insert(sequence, (descriptor.end_lsn, descriptor.loaded.clone()));
        assert!(before.is_none(), "batch {sequence} settled twice");
        while let Some((end_lsn, loaded)) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.position = self.position.max(end_lsn);
            self.loaded.extend(loaded);
        }
    }

    /// Chunks of the first load before which nothing is open, in order; each is given once.
    #[must_use]
    pub fn take_loaded(&mut self) -> Vec<LoadedChunk> {
        std::mem::take(&mut self.loaded)
    }

    /// Up to here everything is settled; `None` before the first batch with an end LSN.
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ack::batch::{ChunkPurpose, CreatedBetween};
    use crate::ack::fanout::FanoutProgress;
    use crate::ack::job_set::JobSet;

    fn descriptor(sequence: u64, end_lsn: Option<u64>, loaded: Option<u64>) -> BatchDescriptor {
        BatchDescriptor {
            sequence,
            jobs: JobSet::None,
            created: CreatedBetween { min: 0, max: 0 },
            end_lsn: end_lsn.map(Lsn),
            loaded: loaded.map(|row_count| LoadedChunk {
                table: "t".to_owned(),
                table_name: "t".to_owned(),
                last_key: None,
                row_count,
                rows: Arc::default(),
                purpose: ChunkPurpose::Load,
                refused: Vec::new(),
                parked: Vec::new(),
            }),
            fanouts: FanoutProgress::default(),
        }
    }

    fn check(settled: &[(u64, Option<u64>)], expected: Option<u64>) {
        let mut watermark = Watermark::default();
        for (sequence, end_lsn) in settled {
            watermark.settle(&descriptor(*sequence, *end_lsn, None));
        }
        assert_eq!(watermark.position(), expected.map(Lsn), "{settled:?}");
    }

    #[test]
    fn the_position_is_that_of_the_settled_prefix() {
        check(&[], None);
        check(&[(0, Some(10))], Some(10));
        check(&[(1, Some(20))], None);
        check(&[(1, Some(20)), (0, Some(10))], Some(20));
        check(&[(0, Some(10)), (2, Some(30))], Some(10));
        check(&[(0, None), (1, None)], None);
        check(&[(0, Some(10)), (1, None)], Some(10));
    }

    #[test]
    fn chunks_of_the_load_come_in_order_and_once() {
        let mut watermark = Watermark::default();
        let rows = |loaded: Vec<LoadedChunk>| -> Vec<u64> {
            loaded.into_iter().map(|chunk| chunk.row_count).collect()
        };
        watermark.settle(&descriptor(1, None, Some(20)));
        assert_eq!(rows(watermark.take_loaded()), [] as [u64; 0]);
        watermark.settle(&descriptor(0, None, Some(10)));
        assert_eq!(rows(watermark.take_loaded()), [10, 20]);
        watermark.settle(&descriptor(2, None, Some(30)));
        assert_eq!(rows(watermark.take_loaded()), [30]);
    }

    #[test]
    fn the_position_never_goes_back() {
        check(&[(0, Some(30)), (1, Some(20))], Some(30));
    }

    #[test]
    #[should_panic(expected = "settled twice")]
    fn a_batch_settles_once() {
        check(&[(0, Some(10)), (0, Some(10))], None);
    }
}
