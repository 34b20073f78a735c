//! Which transactions of a log were aborted, for whoever leaves their records out. The latest are known ([`LogReader::aborted_known`]); of those
//! before, the log itself tells: the next marker of a batch's producer says what became of the batch ([`LogReader::aborted_found`]). Knows nothing of
//! who reads.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use tidelog_protocol::messages::AbortedTransaction;
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
    /// [`ReadError::Corrupt`] where a damaged range may hold a marker that counts; [`ReadError::Storage`].
    pub fn aborted_found(&self, range: Range<Offset>, count_max: usize) -> Result<Undone, ReadError> {
        let mut search = Search { range: range.clone(), count_max, open: HashMap::new(), aborted: Vec::new() };
        let end = self.written_end();
        let mut next = range.start.max(self.log_start());
        for segment in self.state.segments().iter() {
            if segment.end_offset() <= next || segment.base() >= end || search.is_over(next) {
                continue;
            }
            next = self.search_segment(&mut search, segment, next.max(segment.base()))?;
        }
        Ok(search.found(next))
    }

    /// What is open.
    #[must_use]
    pub fn open_transactions(&self) -> OpenTransactions {
        self.state.producers.lock().open_transactions()
    }

    /// Transactions that have been open for at least `ms` of the log being open, up to `count_max`: who wrote them, under which epoch. Cheap.
    #[must_use]
    pub fn transactions_open_for(&self, ms: u64, count_max: usize) -> Vec<(ProducerId, ProducerEpoch)> {
        self.state.producers.lock().open_for(ms, count_max)
    }

    fn search_segment(&self, search: &mut Search, segment: &Segment, from: Offset) -> Result<Offset, ReadError> {
        let path = segment.path();
        let file = segment.file().context("open", &path)?;
        let mut headers = Headers::new(&*file, segment.end_bytes());
        let (mut position, mut offset) = near(segment, from, &mut headers).context("read", &path)?;
        let holes = self.state.holes();
        while position < headers.limit && !search.is_over(offset) {
            if let Some(hole) = holes.starting_at(segment.base(), position) {
                return Err(ReadError::Corrupt { from: hole.from, to: hole.to });
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

/// A search under way.
struct Search {
    range: Range<Offset>,
    count_max: usize,
    /// First batch in the range of those whose marker was not seen yet, and the epoch.
    open: HashMap<ProducerId, (Offset, ProducerEpoch)>,
    aborted: Vec<AbortedTransaction>,
}

impl Search {
    fn is_over(&self, offset: Offset) -> bool {
        self.is_full() || (offset >= self.range.end && self.open.is_empty())
    }

    fn is_full(&self) -> bool {
        self.aborted.len() + self.open.len() >= self.count_max
    }

    /// False where it is damaged.
    fn take(&mut self, header: &BatchHeader, marker: impl FnOnce() -> io::Result<Marker>) -> io::Result<bool> {
        let (producer, base, epoch) = (header.producer_id, header.base_offset, header.producer_epoch);
        let open = self.open.get(&producer).copied();
        if header.attributes.is_control() {
            let Some((first, known)) = open.filter(|&(_, known)| known < epoch) else { return Ok(true) };
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
        if let Some((first, known)) = open {
            if known >= epoch {
                return Ok(true);
            }
            // Its marker was lost with records that were settled.
            self.open.remove(&producer);
            self.aborted(producer, first, Offset(base.0.saturating_sub(1)));
        }
        if base < self.range.end {
            self.open.insert(producer, (base, epoch));
        }
        Ok(true)
    }

    fn aborted(&mut self, producer_id: ProducerId, first_offset: Offset, marker_offset: Offset) {
        self.aborted.push(AbortedTransaction { producer_id, first_offset, marker_offset });
    }

    fn found(self, next: Offset) -> Undone {
        // Those that are open at the end of the log are not undone.
        let undecided = self.open.values().map(|&(first, _)| first).min().filter(|_| self.is_full());
        let complete_to = if self.is_full() { undecided.unwrap_or(next).min(next) } else { self.range.end };
        Undone { aborted: self.aborted, complete_to }
    }
}
