//! LeaveGroup: members go, of their own accord or by an operator's order.

use crate::kafka_message;

kafka_message! {
    /// A member that goes.
    pub struct MemberIdentity {
        /// Its id; empty where only the other name is known.
        (0..) member_id: String;
        /// The name that outlives its process.
        (0..) group_instance_id: Option<String>, null (0..);
        /// Why, for people.
        (5..) reason: Option<String>, null (5..);
    }
}

kafka_message! {
    /// Members go.
    pub struct LeaveGroupRequest {
        /// The group.
        (0..) group_id: String;
        /// The one member.
        (0..=2) member_id: String;
        /// The members.
        (3..) members: Vec<MemberIdentity>;
    }
}

kafka_message! {
    /// What came of it for one.
    pub struct MemberResponse {
        /// The member.
        (0..) member_id: String;
        /// The name that outlives its process.
        (0..) group_instance_id: Option<String>, null (0..);
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// They are gone.
    pub struct LeaveGroupResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong with all of it.
        (0..) error_code: i16;
        /// One for each member.
        (3..) members: Vec<MemberResponse>;
    }
}
