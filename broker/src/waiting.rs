//! What a start waits for, as logs and the admin port tell it. Knows nothing of how it comes about.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::node::Node;

/// Before it is told for the first time; then each time twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// At most.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Tells, ever more seldom, that the start waits.
pub(crate) async fn tell(node: &Arc<Node>) -> Infallible {
    let (began, mut pause) = (Instant::now(), PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        let waited_s = began.elapsed().as_secs();
        warn!(waited_s, "{}", reason(node));
    }
}

/// What is missing.
pub(crate) fn reason(node: &Node) -> String {
    let quorum = node.controllers.quorum();
    let members = quorum.members();
    if !members.iter().any(|known| known.member == quorum.member()) {
        return "waiting to be taken into the cluster".into();
    }
    if node.controllers.leader().is_some() {
        return "waiting to be registered and for the partitions here to be opened".into();
    }
    let shown = |voter: &crate::quorum::MemberStatus| format!("broker {} at {}", voter.member.broker, voter.address);
    let voters: Vec<String> = members.iter().filter(|known| known.is_voter).map(shown).collect();
    format!("waiting for the quorum (members {}): a majority of them must run and reach each other", voters.join(", "))
}
