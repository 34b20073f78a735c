//! The leader of a generation says who does what, once; every member hears its part. Knows nothing of what the parts mean.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::Bytes;

use super::command::{ClassicCaller, ClassicError, ClassicPart, ClassicReply, ClassicSync};
use super::state::ClassicState;
use super::turn::{Turn, check_caller};
use crate::groups::flaws::GroupFlaw;
use crate::groups::records::ClassicPhase;

impl Turn<'_> {
    /// A member asks for its part.
    pub fn sync(&mut self, ask: &ClassicSync) -> Result<ClassicReply, ClassicError> {
        self.check_caller(&ask.caller)?;
        let id = ask.caller.member_id.as_str();
        let is_other = |said: &Option<String>, known: &str| said.as_deref().is_some_and(|said| said != known);
        if is_other(&ask.protocol_type, self.state().protocol_type())
            || is_other(&ask.protocol, self.state().protocol().unwrap_or_default())
        {
            return Err(ClassicError::InconsistentProtocol);
        }
        match self.state().phase() {
            ClassicPhase::Empty => Err(ClassicError::UnknownMember),
            ClassicPhase::Preparing => Err(ClassicError::RebalanceInProgress),
            ClassicPhase::Stable if !self.assigns(id, ask) => {
                self.gathering.hear(id, self.now);
                Ok(ClassicReply::Synced(self.state().synced(id)))
            }
            ClassicPhase::Completing | ClassicPhase::Stable => {
                self.gathering.arrive(id, self.now);
                if self.state().leader() == Some(id) || self.flaws.has(GroupFlaw::FollowerAssigns) {
                    self.assign(&ask.parts);
                }
                Ok(ClassicReply::SyncLater)
            }
        }
    }

    /// Only a bug lets a leader assign twice.
    fn assigns(&self, id: &str, ask: &ClassicSync) -> bool {
        self.flaws.has(GroupFlaw::AssignedTwice) && self.state().leader() == Some(id) && !ask.parts.is_empty()
    }

    fn assign(&mut self, parts: &[(String, Bytes)]) {
        let parts: BTreeMap<&str, &Bytes> = parts.iter().map(|(id, part)| (id.as_str(), part)).collect();
        let members: Vec<String> = self.state().members().map(|(id, _)| id.to_owned()).collect();
        for id in members {
            // Who is not named does nothing.
            let part = parts.get(id.as_str()).map(|part| (*part).clone()).unwrap_or_default();
            self.draft.give(&id, part);
        }
        self.draft.enter(ClassicPhase::Stable);
    }

    /// A member lives; where it is to join again it is told.
    pub fn heartbeat(&mut self, caller: &ClassicCaller) -> Result<ClassicReply, ClassicError> {
        self.check_caller(caller)?;
        self.gathering.hear(&caller.member_id, self.now);
        match self.state().phase() {
            ClassicPhase::Preparing => Err(ClassicError::RebalanceInProgress),
            ClassicPhase::Empty | ClassicPhase::Completing | ClassicPhase::Stable => Ok(ClassicReply::Alive),
        }
    }
}

/// What a member hears that asked for its part, once the leader has said who does what.
pub fn synced(state: &ClassicState, caller: &ClassicCaller) -> Option<Result<ClassicPart, ClassicError>> {
    match check_caller(state, caller) {
        // There is none of that generation any more.
        Err(ClassicError::IllegalGeneration) => return Some(Err(ClassicError::RebalanceInProgress)),
        Err(error) => return Some(Err(error)),
        Ok(()) => {}
    }
    match state.phase() {
        ClassicPhase::Completing => None,
        ClassicPhase::Stable => Some(Ok(state.synced(&caller.member_id))),
        ClassicPhase::Preparing | ClassicPhase::Empty => Some(Err(ClassicError::RebalanceInProgress)),
    }
}
