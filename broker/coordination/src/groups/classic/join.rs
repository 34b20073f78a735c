//! A member joins a classic group: a new one, one that was given an id, one that joins again, or the next life of one whose name outlives it.
//! Knows nothing of how the generation begins.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::{ClassicError, ClassicJoin, ClassicReply, ClassicSpeech};
use super::election::{elect, fits};
use super::turn::{Turn, check_identity};
use crate::groups::command::Bounds;
use crate::groups::flaws::GroupFlaw;
use crate::groups::records::{ClassicGroupValue, ClassicMemberValue, ClassicPhase};

/// The longest member id and name of a client, in bytes.
const NAME_BYTES_MAX: usize = 600;
/// Bytes of what a member says for all ways to share the work.
const METADATA_BYTES_MAX: usize = 256 << 10;

impl Turn<'_> {
    /// A member takes part.
    pub fn join(&mut self, ask: &ClassicJoin) -> Result<ClassicReply, ClassicError> {
        let said = self.said(ask)?;
        let holder = said.instance_id.as_deref().and_then(|instance| self.state().instance(instance)).map(String::from);
        let known = !ask.member_id.is_empty();
        match (holder, known) {
            (Some(holder), false) => return self.replace(&holder, ask, said),
            (Some(holder), true) if holder != ask.member_id => {
                return Err(ClassicError::FencedInstance);
            }
            (None, true) if said.instance_id.is_some() => return Err(ClassicError::UnknownMember),
            _ => {}
        }
        if known && self.state().member(&ask.member_id).is_some() {
            return self.join_again(ask, said);
        }
        self.check_fits(ask, None)?;
        if known {
            if !self.gathering.redeem(&ask.member_id) {
                return Err(ClassicError::UnknownMember);
            }
            return Ok(self.take_in(&ask.member_id, said));
        }
        if self.state().count() + self.gathering.promised() >= self.limits.members_max {
            return Err(ClassicError::GroupFull);
        }
        if said.instance_id.is_none() && ask.speaks > ClassicSpeech::First {
            self.gathering.promise(&ask.fresh_id, said.session_ms, self.now);
            return Err(ClassicError::MemberIdRequired(ask.fresh_id.clone()));
        }
        Ok(self.take_in(&ask.fresh_id, said))
    }

    /// It is a member from now on, and waits for the others.
    fn take_in(&mut self, id: &str, said: ClassicMemberValue) -> ClassicReply {
        self.draft.admit(id, said);
        self.wait_for_others(id)
    }

    fn wait_for_others(&mut self, id: &str) -> ClassicReply {
        let is_first = self.state().phase() == ClassicPhase::Empty;
        self.prepare();
        if is_first {
            // Others are likely to come, and each that comes later costs all of them another round.
            self.gathering.hold(self.now.plus_ms(u64::from(self.limits.classic_hold_ms)));
        }
        self.gathering.arrive(id, self.now);
        let after = self.state().generation();
        self.begin_generation();
        ClassicReply::JoinLater { member_id: id.to_owned(), after }
    }

    fn join_again(&mut self, ask: &ClassicJoin, said: ClassicMemberValue) -> Result<ClassicReply, ClassicError> {
        let id = ask.member_id.as_str();
        self.check_fits(ask, Some(id))?;
        let state = self.state();
        let changed = state.member(id).is_none_or(|before| before.protocols != said.protocols);
        let leads = state.leader() == Some(id);
        let missed_the_answer = match state.phase() {
            ClassicPhase::Completing => !changed,
            // A leader has seen something that the work depends on.
            ClassicPhase::Stable => !changed && !leads,
            ClassicPhase::Empty | ClassicPhase::Preparing => false,
        };
        self.draft.admit(id, said);
        if missed_the_answer {
            self.gathering.hear(id, self.now);
            return Ok(ClassicReply::Joined(self.state().joined(id)));
        }
        Ok(self.wait_for_others(id))
    }

    /// The next life of a member: under a new id it goes on with what the one before does, which is shut out.
    fn replace(
        &mut self,
        holder: &str,
        ask: &ClassicJoin,
        said: ClassicMemberValue,
    ) -> Result<ClassicReply, ClassicError> {
        self.check_fits(ask, Some(holder))?;
        let (id, part) = (ask.fresh_id.as_str(), self.state().part(holder));
        let led = self.state().leader() == Some(holder);
        if !self.flaws.has(GroupFlaw::InstanceUnfenced) {
            self.draft.dismiss(holder);
        }
        self.draft.admit(id, said);
        self.draft.give(id, part);
        if led && let Some(value) = self.state().value().cloned() {
            self.draft.set(ClassicGroupValue { leader: Some(id.to_owned()), ..value });
        }
        let chosen_as_before = elect(self.state()).as_deref() == self.state().protocol();
        if self.state().phase() != ClassicPhase::Stable || !chosen_as_before {
            return Ok(self.wait_for_others(id));
        }
        self.gathering.look(self.draft.state(), self.now);
        let mut joined = self.state().joined(id);
        if led && ask.speaks >= ClassicSpeech::SkipsAssignment {
            joined.skips_assignment = true;
        } else if led {
            // Told that it leads it would share the work out anew.
            joined.leader = holder.to_owned();
            joined.members = Vec::new();
        }
        Ok(ClassicReply::Joined(joined))
    }

    fn check_fits(&mut self, ask: &ClassicJoin, except: Option<&str>) -> Result<(), ClassicError> {
        if !fits(self.state(), &ask.protocol_type, &ask.protocols, except) {
            return Err(ClassicError::InconsistentProtocol);
        }
        let is_alone = self.state().members().all(|(id, _)| Some(id) == except);
        if is_alone && self.state().protocol_type() != ask.protocol_type {
            let value = self.state().value().cloned().unwrap_or_default();
            self.draft.set(ClassicGroupValue { protocol_type: ask.protocol_type.clone(), ..value });
        }
        Ok(())
    }

    fn said(&self, ask: &ClassicJoin) -> Result<ClassicMemberValue, ClassicError> {
        let names = [&ask.member_id, &ask.client_id, &ask.client_host, &ask.protocol_type];
        let too_long = |name: &str| name.len() > NAME_BYTES_MAX;
        if names.into_iter().chain(&ask.instance_id).any(|name| too_long(name)) {
            return Err(ClassicError::InvalidGroup);
        }
        if ask.instance_id.as_deref().is_some_and(str::is_empty) {
            return Err(ClassicError::InvalidGroup);
        }
        let bytes: usize = ask.protocols.iter().map(|said| said.name.len() + said.metadata.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(ClassicError::GroupFull);
        }
        let Bounds { min, max, .. } = self.limits.classic_session_ms;
        let session_ms = u32::try_from(ask.session_ms).ok().filter(|ms| (min..=max).contains(ms));
        let session_ms = session_ms.ok_or(ClassicError::InvalidSession)?;
        let rebalance_ms = u32::try_from(ask.rebalance_ms).ok().filter(|ms| *ms > 0).unwrap_or(session_ms);
        Ok(ClassicMemberValue {
            instance_id: ask.instance_id.clone(),
            client_id: ask.client_id.clone(),
            client_host: ask.client_host.clone(),
            session_ms,
            rebalance_ms,
            protocols: ask.protocols.clone(),
        })
    }
}

/// What a member hears that joined, once the generation after `after` has begun.
pub fn joined(
    state: &super::ClassicState,
    (member_id, instance_id): (&str, Option<&str>),
    after: i32,
) -> Option<Result<super::ClassicJoined, ClassicError>> {
    if let Err(error) = check_identity(state, member_id, instance_id) {
        return Some(Err(error));
    }
    (state.generation() != after).then(|| Ok(state.joined(member_id)))
}
