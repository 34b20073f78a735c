//! Which way to share the work a classic group takes: each member votes for the first of those that all know. Knows nothing of what they mean.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

use super::state::ClassicState;
use crate::groups::records::{ClassicMemberValue, ClassicProtocol};

/// The one that most members like best of those that all know; of two with as many votes the one whose name comes first. `None` where they know
/// none in common.
pub fn elect(state: &ClassicState) -> Option<String> {
    let mut votes = BTreeMap::<&str, usize>::new();
    for (_, member) in state.members() {
        let known = member.protocols.iter().find(|protocol| all_know(state, &protocol.name, None))?;
        *votes.entry(known.name.as_str()).or_default() += 1;
    }
    let most = votes.values().max().copied()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
}

/// Could a member with these take part, beside all others but `except`?
pub fn fits(state: &ClassicState, protocol_type: &str, protocols: &[ClassicProtocol], except: Option<&str>) -> bool {
    if protocol_type.is_empty() || protocols.is_empty() {
        return false;
    }
    let is_first = state.members().all(|(id, _)| Some(id) == except);
    is_first
        || (state.protocol_type() == protocol_type
            && protocols.iter().any(|protocol| all_know(state, &protocol.name, except)))
}

fn all_know(state: &ClassicState, name: &str, except: Option<&str>) -> bool {
    let knows = |member: &ClassicMemberValue| member.protocols.iter().any(|protocol| protocol.name == name);
    state.members().filter(|(id, _)| Some(*id) != except).all(|(_, member)| knows(member))
}
