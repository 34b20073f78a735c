//! Which commands a partition has seen among its latest records, so that one that is sent twice is carried out once. Knows nothing of what
//! they do.
//!
//! What is remembered follows from the log alone: the commands of the latest `span` records of the partition. So every process remembers
//! the same, also one that has just started.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::Offset;

use super::event::Version;

/// The commands of the latest records.
#[derive(Debug)]
pub(super) struct CommandWindow {
    span: u64,
    seen: HashMap<u128, Seen>,
    order: VecDeque<(Offset, u128)>,
    hashers: [foldhash::fast::RandomState; 2],
}

/// What came of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) version: Version,
    /// Of the last of its events.
    pub(super) offset: Offset,
}

impl CommandWindow {
    /// Remembers the commands of the latest `span` records.
    pub(super) fn new(span: u64) -> Self {
        let hashers = [foldhash::fast::RandomState::default(), foldhash::fast::RandomState::default()];
        Self { span, seen: HashMap::new(), order: VecDeque::new(), hashers }
    }

    /// An event of this command stands at `offset`.
    pub(super) fn note(&mut self, id: &[u8], command: &[u8], version: Version, offset: Offset) {
        let key = self.key(id, command);
        self.seen.insert(key, Seen { version, offset });
        self.order.push_back((offset, key));
    }

    /// The partition ends at `end`.
    pub(super) fn advance(&mut self, end: Offset) {
        while let Some((offset, key)) = self.order.front().copied()
            && offset.0.saturating_add(self.span) < end.0
        {
            self.order.pop_front();
            // A command with several events goes with the last of them.
            if self.seen.get(&key).is_some_and(|seen| seen.offset == offset) {
                self.seen.remove(&key);
            }
        }
    }

    /// What came of a command, where it is remembered.
    pub(super) fn find(&self, id: &[u8], command: &[u8]) -> Option<Seen> {
        self.seen.get(&self.key(id, command)).copied()
    }

    /// Two hashes under seeds of this process: nobody can choose ids that meet, and by chance it takes 2⁶⁴ commands.
    fn key(&self, id: &[u8], command: &[u8]) -> u128 {
        let [high, low] = [0, 1].map(|at| self.hashers[at].hash_one((id, command)));
        u128::from(high) << 64 | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_remembered_for_the_span_and_forgotten_after_it() {
        let mut window = CommandWindow::new(10);
        window.note(b"a", b"c", Version(4), Offset(100));
        let seen = Some(Seen { version: Version(4), offset: Offset(100) });
        window.advance(Offset(110));
        assert_eq!(window.find(b"a", b"c"), seen);
        assert_eq!(window.find(b"b", b"c"), None, "the same word of another aggregate is another command");
        assert_eq!(window.find(b"ac", b""), None);
        window.advance(Offset(111));
        assert_eq!(window.find(b"a", b"c"), None);
        assert!(window.seen.is_empty() && window.order.is_empty(), "memory goes with it");
    }

    #[test]
    fn a_command_with_many_events_is_remembered_from_the_last_of_them() {
        let mut window = CommandWindow::new(2);
        (0..3).for_each(|at| window.note(b"a", b"c", Version(at + 1), Offset(at)));
        window.advance(Offset(4));
        assert_eq!(window.find(b"a", b"c"), Some(Seen { version: Version(3), offset: Offset(2) }));
    }
}
