//! What a program does as partitions come and go. Knows nothing of how that is decided.

use std::future::Future;
use std::pin::Pin;

use super::Commits;
use crate::TopicPartition;

/// What a callback gives back: it is awaited before the member goes on with these partitions.
pub type Call<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told as partitions come and go. Calls never overlap; partitions that stay are in none of them.
///
/// ```no_run
/// use tidelog_client::group::{Call, Commits, RebalanceListener};
/// use tidelog_client::{Client, TopicPartition};
///
/// struct Caches;
///
/// impl RebalanceListener for Caches {
///     fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], commits: &'a Commits) -> Call<'a> {
///         Box::pin(async move {
///             for at in partitions {
///                 println!("writes what it knows of {}/{}", at.topic, at.partition);
///             }
///             if let Err(error) = commits.commit().await {
///                 eprintln!("their records come again: {error}");
///             }
///         })
///     }
/// }
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let consumer = client.group("billing").topics(["orders"]).on_rebalance(Caches).build().await?;
/// # Ok(())
/// # }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// These were added. No record of them is handed out before this is done.
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        let _ = partitions;
        Box::pin(async {})
    }

    /// These are taken away, to be given to others once this is done. Nothing more of them is handed out, and what was handed out is done, or
    /// was waited for as long as [`rebalance_timeout`](super::GroupConsumerBuilder::rebalance_timeout) allows. They may still be committed.
    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], commits: &'a Commits) -> Call<'a> {
        let _ = (partitions, commits);
        Box::pin(async {})
    }

    /// These may be others' already: the member was fenced, or was not heard of for its whole session. Nothing of them can be committed.
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> Call<'a> {
        let _ = partitions;
        Box::pin(async {})
    }
}

/// Nobody listens.
pub(super) struct Unheard;

impl RebalanceListener for Unheard {}
