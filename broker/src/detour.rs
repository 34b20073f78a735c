//! Where requests of one connection are checked that take long, and those behind them: off its own task, one after the other, so that a
//! partition gets them in the order in which they came. Bounded by what bounds a connection's unanswered requests. Knows nothing of what
//! is done on the way.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use parking_lot::Mutex;

/// What is done for one request.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queue of one connection.
#[derive(Default)]
pub struct Detour {
    /// `None` where nobody is on it.
    waiting: Mutex<Option<VecDeque<Work>>>,
}

impl Detour {
    /// True while a request is on it: those that come now must not overtake it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.waiting.lock().is_some()
    }

    /// How many wait behind the one that is on the way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.lock().as_ref().map_or(0, VecDeque::len)
    }

    /// Puts `work` behind what is on the way. Where nothing is, it is given back, for the caller to [`Detour::run`].
    #[must_use]
    pub fn enter(&self, work: Work) -> Option<Work> {
        match &mut *self.waiting.lock() {
            Some(waiting) => {
                waiting.push_back(work);
                None
            }
            waiting => {
                *waiting = Some(VecDeque::new());
                Some(work)
            }
        }
    }

    /// Does `first` and all that comes behind it, until nothing is left.
    pub async fn run(&self, first: Work) {
        let _end = End(self);
        let mut next = Some(first);
        while let Some(work) = next {
            work.await;
            let mut waiting = self.waiting.lock();
            next = waiting.as_mut().and_then(VecDeque::pop_front);
            if next.is_none() {
                // Under the lock: what comes now finds nobody on the way.
                *waiting = None;
            }
        }
    }
}

impl fmt::Debug for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detour").field("is_taken", &self.is_taken()).finish()
    }
}

/// Whatever ends it: nobody waits behind what is not done any more.
struct End<'a>(&'a Detour);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let left = self.0.waiting.lock().take();
        // Not under the lock: each is answered, in whatever that results.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_and_then_the_way_is_free() {
        let detour = Arc::<Detour>::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let work = |number: u32| -> Work {
            let done = done.clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                done.lock().push(number);
            })
        };
        let first = detour.enter(work(0)).expect("nobody is on it");
        assert!((1..5).all(|number| detour.enter(work(number)).is_none()));
        assert!(detour.is_taken());
        detour.run(first).await;
        assert_eq!(*done.lock(), [0, 1, 2, 3, 4]);
        assert!(!detour.is_taken());
    }

    #[tokio::test]
    async fn work_that_is_given_up_takes_what_waits_behind_it_along() {
        let detour = Detour::default();
        let waits = Arc::new(());
        let held = waits.clone();
        let first = detour.enter(Box::pin(std::future::pending())).expect("nobody is on it");
        assert!(detour.enter(Box::pin(async move { drop(held) })).is_none());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(1), detour.run(first)).await;
        assert!(given_up.is_err() && !detour.is_taken());
        assert_eq!(Arc::strong_count(&waits), 1);
    }
}
