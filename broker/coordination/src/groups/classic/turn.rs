//! One decision about a classic group: who may speak, and how one phase leads to the next. Knows nothing of what is asked for.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::Monotonic;

use super::command::{ClassicCaller, ClassicError};
use super::draft::Draft;
use super::election::elect;
use super::gathering::Gathering;
use super::state::ClassicState;
use crate::groups::command::GroupLimits;
use crate::groups::flaws::GroupFlaws;
use crate::groups::records::{ClassicGroupValue, ClassicMemberValue, ClassicPhase};

/// A decision as it comes about.
pub struct Turn<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) gathering: &'a mut Gathering,
    pub(super) limits: &'a GroupLimits,
    pub(super) now: Monotonic,
    pub(super) flaws: GroupFlaws,
}

impl<'a> Turn<'a> {
    /// Begins one, about a group that exists or a new one.
    pub fn new(
        (name, state): (&'a str, Option<&'a ClassicState>),
        gathering: &'a mut Gathering,
        (limits, flaws): (&'a GroupLimits, GroupFlaws),
        now: Monotonic,
    ) -> Self {
        let draft = Draft::new(name, state);
        gathering.look(draft.state(), now);
        Self { draft, gathering, limits, now, flaws }
    }

    /// What is to be stored.
    pub fn into_records(self) -> Vec<crate::groups::GroupRecord> {
        self.draft.into_records()
    }

    /// The group, as it will be.
    pub fn state(&self) -> &ClassicState {
        self.draft.state()
    }

    /// The members join again: the next generation begins once all have.
    pub(super) fn prepare(&mut self) {
        if self.state().phase() != ClassicPhase::Preparing {
            self.enter(ClassicPhase::Preparing);
        }
    }

    /// Members went.
    pub(super) fn departed(&mut self) {
        let phase = self.state().phase();
        if self.state().is_empty() {
            if phase != ClassicPhase::Empty {
                self.empty();
            }
        } else if phase != ClassicPhase::Preparing {
            self.prepare();
        }
        self.begin_generation();
    }

    /// Begins the next generation, if it is time for it: all have joined, or those who have not took too long.
    pub(super) fn begin_generation(&mut self) {
        if self.state().phase() != ClassicPhase::Preparing {
            return;
        }
        let arrived = |(id, _): (&str, &ClassicMemberValue)| self.gathering.has_arrived(id);
        let all_here = self.state().members().all(arrived) && self.gathering.promised() == 0;
        let is_late = self.now >= self.gathering.deadline(self.state());
        if !is_late && (!all_here || self.gathering.held_until(self.now).is_some()) {
            return;
        }
        if is_late {
            self.gathering.break_promises();
            self.dismiss_absent();
        }
        if self.state().is_empty() {
            return self.empty();
        }
        let Some(leader) = self.next_leader() else {
            // Members whose name outlives them are expected back until their session ends.
            return self.gathering.prolong(self.now);
        };
        let state = self.state();
        // Who joins must know what all others do.
        let Some(protocol) = elect(state) else { return };
        let value = ClassicGroupValue {
            phase: ClassicPhase::Completing,
            generation: next(state.generation()),
            protocol_type: state.protocol_type().to_owned(),
            protocol: Some(protocol),
            leader: Some(leader),
        };
        let here: Vec<String> = self.present();
        self.draft.set(value);
        self.gathering.look(self.draft.state(), self.now);
        for id in here {
            self.gathering.hear(&id, self.now);
        }
    }

    /// Who did not arrive and has no name that outlives it goes.
    pub(super) fn dismiss_absent(&mut self) {
        let absent = |(id, member): &(&str, &ClassicMemberValue)| {
            !self.gathering.has_arrived(id) && member.instance_id.is_none()
        };
        let absent: Vec<String> = self.state().members().filter(absent).map(|(id, _)| id.to_owned()).collect();
        for id in absent {
            self.draft.dismiss(&id);
        }
    }

    /// The caller, if it is a member and knows the generation.
    pub(super) fn check_caller(&self, caller: &ClassicCaller) -> Result<(), ClassicError> {
        check_caller(self.state(), caller)
    }

    fn enter(&mut self, phase: ClassicPhase) {
        self.draft.enter(phase);
        self.gathering.look(self.draft.state(), self.now);
    }

    fn empty(&mut self) {
        let state = self.state();
        let value = ClassicGroupValue {
            phase: ClassicPhase::Empty,
            generation: next(state.generation()),
            protocol_type: state.protocol_type().to_owned(),
            protocol: None,
            leader: None,
        };
        self.draft.set(value);
        self.gathering.look(self.draft.state(), self.now);
    }

    /// The leader until now, if it is here.
    fn next_leader(&self) -> Option<String> {
        let here = self.present();
        let before = self.state().leader().filter(|leader| self.gathering.has_arrived(leader));
        before.map(ToOwned::to_owned).or_else(|| here.into_iter().next())
    }

    fn present(&self) -> Vec<String> {
        let here = self.state().members().filter(|(id, _)| self.gathering.has_arrived(id));
        here.map(|(id, _)| id.to_owned()).collect()
    }
}

/// The caller, if it is a member and knows the generation.
pub fn check_caller(state: &ClassicState, caller: &ClassicCaller) -> Result<(), ClassicError> {
    check_identity(state, &caller.member_id, caller.instance_id.as_deref())?;
    if caller.generation != state.generation() {
        return Err(ClassicError::IllegalGeneration);
    }
    Ok(())
}

/// Is it a member, and nobody else by now under the name that outlives it?
pub fn check_identity(state: &ClassicState, member_id: &str, instance_id: Option<&str>) -> Result<(), ClassicError> {
    if let Some(instance_id) = instance_id {
        match state.instance(instance_id) {
            None => return Err(ClassicError::UnknownMember),
            Some(holder) if holder != member_id => return Err(ClassicError::FencedInstance),
            Some(_) => {}
        }
    }
    state.member(member_id).map(drop).ok_or(ClassicError::UnknownMember)
}

/// A generation that waiters can tell from this one.
const fn next(generation: i32) -> i32 {
    if generation == i32::MAX { 1 } else { generation + 1 }
}
