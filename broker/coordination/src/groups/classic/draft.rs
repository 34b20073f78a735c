//! The records of one decision about a classic group as they come about, and the group as it will be after them. Knows nothing of who asked for
//! what.

use alloc::borrow::{Cow, ToOwned};
use alloc::vec::Vec;

use tidelog_protocol::codec::Bytes;

use super::state::ClassicState;
use crate::groups::records::{
    ClassicGroupValue, ClassicMemberValue, ClassicPartValue, ClassicPhase, GroupKey, GroupRecord, MemberKey,
};

/// A classic group that is being changed. Costs a copy only once something changes.
pub(super) struct Draft<'a> {
    name: &'a str,
    state: Cow<'a, ClassicState>,
    records: Vec<GroupRecord>,
}

impl<'a> Draft<'a> {
    /// Of a group that exists, or of a new one.
    pub fn new(name: &'a str, state: Option<&'a ClassicState>) -> Self {
        let state = state.map_or_else(|| Cow::Owned(ClassicState::default()), Cow::Borrowed);
        Self { name, state, records: Vec::new() }
    }

    /// As it will be.
    pub fn state(&self) -> &ClassicState {
        &self.state
    }

    /// What is to be stored.
    pub fn into_records(self) -> Vec<GroupRecord> {
        self.records
    }

    /// A member said this of itself.
    pub fn admit(&mut self, id: &str, said: ClassicMemberValue) {
        if self.state.member(id) != Some(&said) {
            self.write(GroupRecord::ClassicMember(self.key(id), Some(said)));
        }
    }

    /// It is no member any more.
    pub fn dismiss(&mut self, id: &str) {
        self.write(GroupRecord::ClassicPart(self.key(id), None));
        self.write(GroupRecord::ClassicMember(self.key(id), None));
    }

    /// It does this.
    pub fn give(&mut self, id: &str, assignment: Bytes) {
        self.write(GroupRecord::ClassicPart(self.key(id), Some(ClassicPartValue { assignment })));
    }

    /// The group is in another phase of the same generation.
    pub fn enter(&mut self, phase: ClassicPhase) {
        let value = self.state.value().cloned().unwrap_or_default();
        self.set(ClassicGroupValue { phase, ..value });
    }

    /// The group's own record.
    pub fn set(&mut self, value: ClassicGroupValue) {
        let key = GroupKey { group: self.name.to_owned() };
        self.write(GroupRecord::ClassicGroup(key, Some(value)));
    }

    fn write(&mut self, record: GroupRecord) {
        self.state.to_mut().replay(&record);
        self.records.push(record);
    }

    fn key(&self, id: &str) -> MemberKey {
        MemberKey { group: self.name.to_owned(), member_id: id.to_owned() }
    }
}
