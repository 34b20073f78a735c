//! Which transactions of a log were aborted, for whoever leaves their records out. The latest are known ([`LogReader::aborted_known`]); of those
//! before, the log itself tells: the next marker of a batch's producer says what became of the batch ([`LogReader::aborted_found`]). Where damage
//! lies in between, that marker may be in it: one behind it of the same transaction, which was written again, says the same, and one of a later
//! transaction says that nobody knew any more. Knows nothing of who reads.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use tidelog_protocol::messages::{AbortedTransaction, ProducerStanding};
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId};
use tidelog_replication::producers::ends;
use tidelog_replication::{OpenTransactions, Outcome};

use crate::headers::{Headers, Marker, near};
use crate::reader::{LogReader, ReadError};
use crate::segment::Segment;
use crate::storage_error::Context;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Undone {
    /// Aborted transactions, by their markers.
    pub aborted: Vec<AbortedTransaction>,
    /// All that begin below are among them.
    pub complete_to: Offset,
}

impl LogReader {
    /// The aborted transactions that reach into `range`, by their markers; `None` where that was too long ago. Cheap.
    #[must_use]
    pub fn aborted_known(&self, range: Range<Offset>) -> Option<Vec<AbortedTransaction>> {
        self.state.producers.lock().aborted_within(range)
    }

    /// The aborted transactions that have records in `range`, with the first of those, up to `count_max` of them. **Blocks**: reads all headers from
    /// there on up to the last of their markers.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where a damaged range may hold a marker that counts, and nothing behind it tells; [`ReadError::Storage`].
    pub fn aborted_found(&self, range: Range<Offset>, count_max: usize) -> Result<Undone, ReadError> {
        let mut search =
            Search { range: range.clone(), count_max, open: HashMap::new(), aborted: Vec::new(), untold: None };
        let end = self.written_end();
        let mut next = range.start.max(self.log_start());
        for segment in self.state.segments().iter() {
            if segment.end_offset() <= next || segment.base() >= end || search.is_over(next) {
                continue;
            }
            if segment.base() > next {
                search.doubt(next, segment.base());
            }
            next = self.search_segment(&mut search, segment, next.max(segment.base()))?;
        }
        if next < end && !search.is_over(next) {
            search.doubt(next, end);
        }
        search.found(next)
    }

    /// What is open.
    #[must_use]
    pub fn open_transactions(&self) -> OpenTransactions {
        self.state.producers.lock().open_transactions()
    }

    /// Of how many producers something is known.
    #[must_use]
    pub fn producers_known(&self) -> usize {
        self.state.producers.lock().len()
    }

    /// What is known of each of them, by their ids.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerStanding> {
        self.state.producers.lock().snapshot().producers
    }

    /// Transactions that have been open for at least `ms` of the log being open, up to `count_max`: who wrote them, under which epoch; those of
    /// producers behind `after` come first. Cheap.
    #[must_use]
    pub fn transactions_open_for(
        &self,
        ms: u64,
        after: Option<ProducerId>,
        count_max: usize,
    ) -> Vec<(ProducerId, ProducerEpoch)> {
        self.state.producers.lock().open_for(ms, after, count_max)
    }

    fn search_segment(&self, search: &mut Search, segment: &Segment, from: Offset) -> Result<Offset, ReadError> {
        let path = segment.path();
        let file = segment.file().context("open", &path)?;
        let mut headers = Headers::new(&*file, segment.end_bytes());
        let (mut position, mut offset) = near(segment, from, &mut headers).context("read", &path)?;
        let holes = self.state.holes();
        while position < headers.limit && !search.is_over(offset) {
            if let Some(hole) = holes.starting_at(segment.base(), position) {
                search.doubt(hole.from, hole.to);
                (position, offset) = (hole.bytes.end, hole.to);
                continue;
            }
            let header = headers.at(position).context("read", &path)?;
            let Some(header) = header.filter(|header| header.base_offset == offset) else {
                return Err(ReadError::Corrupt { from: offset, to: segment.end_offset() });
            };
            let (from_here, to_here) = (header.base_offset, header.next_offset());
            if to_here > from && !search.take(&header, || headers.marker(position, &header)).context("read", &path)? {
                return Err(ReadError::Corrupt { from: from_here, to: to_here });
            }
            (position, offset) = (position + header.total_bytes() as u64, header.next_offset());
        }
        Ok(offset)
    }
}

