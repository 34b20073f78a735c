//! Whether the page cache still holds what was seen to be whole. What left it and came back is what the disk has by now.
//!
//! Nobody tells which pages came back, and reading ahead brings in more than anybody asked for, within the file: one page that is not there
//! makes the whole segment unknown. Asked before anything is read, so that nothing comes in behind the question. Knows nothing of batches.

use std::io;
use std::ops::Range;

use crate::segment::Segment;

impl Segment {
    /// Whether the page cache holds every byte of `range`. Where it does not, nothing of the segment counts as whole any more, but for what
    /// is not durable yet: that cannot have left.
    pub(crate) fn is_resident(&self, range: Range<u64>) -> io::Result<bool> {
        let durable = self.synced_bytes();
        let range = range.start..range.end.min(durable);
        if range.is_empty() || self.map(range.end)?.is_resident(range) {
            return Ok(true);
        }
        self.verified.forget(durable);
        Ok(false)
    }
}
