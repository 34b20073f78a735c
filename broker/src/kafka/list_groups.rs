//! ListGroups: the groups that this broker coordinates, of both kinds.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCommand, ClassicListing, ClassicReply};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::groups::coordinator_code;
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for ListGroupsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> ListGroupsResponse {
        let command = GroupCommand::Classic(ClassicCommand::List);
        let asked = node.coordinators.groups.ask_each(node, &command, ProtocolVersion::CURRENT).await;
        let (replies, unread) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                return ListGroupsResponse { error_code: coordinator_code(&error).code(), ..Default::default() };
            }
        };
        let listed = replies.into_iter().filter_map(|reply| match reply {
            GroupReply::Classic(said) => match *said {
                Ok(ClassicReply::Listed(listed)) => Some(listed),
                _ => None,
            },
            _ => None,
        });
        let fits = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let wanted = |listing: &ClassicListing| {
            fits(&self.states_filter, listing.state) && fits(&self.types_filter, kind(listing))
        };
        let mut groups: Vec<_> = listed.flatten().filter(wanted).map(shown).collect();
        groups.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
        // Groups are missing.
        let error = if unread.is_empty() { KafkaError::None } else { KafkaError::CoordinatorNotAvailable };
        ListGroupsResponse { error_code: error.code(), groups, ..Default::default() }
    }
}

/// As Kafka names it.
const fn kind(listing: &ClassicListing) -> &'static str {
    if listing.is_native { "consumer" } else { "classic" }
}

fn shown(listing: ClassicListing) -> ListedGroup {
    ListedGroup {
        group_type: kind(&listing).into(),
        group_id: listing.group,
        protocol_type: listing.protocol_type,
        group_state: listing.state.into(),
    }
}
