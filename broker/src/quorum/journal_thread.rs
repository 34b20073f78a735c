//! The thread that owns the journal, and the handle by which everybody else asks it. Knows nothing of what is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use tidelog_log::{DataDir, LogReader};
use tokio::sync::oneshot;

use super::journal::{Journal, WriteError};

/// Asks a journal. Every asker waits for its answer before it asks again, so the queue is as short as there are askers.
#[derive(Clone, Debug)]
pub(super) struct JournalHandle {
    steps: mpsc::Sender<Step>,
    reader: LogReader,
    closing: Arc<AtomicBool>,
}

enum Step {
    Do(Box<dyn FnOnce(&mut Journal) + Send>),
    Close(oneshot::Sender<Result<(), WriteError>>),
}

/// The journal is closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the metadata log is closed: the broker shuts down")]
pub(super) struct Closed;

impl JournalHandle {
    /// Starts the thread. The data folder is held as long as it runs.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub(super) fn start(journal: Journal, data: Arc<DataDir>) -> std::io::Result<Self> {
        let (steps, queue) = mpsc::channel();
        let (reader, closing) = (journal.reader(), journal.closing());
        thread::Builder::new().name("tidelog-quorum".into()).spawn(move || run(journal, data, &queue))?;
        Ok(Self { steps, reader, closing })
    }

    /// For reading entries.
    pub(super) fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Does `work` when its turn comes, and waits for it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        self.tell(move |journal| {
            // Whoever asked may have gone.
            let _ = answer.send(work(journal));
        });
        answered.await.map_err(|_| Closed)
    }

    /// Does `work` when its turn comes.
    pub(super) fn tell(&self, work: impl FnOnce(&mut Journal) + Send + 'static) {
        // A closed journal does nothing any more; whoever waits for an answer learns it from the lost channel.
        let _ = self.steps.send(Step::Do(Box::new(work)));
    }

    /// Ends every wait for room on the disk.
    pub(super) fn stop_waiting(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Flushes and closes the journal; what is asked afterwards is answered with [`Closed`].
    pub(super) async fn close(&self) -> Result<Result<(), WriteError>, Closed> {
        self.stop_waiting();
        let (answer, answered) = oneshot::channel();
        // Where the thread has ended nobody answers, which says it.
        let _ = self.steps.send(Step::Close(answer));
        answered.await.map_err(|_| Closed)
    }
}

/// The data folder stays locked until the last step is done, whoever else has let go of it.
fn run(mut journal: Journal, data: Arc<DataDir>, queue: &mpsc::Receiver<Step>) {
    while let Ok(step) = queue.recv() {
        match step {
            Step::Do(work) => work(&mut journal),
            Step::Close(answer) => {
                let closed = journal.close();
                drop(data);
                // Whoever asked may have stopped waiting.
                let _ = answer.send(closed);
                return;
            }
        }
    }
}
