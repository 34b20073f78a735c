//! When the owner begins another segment although the present one is not full: by age, where all records are gone, and where it is asked to. Knows nothing of
//! what is deleted when.

use tidelog_protocol::{Timestamp, WireError};

use super::Owner;
use crate::partition::refusals;

impl Owner {
    /// The active segment may be older than `segment.ms`.
    pub(super) fn roll_if_due(&mut self, now: Timestamp) {
        let Some(log) = &mut self.log else { return };
        let segment_ms = i64::try_from(self.config.segment_ms).unwrap_or(i64::MAX);
        let active = log.reader().segments().last().filter(|active| active.bytes > 0).map(|active| active.base);
        let since = match (active, self.active_since) {
            (Some(base), Some((known, since))) if base == known => since,
            (Some(base), _) => self.active_since.insert((base, now)).1,
            (None, _) => return,
        };
        let due = now.0.saturating_sub(since.0) >= segment_ms;
        if self.ended.is_none()
            && due
            && let Err(error) = log.roll()
            && !error.is_transient()
        {
            self.poison(&error.to_string());
        }
    }

    /// Somebody wants what is there to end with its segment.
    pub(super) fn roll(&mut self) -> Result<(), WireError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let Some(log) = &mut self.log else { return Err(refusals::not_leader()) };
        match log.roll() {
            Ok(()) => Ok(()),
            Err(error) if error.is_transient() => Err(refusals::storage_full(&error.to_string())),
            Err(error) => {
                self.poison(&error.to_string());
                Err(refusals::storage_failed(&error))
            }
        }
    }

    /// Where all records are gone, so is what they took: nothing that is kept is in the segment that took the last of them.
    pub(super) fn roll_if_emptied(&mut self) {
        let Some(log) = self.log.as_mut().filter(|_| self.ended.is_none()) else { return };
        if let Err(error) = log.roll_if_emptied()
            && !error.is_transient()
        {
            self.poison(&error.to_string());
        }
    }
}