/// A transaction whose marker was not seen yet.
#[derive(Clone, Copy)]
struct Open {
    first: Offset,
    epoch: ProducerEpoch,
    /// Offsets behind it that cannot be read: its marker may have been there.
    doubt: Option<(Offset, Offset)>,
    /// The same where the epoch wrote on behind them: the marker was there only if its producer keeps its epoch.
    doubt_if_kept: Option<(Offset, Offset)>,
}

/// A search under way.
struct Search {
    range: Range<Offset>,
    count_max: usize,
    /// First batch in the range of those whose marker was not seen yet, and the epoch.
    open: HashMap<ProducerId, Open>,
    aborted: Vec<AbortedTransaction>,
    /// Offsets that cannot be read, where nothing behind them can tell what was there.
    untold: Option<(Offset, Offset)>,
}

impl Search {
    fn is_over(&self, offset: Offset) -> bool {
        self.is_full() || self.untold.is_some() || (offset >= self.range.end && self.open.is_empty())
    }

    fn is_full(&self) -> bool {
        self.aborted.len() + self.open.len() >= self.count_max
    }

    /// What lies between cannot be read.
    fn doubt(&mut self, from: Offset, to: Offset) {
        for open in self.open.values_mut() {
            open.doubt.get_or_insert((from, to));
        }
    }

    /// False where it is damaged.
    fn take(&mut self, header: &BatchHeader, marker: impl FnOnce() -> io::Result<Marker>) -> io::Result<bool> {
        let (producer, base, epoch) = (header.producer_id, header.base_offset, header.producer_epoch);
        let open = self.open.get(&producer).copied();
        if header.attributes.is_control() {
            let Some(open) = open.filter(|open| open.epoch <= epoch) else { return Ok(true) };
            let Open { first, epoch: known, .. } = open;
            if known == epoch {
                // It may be that of a later transaction, which has the same epoch.
                self.untold = open.doubt.or(open.doubt_if_kept);
            }
            match marker()? {
                Marker::Unknown => return Ok(true),
                Marker::Damaged => return Ok(false),
                Marker::Ends(Outcome::Committed) if ends(known, epoch) => {}
                // Of a later transaction: its own was lost with records that were settled.
                Marker::Ends(Outcome::Committed | Outcome::Aborted) => self.aborted(producer, first, base),
            }
            self.open.remove(&producer);
            return Ok(true);
        }
        if !header.attributes.is_transactional() {
            return Ok(true);
        }
        if let Some(Open { first, epoch: known, .. }) = open {
            if known >= epoch {
                // It was open still, whatever lies in between.
                if let Some(open) = self.open.get_mut(&producer).filter(|_| known == epoch) {
                    open.doubt_if_kept = open.doubt_if_kept.or(open.doubt.take());
                }
                return Ok(true);
            }
            // Its marker was lost with records that were settled.
            self.open.remove(&producer);
            self.aborted(producer, first, Offset(base.0.saturating_sub(1)));
        }
        if base < self.range.end {
            self.open.insert(producer, Open { first: base, epoch, doubt: None, doubt_if_kept: None });
        }
        Ok(true)
    }

    fn aborted(&mut self, producer_id: ProducerId, first_offset: Offset, marker_offset: Offset) {
        self.aborted.push(AbortedTransaction { producer_id, first_offset, marker_offset });
    }

    fn found(self, next: Offset) -> Result<Undone, ReadError> {
        // Those that are open at the end of the log are not undone, unless they ended where nothing can be read.
        let undecided = self.open.values().map(|open| open.first).min().filter(|_| self.is_full());
        let doubtful = self.open.values().filter_map(|open| open.doubt).min();
        if let Some((from, to)) = self.untold.or(doubtful.filter(|_| !self.is_full())) {
            return Err(ReadError::Corrupt { from, to });
        }
        let complete_to = if self.is_full() { undecided.unwrap_or(next).min(next) } else { self.range.end };
        Ok(Undone { aborted: self.aborted, complete_to })
    }
}
