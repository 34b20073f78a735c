//! Commits of a member: what is done, all together, by the epoch that it has. Knows nothing of when to commit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidelog_protocol::messages::{CommittedOffset, OffsetCommitRequest};
use tidelog_protocol::{ErrorCode, Offset};
use tokio::sync::oneshot;

use super::GroupError;
use super::builder::CommitMode;
use super::member::Place;
use super::offer::Offer;
use super::shared::{Shared, Unanswered};
use super::work::{Due, Run};
use crate::TopicPartition;

/// How far a group has come in a partition, as the program says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffset {
    /// The partition.
    pub at: TopicPartition,
    /// The next offset to read.
    pub offset: Offset,
    /// Whatever the program notes with it, up to 4,096 bytes.
    pub metadata: String,
}

/// Commits for a member of a group. Clones are cheap.
#[derive(Clone)]
pub struct Commits {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commits({})", self.shared.group)
    }
}

impl Commits {
    /// Commits what is done, in all partitions of the member. Where its epoch moves on meanwhile it commits what it still owns.
    ///
    /// # Errors
    /// [`GroupError::Fenced`], [`GroupError::NotOwned`]; [`GroupError::Client`] where the coordinator does not answer.
    pub async fn commit(&self) -> Result<(), GroupError> {
        self.shared.commit_done(None).await
    }

    /// As [`Commits::commit`], in the background: the ticket tells how it went, or is dropped where that does not matter.
    pub fn commit_async(&self) -> CommitTicket {
        let (sender, outcome) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.cluster.runtime.spawn(async move {
            let result = shared.commit_done(None).await;
            if let Err(Err(error)) = sender.send(result) {
                tracing::warn!(group = %shared.group, %error, "a commit that nobody waits for failed");
            }
        });
        CommitTicket { outcome }
    }

    /// Commits what the program says, all of it or nothing, whatever of it is done.
    ///
    /// # Errors
    /// As [`Commits::commit`]; [`GroupError::NotOwned`] for partitions that are not the member's.
    pub async fn commit_offsets(&self, offsets: &[GroupOffset]) -> Result<(), GroupError> {
        let mut due = Vec::with_capacity(offsets.len());
        let mut foreign = Vec::new();
        {
            let work = self.shared.work.lock();
            for offset in offsets {
                match work.holds(&offset.at) {
                    Some((topic_id, partition)) => due.push(CommittedOffset {
                        topic_id,
                        partition,
                        offset: offset.offset,
                        leader_epoch: None,
                        metadata: offset.metadata.clone(),
                    }),
                    None => foreign.push(offset.at.clone()),
                }
            }
        }
        if !foreign.is_empty() {
            return Err(GroupError::NotOwned { partitions: foreign });
        }
        let _turn = self.shared.committing.lock().await;
        let asked = self.shared.ask(|me| {
            Some(OffsetCommitRequest {
                group: self.shared.group.to_string(),
                member_id: Some(me.member_id.to_string()),
                member_epoch: me.epoch,
                offsets: due.clone(),
                transaction: None,
            })
        });
        let again = || offsets.iter().map(|offset| (offset.at.clone(), offset.offset)).collect();
        asked.await.map_err(|unanswered| unanswered.into_error(again))?;
        let mut work = self.shared.work.lock();
        for committed in &due {
            work.committed((committed.topic_id, committed.partition), committed.offset);
        }
        Ok(())
    }
}

/// How a commit in the background goes.
#[derive(Debug)]
pub struct CommitTicket {
    outcome: oneshot::Receiver<Result<(), GroupError>>,
}

impl Future for CommitTicket {
    type Output = Result<(), GroupError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| outcome.unwrap_or(Err(GroupError::Left)))
    }
}

impl Unanswered {
    fn into_error(self, again: impl FnOnce() -> Vec<(TopicPartition, Offset)>) -> GroupError {
        match self {
            Self::Pointless => GroupError::NotOwned { partitions: Vec::new() },
            Self::Fenced => GroupError::Fenced { again: again() },
            Self::Failed(error) if error.code() == Some(ErrorCode::NotOwned) => {
                GroupError::NotOwned { partitions: again().into_iter().map(|(at, _)| at).collect() }
            }
            Self::Failed(error) => error.into(),
        }
    }

    /// As far as offers are concerned: what they hold comes again, from wherever its partition was committed before.
    pub(super) fn into_offer_error(self, offer: &Offer) -> GroupError {
        match self {
            Self::Pointless => GroupError::NotOwned { partitions: offer.lost() },
            Self::Fenced => GroupError::Fenced { again: Vec::new() },
            unanswered => unanswered.into_error(|| offer.places()),
        }
    }
}

impl Shared {
    /// Commits what is done, of these stays or of all.
    pub(super) async fn commit_done(&self, of: Option<&[(Place, Run)]>) -> Result<(), GroupError> {
        let _turn = self.committing.lock().await;
        let mut asked: Vec<Due> = Vec::new();
        let answer = self
            .ask(|me| {
                // Anew with each try: what was taken away meanwhile is not the member's to commit.
                asked = self.work.lock().due(of);
                (!asked.is_empty()).then(|| OffsetCommitRequest {
                    group: self.group.to_string(),
                    member_id: Some(me.member_id.to_string()),
                    member_epoch: me.epoch,
                    offsets: asked.iter().map(Due::offset).collect(),
                    transaction: None,
                })
            })
            .await;
        match answer {
            Ok(_) => {
                let mut work = self.work.lock();
                for due in asked {
                    work.committed(due.place, due.reached.offset);
                }
                Ok(())
            }
            Err(Unanswered::Pointless) => Ok(()),
            Err(Unanswered::Fenced) if asked.is_empty() => {
                // It never came to ask: while it joins anew it has nothing.
                let ended = self.identity.borrow().ended;
                if ended { Err(GroupError::Left) } else { Err(GroupError::Fenced { again: Vec::new() }) }
            }
            Err(unanswered) => Err(unanswered.into_error(|| asked.iter().filter_map(Due::again).collect())),
        }
    }

    /// Commits every so often, for as long as it is a member.
    pub(super) async fn commit_now_and_then(&self) {
        let CommitMode::Auto { interval } = self.settings.commit else { return };
        loop {
            tokio::time::sleep(interval).await;
            match self.commit_done(None).await {
                Ok(()) => {}
                Err(error @ (GroupError::Fenced { .. } | GroupError::NotOwned { .. } | GroupError::Left)) => {
                    tracing::debug!(group = %self.group, %error, "could not commit");
                }
                Err(error) => tracing::warn!(group = %self.group, %error, "could not commit, and tries again"),
            }
        }
    }
}

impl Due {
    fn offset(&self) -> CommittedOffset {
        let (topic_id, partition) = self.place;
        CommittedOffset {
            topic_id,
            partition,
            offset: self.reached.offset,
            leader_epoch: self.reached.leader_epoch,
            metadata: String::new(),
        }
    }

    /// Where its records come again from.
    fn again(&self) -> Option<(TopicPartition, Offset)> {
        self.committed.map(|from| (TopicPartition::clone(&self.source), from))
    }
}
