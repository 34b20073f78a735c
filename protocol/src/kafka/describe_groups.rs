//! DescribeGroups: who is in groups, and what each member does.

use bytes::Bytes;

use super::metadata::NOT_ASKED;
use crate::kafka_message;

kafka_message! {
    /// Asks how groups are.
    pub struct DescribeGroupsRequest {
        /// The groups.
        (0..) groups: Vec<String>;
        /// Say what the client may do with each.
        (3..) include_authorized_operations: bool;
    }
}

kafka_message! {
    /// A member.
    pub struct DescribedGroupMember {
        /// Its id.
        (0..) member_id: String;
        /// The name that outlives its process.
        (4..) group_instance_id: Option<String>, null (4..);
        /// What it calls itself.
        (0..) client_id: String;
        /// Where it is.
        (0..) client_host: String;
        /// What it said for the protocol that was chosen.
        (0..) member_metadata: Bytes;
        /// Its part.
        (0..) member_assignment: Bytes;
    }
}

kafka_message! {
    /// How one group is.
    pub struct DescribedGroup {
        /// What went wrong.
        (0..) error_code: i16;
        /// The same in words.
        (6..) error_message: Option<String>, null (6..);
        /// The group.
        (0..) group_id: String;
        /// Its state by name.
        (0..) group_state: String;
        /// What kind of work is shared.
        (0..) protocol_type: String;
        /// How.
        (0..) protocol_data: String;
        /// Its members.
        (0..) members: Vec<DescribedGroupMember>;
        /// What the client may do with it.
        (3..) authorized_operations: i32 = NOT_ASKED;
    }
}

kafka_message! {
    /// How groups are.
    pub struct DescribeGroupsResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// One for each.
        (0..) groups: Vec<DescribedGroup>;
    }
}
