//! The newest view of several brokers. One that is cut off from the others answers as always, with what it knew: a broker that names no
//! controller, that is behind what was heard before, or that does not know what it is asked for is therefore not believed before others have
//! been asked. Knows nothing of what is done with the view.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;
use tidelog_protocol::messages::{MetadataRequest, MetadataResponse};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cluster, OVERDUE, Purpose};
use crate::ClientError;
use crate::address::Address;

/// How long the others are waited for once most have answered: who has not by then hangs, and there is one among those that did that is
/// not cut off. Until then it is as long as for any broker.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a broker said, and where it was asked.
pub(super) type View = (Address, MetadataResponse);

impl Cluster {
    /// Whether others may know better.
    fn is_in_doubt(&self, said: &MetadataResponse) -> bool {
        let known = self.known.read();
        let is_behind = known.cluster_id == Some(said.cluster_id) && said.as_of < known.as_of;
        said.controller.is_none() || is_behind || !said.unknown.is_empty()
    }

    /// The view of the others, where they know better. Who is behind them is asked last for a while.
    pub(super) async fn newest(&self, request: &MetadataRequest, heard: View) -> MetadataResponse {
        if !self.is_in_doubt(&heard.1) {
            return heard.1;
        }
        let views = self.views_of(self.addresses(), &heard.0, request, |view| self.is_in_doubt(view)).await;
        self.best_of(heard, views)
    }

    /// The view of the newest of those that were given at the start: before anything is known, nobody is believed alone.
    ///
    /// # Errors
    /// Where they belong to different clusters.
    pub(super) async fn newest_of_given(
        &self,
        request: &MetadataRequest,
        heard: View,
    ) -> Result<MetadataResponse, ClientError> {
        let views = self.views_of(self.bootstrap.as_slice().to_vec(), &heard.0, request, |_| true).await;
        if let Some((address, stranger)) = views.iter().find(|(_, view)| view.cluster_id != heard.1.cluster_id) {
            let (one, other) = (heard.1.cluster_id, stranger.cluster_id);
            return Err(ClientError::Argument(format!(
                "these are brokers of different clusters: {} belongs to {one}, {address} to {other}; give the addresses of one cluster",
                heard.0
            )));
        }
        Ok(self.best_of(heard, views))
    }

    /// What those at `addresses` say besides `heard`, who answer soon, all asked at once; no further than to the first that leaves nothing
    /// open.
    async fn views_of(
        &self,
        addresses: Vec<Address>,
        heard: &Address,
        request: &MetadataRequest,
        leaves_open: impl Fn(&MetadataResponse) -> bool,
    ) -> Vec<View> {
        let all = addresses.len();
        // Who did not answer a moment ago would only take time.
        let mut silent: HashSet<Address> = addresses.into_iter().collect();
        silent.retain(|address| address != heard && !self.pool.is_shunned(address));
        let mut asked = JoinSet::new();
        for address in silent.clone() {
            let (pool, request) = (Arc::clone(&self.pool), request.clone());
            let question = async move {
                let said = async {
                    let connection = pool.connection(&address, Purpose::Requests).await.ok()?;
                    connection.call_within(&request, OVERDUE).await.ok()
                };
                let said = said.await;
                (address, said)
            };
            asked.spawn_on(question, &self.runtime);
        }
        let (began, mut views) = (Instant::now(), Vec::new());
        loop {
            let have_most_answered = 2 * (views.len() + 1) > all;
            let patience = if have_most_answered { PATIENCE } else { OVERDUE };
            // Who is still being waited for in the end is let go with the set.
            match tokio::time::timeout_at(began + patience, asked.join_next()).await {
                Ok(Some(Ok((address, said)))) => {
                    silent.remove(&address);
                    let Some(said) = said else { continue };
                    let is_enough = !leaves_open(&said);
                    views.push((address, said));
                    if is_enough {
                        return views;
                    }
                }
                Ok(Some(Err(_))) => {}
                Ok(None) => return views,
                Err(_) => {
                    if !have_most_answered {
                        silent.iter().for_each(|address| self.pool.shun(address));
                    }
                    return views;
                }
            }
        }
    }

    /// The newest. The index in the metadata log tells; at the same, who knows a controller is in touch with the others.
    fn best_of(&self, heard: View, others: Vec<View>) -> MetadataResponse {
        let rank = |view: &MetadataResponse| (view.as_of, view.controller.is_some());
        let cluster = heard.1.cluster_id;
        let (mut best, mut rest) = (heard, Vec::new());
        for view in others.into_iter().filter(|(_, view)| view.cluster_id == cluster) {
            let is_better = rank(&view.1) > rank(&best.1);
            rest.push(if is_better { std::mem::replace(&mut best, view) } else { view });
        }
        // Who is merely about to hear of the last change knows who decides; one that was cut off while it decided still names itself.
        for (address, _) in rest.iter().filter(|(_, view)| view.controller != best.1.controller) {
            if best.1.controller.is_some() {
                self.pool.shun(address);
            }
        }
        best.1
    }
}
