//! Tasks that a broker cannot do without: where one of them panics, the broker has broken down. Without the task that keeps the lease, or the
//! one that follows the metadata, it would look alive and do harm. What serves one request or one partition is no such task: its panic
//! stays its own. Knows nothing of what they do.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

/// The tasks of one broker; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Vital {
    broken: Arc<watch::Sender<Option<BreakDown>>>,
}

/// The task that panicked first.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the broker broke down: its task '{task}' panicked ({why}); that is a bug, please report it with the log lines above; what was \
     acknowledged is safe, and recovery runs at the next start"
)]
pub struct BreakDown {
    /// What it does.
    pub task: &'static str,
    /// The message of the panic.
    pub why: String,
}

impl Default for Vital {
    fn default() -> Self {
        Self { broken: Arc::new(watch::Sender::new(None)) }
    }
}

impl Vital {
    /// Runs `work` until it ends, and notices where it panics.
    pub(crate) fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.watch(task, tokio::spawn(work));
    }

    /// The same for one that runs already.
    pub(crate) fn watch(&self, task: &'static str, running: JoinHandle<()>) {
        let broken = self.broken.clone();
        tokio::spawn(async move {
            let Err(ended) = running.await else { return };
            let Ok(panic) = ended.try_into_panic() else { return };
            let words = panic.downcast_ref::<&str>().map(|words| (*words).to_string());
            let why = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into());
            error!(task, why, "a task that the broker cannot do without panicked");
            broken.send_if_modified(|broken| {
                let is_first = broken.is_none();
                broken.get_or_insert(BreakDown { task, why });
                is_first
            });
        });
    }

    /// Waits until one has panicked; for ever where none does.
    pub(crate) async fn broke_down(&self) -> BreakDown {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.ok().and_then(|broken| broken.clone()) {
            Some(broken) => broken,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "planted")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_panic_is_told_and_an_end_is_none() {
        let vital = Vital::default();
        vital.spawn("ends", async {});
        let cancelled = tokio::spawn(std::future::pending());
        cancelled.abort();
        vital.watch("cancelled", cancelled);
        let number = 7;
        vital.spawn("breaks", async move { panic!("planted {number}") });
        let broken = vital.broke_down().await;
        assert_eq!(broken, BreakDown { task: "breaks", why: "planted 7".into() });
        vital.spawn("breaks too", async { panic!("late") });
        tokio::task::yield_now().await;
        assert_eq!(vital.broke_down().await, broken);
    }
}
