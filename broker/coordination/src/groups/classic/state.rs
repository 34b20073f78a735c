//! Who is in a classic group and what each does: the latest value of each key that its log holds. Knows nothing of offsets, nor of time.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidelog_protocol::codec::Bytes;

use super::command::{ClassicJoined, ClassicJoinedMember, ClassicPart};
use crate::groups::records::{ClassicGroupValue, ClassicMemberValue, ClassicPhase, GroupRecord};

/// The members of a classic group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassicState {
    value: Option<ClassicGroupValue>,
    members: BTreeMap<String, Arc<ClassicMemberValue>>,
    parts: BTreeMap<String, Bytes>,
}

impl ClassicState {
    /// Was nothing written of it, or all of it taken back?
    pub fn is_void(&self) -> bool {
        self.value.is_none() && self.members.is_empty() && self.parts.is_empty()
    }

    /// The group's own record.
    pub const fn value(&self) -> Option<&ClassicGroupValue> {
        self.value.as_ref()
    }

    /// How far its members are.
    pub fn phase(&self) -> ClassicPhase {
        self.value.as_ref().map_or(ClassicPhase::Empty, |value| value.phase)
    }

    /// The generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.value.as_ref().map_or(0, |value| value.generation)
    }

    /// Who shares the work out.
    pub fn leader(&self) -> Option<&str> {
        self.value.as_ref()?.leader.as_deref()
    }

    /// The way to share it that was chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.value.as_ref()?.protocol.as_deref()
    }

    /// What kind of work is shared; empty where that is open.
    pub fn protocol_type(&self) -> &str {
        self.value.as_ref().map_or("", |value| &value.protocol_type)
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&str, &ClassicMemberValue)> {
        self.members.iter().map(|(id, member)| (id.as_str(), &**member))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Has it no members?
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member.
    pub fn member(&self, id: &str) -> Option<&ClassicMemberValue> {
        self.members.get(id).map(|member| &**member)
    }

    /// The id of the member that has an instance id.
    pub fn instance(&self, instance_id: &str) -> Option<&str> {
        self.members().find(|(_, member)| member.instance_id.as_deref() == Some(instance_id)).map(|(id, _)| id)
    }

    /// What a member does.
    pub fn part(&self, id: &str) -> Bytes {
        self.parts.get(id).cloned().unwrap_or_default()
    }

    /// What a member said for the protocol that was chosen.
    pub fn metadata(&self, member: &ClassicMemberValue) -> Bytes {
        let chosen = self.protocol();
        let said = member.protocols.iter().find(|protocol| Some(protocol.name.as_str()) == chosen);
        said.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// The generation as a member hears of it: the leader of all members, the others of nobody.
    pub fn joined(&self, id: &str) -> ClassicJoined {
        let leads = self.leader() == Some(id);
        ClassicJoined {
            member_id: id.to_owned(),
            generation: self.generation(),
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().unwrap_or_default().to_owned(),
            leader: self.leader().unwrap_or_default().to_owned(),
            skips_assignment: false,
            members: if leads { self.joined_members() } else { Vec::new() },
        }
    }

    /// All members, as the leader sees them.
    pub fn joined_members(&self) -> Vec<ClassicJoinedMember> {
        let of = |(id, member): (&str, &ClassicMemberValue)| ClassicJoinedMember {
            member_id: id.to_owned(),
            instance_id: member.instance_id.clone(),
            metadata: self.metadata(member),
        };
        self.members().map(of).collect()
    }

    /// What a member does, as it hears of it.
    pub fn synced(&self, id: &str) -> ClassicPart {
        ClassicPart {
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().unwrap_or_default().to_owned(),
            assignment: self.part(id),
        }
    }

    /// Applies a record of this group; those of other kinds change nothing.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ClassicGroup(_, value) => self.value.clone_from(value),
            GroupRecord::ClassicMember(key, Some(value)) => {
                self.members.insert(key.member_id.clone(), Arc::new(value.clone()));
            }
            GroupRecord::ClassicMember(key, None) => drop(self.members.remove(&key.member_id)),
            GroupRecord::ClassicPart(key, Some(value)) => {
                self.parts.insert(key.member_id.clone(), value.assignment.clone());
            }
            GroupRecord::ClassicPart(key, None) => drop(self.parts.remove(&key.member_id)),
            GroupRecord::Group(..) | GroupRecord::Member(..) | GroupRecord::Target(..) | GroupRecord::Current(..) => {}
            GroupRecord::Offset(..) | GroupRecord::PendingOffset(..) | GroupRecord::Fence(..) => {}
        }
    }
}
