//! The machine of groups, as its driver wants it.

use tidelog_coordination::Refusal;
use tidelog_coordination::groups::{self, GroupCommand, GroupDecision, GroupLimits, GroupRecord, GroupReply, Groups};
use tidelog_coordination::salvage::Remains;
use tidelog_protocol::{Monotonic, Timestamp};

use super::machine::{KeyValue, Machine, Moment};

impl Machine for Groups {
    type Command = GroupCommand;
    type Reply = GroupReply;
    type Record = GroupRecord;

    fn new() -> Self {
        Self::new(GroupLimits::default())
    }

    fn decide(&mut self, command: &GroupCommand, at: Moment<'_>) -> Result<(Vec<GroupRecord>, GroupReply), Refusal> {
        let GroupDecision { records, reply } = self.handle(command, at.image, at.now, at.wall)?;
        Ok((records, reply))
    }

    fn expire(&mut self, at: Moment<'_>) -> Vec<GroupRecord> {
        self.expire(at.image, at.now)
    }

    fn replay(&mut self, record: &GroupRecord) {
        self.replay(record);
    }

    fn loaded(&mut self, now: Monotonic, _wall: Timestamp) {
        self.loaded(now);
    }

    fn forgive(&mut self, now: Monotonic) {
        self.loaded(now);
    }

    fn salvage(remains: Remains<Self::Record>, _wall: Timestamp) -> Vec<Self::Record> {
        groups::salvage(remains)
    }

    fn to_log(record: &GroupRecord) -> KeyValue {
        (record.key(), record.value())
    }

    fn from_log(key: &[u8], value: Option<&[u8]>) -> Result<GroupRecord, String> {
        GroupRecord::from_key_value(key, value).map_err(|error| error.to_string())
    }
}
