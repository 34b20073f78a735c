//! What happened to the members of a group, in one order for all of them. Says when the partitions were spread evenly over those that were
//! members. Knows nothing of what is right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One life of a member, counted from 0. Whoever comes back is another one.
pub type Life = u32;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It begins to join.
    Joins(Life),
    /// It begins to leave.
    Leaves(Life),
    /// It was told that a partition is its own.
    Assigned(Life, u32),
    /// It was told that a partition is not its own any more; it is through with what it had in hand.
    Revoked(Life, u32),
    /// It was told that a partition may be another's already.
    Lost(Life, u32),
    /// It has a record in hand, which was sent so long ago.
    Processed {
        /// Who.
        life: Life,
        /// Of which partition.
        partition: u32,
        /// Where.
        offset: u64,
        /// Between its sending and now.
        age: Duration,
    },
    /// The coordinator said that the group has come so far. It said so before this was noted.
    Committed {
        /// In which partition.
        partition: u32,
        /// The next offset to be read.
        offset: u64,
    },
}

/// What happened, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Since the beginning.
    pub at: Duration,
    /// What it was.
    pub what: What,
}

/// A handle to the notes.
#[derive(Clone, Debug)]
pub struct Notes {
    began: Instant,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    partitions: u32,
    entries: Vec<Entry>,
    members: BTreeSet<Life>,
    owners: BTreeMap<u32, Life>,
    /// Changes that are not settled yet.
    open: Vec<Duration>,
    settled_after: Vec<Duration>,
    stops_of_the_world: u64,
}

impl Notes {
    /// Of a group that reads a topic of so many partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { began: Instant::now(), book: Arc::new(Mutex::new(Book { partitions, ..Book::default() })) }
    }

    /// Something happened just now.
    ///
    /// # Panics
    /// Where another thread panicked meanwhile.
    pub fn note(&self, what: What) {
        let mut book = self.book.lock().unwrap();
        // Under the lock, so that times are in the order of the entries.
        let at = self.began.elapsed();
        book.note(Entry { at, what });
    }

    /// Everything so far.
    ///
    /// # Panics
    /// As [`Notes::note`].
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.book.lock().unwrap().entries.clone()
    }

    /// Does every partition belong to one of the members, as evenly as can be?
    ///
    /// # Panics
    /// As [`Notes::note`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.book.lock().unwrap().is_settled()
    }

    /// How long it took after each change of members until all was settled; one that came before the change before it was, counts for itself.
    ///
    /// # Panics
    /// As [`Notes::note`].
    #[must_use]
    pub fn settled_after(&self) -> Vec<Duration> {
        self.book.lock().unwrap().settled_after.clone()
    }

    /// How often a member would have stopped if each change stopped all of them.
    ///
    /// # Panics
    /// As [`Notes::note`].
    #[must_use]
    pub fn stops_of_the_world(&self) -> u64 {
        self.book.lock().unwrap().stops_of_the_world
    }

    /// How many records each partition had processed of it, the same one twice counted twice.
    ///
    /// # Panics
    /// As [`Notes::note`].
    #[must_use]
    pub fn reached(&self) -> BTreeMap<u32, u64> {
        let mut reached = BTreeMap::new();
        for entry in &self.book.lock().unwrap().entries {
            if let What::Processed { partition, offset, .. } = entry.what {
                let next = reached.entry(partition).or_insert(0);
                *next = (*next).max(offset + 1);
            }
        }
        reached
    }
}

impl Book {
    fn note(&mut self, entry: Entry) {
        let is_change = match entry.what {
            What::Joins(life) => self.members.insert(life),
            What::Leaves(life) => self.members.remove(&life),
            What::Assigned(life, partition) => {
                self.owners.insert(partition, life);
                false
            }
            What::Revoked(life, partition) | What::Lost(life, partition) => {
                if self.owners.get(&partition) == Some(&life) {
                    self.owners.remove(&partition);
                }
                false
            }
            What::Processed { .. } | What::Committed { .. } => false,
        };
        self.entries.push(entry);
        if is_change {
            self.open.push(entry.at);
            self.stops_of_the_world += self.members.len() as u64;
        }
        let may_settle = is_change || matches!(entry.what, What::Assigned(..) | What::Revoked(..) | What::Lost(..));
        if may_settle && self.is_settled() {
            let open = std::mem::take(&mut self.open);
            self.settled_after.extend(open.into_iter().map(|changed| entry.at - changed));
        }
    }

    fn is_settled(&self) -> bool {
        let members = self.members.len() as u32;
        if members == 0 || self.owners.len() as u32 != self.partitions {
            return false;
        }
        let mut counts: BTreeMap<Life, u32> = self.members.iter().map(|life| (*life, 0)).collect();
        for owner in self.owners.values() {
            match counts.get_mut(owner) {
                Some(count) => *count += 1,
                None => return false,
            }
        }
        let (least, most) = (self.partitions / members, self.partitions.div_ceil(members));
        counts.values().all(|count| (least..=most).contains(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_settled_once_every_member_has_its_share() {
        let notes = Notes::new(2);
        for what in [What::Joins(0), What::Assigned(0, 0)] {
            notes.note(what);
            assert!(!notes.is_settled());
        }
        notes.note(What::Assigned(0, 1));
        assert!(notes.is_settled());
        for what in [What::Joins(1), What::Revoked(0, 0)] {
            notes.note(what);
            assert!(!notes.is_settled());
        }
        notes.note(What::Assigned(1, 0));
        assert_eq!((notes.is_settled(), notes.settled_after().len()), (true, 2));
        // One that has left owns nothing that counts; two changes settle at once.
        for what in [What::Leaves(1), What::Joins(2), What::Revoked(1, 0)] {
            notes.note(what);
            assert!(!notes.is_settled());
        }
        notes.note(What::Assigned(2, 0));
        assert_eq!((notes.is_settled(), notes.settled_after().len()), (true, 4));
        assert_eq!(notes.stops_of_the_world(), 1 + 2 + 1 + 2);
    }
}
