//! Tells whoever keeps something for each partition as partitions come and go, as words in a queue. Knows nothing of what is kept.

use tokio::sync::{mpsc, oneshot};

use super::{Call, Commits, RebalanceListener};
use crate::TopicPartition;

/// What the group says.
pub(crate) enum Word {
    /// These came. Nothing of them is handed out before the sender is dropped.
    Assigned(Vec<TopicPartition>, oneshot::Sender<()>),
    /// These are gone.
    Gone(Vec<TopicPartition>),
}

/// The ear of one that listens.
pub(crate) struct Ear(pub(crate) mpsc::Sender<Word>);

impl RebalanceListener for Ear {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        Box::pin(async move {
            let (done, taken) = oneshot::channel();
            if self.0.send(Word::Assigned(partitions.to_vec(), done)).await.is_ok() {
                // Dropped, not sent: that is the word.
                let _ = taken.await;
            }
        })
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], _: &'a Commits) -> Call<'a> {
        self.lost(partitions)
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        Box::pin(async move {
            // Where nobody listens any more there is nothing to be let go of.
            let _ = self.0.send(Word::Gone(partitions.to_vec())).await;
        })
    }
}
