//! What would come of a change, for those who only want to know: by the same rules, on metadata that are as new as the controller's. Changes
//! nothing.

use std::sync::Arc;
use std::time::Instant;

use tidelog_coordination::Controller;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::AlterTopicRequest;

use crate::change::{Change, change};
use crate::clock;
use crate::node::Node;

/// Brings the metadata here up to those of the controller, as far as a topic that its users may change is concerned.
///
/// # Errors
/// Why it cannot be changed; NoQuorum where there is no controller in time.
pub(crate) async fn catch_up(node: &Arc<Node>, topic: &str, deadline: Option<Instant>) -> Result<(), WireError> {
    // Asked to change nothing, the controller says how new its metadata are, and `change` waits until they are here.
    let nothing = AlterTopicRequest { name: topic.into(), set: Vec::new(), reset: Vec::new() };
    change(node, nothing, deadline).await.map(drop)
}

/// What would come of a change. The controller is not asked: one of an earlier release would do what it is only asked about.
///
/// # Errors
/// What the change would end with.
pub(crate) fn foresee<R: Change>(node: &Node, request: R) -> Result<R::Response, WireError> {
    request.check(node)?;
    let image = node.controllers.image();
    let as_of = image.as_of();
    let decision = Controller::new((*image).clone()).handle(&request.command(node), clock::now())?;
    R::answer(decision.reply, as_of)
}
