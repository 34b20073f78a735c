//! The states that were used last, so many of them. Two generations: what was not used while the younger filled is forgotten with the
//! older. Knows nothing of what a state is.

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};

/// Values by aggregate, the most recently used ones.
#[derive(Debug)]
pub(super) struct Recent<T> {
    young: HashMap<Bytes, T>,
    old: HashMap<Bytes, T>,
    half: usize,
}

impl<T: Clone> Recent<T> {
    /// Keeps at least half of `count` and `count` at most.
    pub(super) fn new(count: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: count.div_ceil(2) }
    }

    pub(super) fn get(&mut self, id: &Bytes) -> Option<T> {
        if let Some(value) = self.young.get(id) {
            return Some(value.clone());
        }
        let value = self.old.remove(id)?;
        self.put(id.clone(), value.clone());
        Some(value)
    }

    pub(super) fn put(&mut self, id: Bytes, value: T) {
        if self.half == 0 {
            return;
        }
        self.old.remove(&id);
        if self.young.len() >= self.half && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, value);
    }

    pub(super) fn forget(&mut self, id: &Bytes) {
        self.young.remove(id);
        self.old.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let mut recent = Recent::new(8);
        let id = |at: u32| Bytes::from(at.to_string());
        for at in 0..1_000 {
            recent.put(id(at), at);
            assert_eq!(recent.get(&id(0)), Some(0), "after {at}");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!((recent.get(&id(999)), recent.get(&id(500))), (Some(999), None));
        recent.forget(&id(0));
        assert_eq!(recent.get(&id(0)), None);
    }

    #[test]
    fn nothing_is_kept_where_nothing_shall_be() {
        let mut recent = Recent::new(0);
        recent.put(Bytes::new(), 1);
        assert_eq!(recent.get(&Bytes::new()), None);
    }
}
