//! Which log is flushed next: first those that somebody waits for. The others have their turn when there are none of those, and after so many of
//! them in a row, so that they are not forgotten on a disk that is never idle. Knows nothing of logs.

use std::collections::VecDeque;

/// Awaited flushes in a row while others are due.
const ROW_MAX: usize = 16;

/// Two queues and the rule between them.
#[derive(Debug)]
pub(crate) struct FlushQueue<T> {
    awaited: VecDeque<T>,
    unawaited: VecDeque<T>,
    in_a_row: usize,
}

impl<T> Default for FlushQueue<T> {
    fn default() -> Self {
        Self { awaited: VecDeque::new(), unawaited: VecDeque::new(), in_a_row: 0 }
    }
}

impl<T> FlushQueue<T> {
    /// Somebody waits for this one.
    pub(crate) fn push_awaited(&mut self, log: T) {
        self.awaited.push_back(log);
    }

    /// Nobody waits for this one.
    pub(crate) fn push_unawaited(&mut self, log: T) {
        self.unawaited.push_back(log);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.is_empty() && self.unawaited.is_empty()
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if (self.in_a_row < ROW_MAX || self.unawaited.is_empty())
            && let Some(log) = self.awaited.pop_front()
        {
            self.in_a_row += 1;
            return Some(log);
        }
        self.in_a_row = 0;
        self.unawaited.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_comes_first() {
        let mut queue = FlushQueue::default();
        queue.push_unawaited("copy 1");
        queue.push_unawaited("copy 2");
        queue.push_awaited("produce 1");
        queue.push_awaited("produce 2");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some("produce 1"), Some("produce 2"), Some("copy 1")]);
        queue.push_awaited("produce 3");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some("produce 3"), Some("copy 2"), None]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_others_have_their_turn_where_there_is_always_one_that_is_waited_for() {
        let mut queue = FlushQueue::default();
        queue.push_unawaited("copy");
        let before = (0..)
            .take_while(|_| {
                queue.push_awaited("produce");
                queue.pop() == Some("produce")
            })
            .count();
        assert_eq!(before, ROW_MAX);
        queue.push_unawaited("another copy");
        assert_eq!(queue.pop(), Some("produce"), "and then wait again");
    }
}
