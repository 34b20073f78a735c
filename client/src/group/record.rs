//! A record in the program's hands. Knows nothing of how it came there.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::member::Place;
use super::shared::Shared;
use super::work::{Handed, Run};
use crate::ConsumerRecord;

/// A record that a group's member handed out, to be processed anywhere and in any order: it is done once [`GroupRecord::done`] says so.
///
/// Dropping it without that, by an early return, a cancelled task or a panic, leaves it unfinished: nothing from there on is committed in its
/// partition, and whoever reads the partition next gets it again. So no record is lost by mistake; one that shall be skipped is done, too.
#[must_use = "a record counts as unfinished, and holds its partition's commits back, until `done` is called"]
pub struct GroupRecord {
    shared: Arc<Shared>,
    record: ConsumerRecord,
    place: Place,
    run: Run,
    done: bool,
}

impl GroupRecord {
    pub(super) fn new(shared: Arc<Shared>, handed: Handed) -> Self {
        let Handed { record, place, run } = handed;
        Self { shared, record, place, run, done: false }
    }

    /// The program is done with it, so that it may be committed once all before it are.
    pub fn done(mut self) {
        self.done = true;
    }

    /// The record, to be kept.
    #[must_use]
    pub const fn record(&self) -> &ConsumerRecord {
        &self.record
    }

    /// True while its partition is this member's. Work that has not begun need not: others get the record.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.work.lock().is_current(self.place, self.run)
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Which stay of its partition it belongs to.
    pub(super) const fn stay(&self) -> (Place, Run) {
        (self.place, self.run)
    }
}

impl Deref for GroupRecord {
    type Target = ConsumerRecord;

    fn deref(&self) -> &ConsumerRecord {
        &self.record
    }
}

impl fmt::Debug for GroupRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl Drop for GroupRecord {
    fn drop(&mut self) {
        self.shared.returned(self.place, self.run, self.record.offset, self.done);
    }
}
