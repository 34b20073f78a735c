//! Members go: by themselves, by order, by silence, or by being slow. Knows nothing of how time passes.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::Monotonic;

use super::command::{ClassicError, ClassicIdentity, ClassicReply};
use super::turn::{Turn, check_identity};
use crate::groups::records::{ClassicMemberValue, ClassicPhase};

impl Turn<'_> {
    /// These go.
    pub fn leave(&mut self, members: &[ClassicIdentity]) -> ClassicReply {
        let left = members.iter().map(|member| self.dismiss(member)).collect();
        self.departed();
        ClassicReply::Left(left)
    }

    fn dismiss(&mut self, member: &ClassicIdentity) -> Result<(), ClassicError> {
        let ClassicIdentity { member_id, instance_id } = member;
        let holder = instance_id.as_deref().and_then(|instance| self.state().instance(instance)).map(String::from);
        let id = match holder {
            // By order, its id is not known.
            Some(holder) if member_id.is_empty() => holder,
            _ if instance_id.is_none() && self.gathering.redeem(member_id) => return Ok(()),
            _ => {
                check_identity(self.state(), member_id, instance_id.as_deref())?;
                member_id.clone()
            }
        };
        self.draft.dismiss(&id);
        Ok(())
    }

    /// What the passing of time brings about; and when to look again if nothing happens until then.
    pub fn pass(&mut self) -> Option<Monotonic> {
        self.gathering.forget_promises(self.now);
        let silent: Vec<String> = self.sessions().filter(|(_, due)| *due <= self.now).map(|(id, _)| id).collect();
        let before = self.state().count();
        for id in &silent {
            self.draft.dismiss(id);
        }
        let is_late = self.now >= self.gathering.deadline(self.state());
        if self.state().phase() == ClassicPhase::Completing && is_late && !self.state().is_empty() {
            self.dismiss_absent();
            if self.state().count() == before - silent.len() {
                // All that are missing have a name that outlives them: they are expected until their session ends.
                self.gathering.prolong(self.now);
            }
        }
        if self.state().count() < before {
            self.departed();
        } else {
            self.begin_generation();
        }
        self.due()
    }

    fn due(&self) -> Option<Monotonic> {
        let phase = match self.state().phase() {
            ClassicPhase::Preparing | ClassicPhase::Completing => Some(self.gathering.deadline(self.state())),
            ClassicPhase::Empty | ClassicPhase::Stable => None,
        };
        let held = self.gathering.held_until(self.now);
        self.sessions().map(|(_, due)| due).chain(phase).chain(held).chain(self.gathering.promise_due()).min()
    }

    /// When members have to be heard of. Who waits for the others cannot be.
    fn sessions(&self) -> impl Iterator<Item = (String, Monotonic)> {
        let speaks = |(id, _): &(&str, &ClassicMemberValue)| match self.state().phase() {
            ClassicPhase::Preparing | ClassicPhase::Completing => !self.gathering.has_arrived(id),
            ClassicPhase::Empty | ClassicPhase::Stable => true,
        };
        let due = |(id, member): (&str, &ClassicMemberValue)| {
            let heard = self.gathering.heard(id)?;
            Some((id.to_owned(), heard.plus_ms(u64::from(member.session_ms))))
        };
        self.state().members().filter(speaks).filter_map(due)
    }
}
