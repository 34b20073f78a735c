//! JoinGroup: a member takes part in the next generation of a group.

use bytes::Bytes;

use crate::kafka_message;

kafka_message! {
    /// A way to share the work that a member knows.
    pub struct JoinGroupRequestProtocol {
        /// Its name.
        (0..) name: String;
        /// What the leader is to know of the member for it.
        (0..) metadata: Bytes;
    }
}

kafka_message! {
    /// Takes part, and waits until all others do.
    pub struct JoinGroupRequest {
        /// The group.
        (0..) group_id: String;
        /// How long the member may be silent, in milliseconds.
        (0..) session_timeout_ms: i32;
        /// How long it may take to join again, in milliseconds; before version 1 as long as it may be silent.
        (1..) rebalance_timeout_ms: i32 = -1;
        /// The id that it was given; empty where it has none yet.
        (0..) member_id: String;
        /// The name that outlives its process.
        (5..) group_instance_id: Option<String>, null (5..);
        /// What kind of work is shared.
        (0..) protocol_type: String;
        /// The ways to share it that the member knows, the one that it likes best first.
        (0..) protocols: Vec<JoinGroupRequestProtocol>;
        /// Why it joins, for people.
        (8..) reason: Option<String>, null (8..);
    }
}

kafka_message! {
    /// A member, as the leader sees it.
    pub struct JoinGroupResponseMember {
        /// Its id.
        (0..) member_id: String;
        /// The name that outlives its process.
        (5..) group_instance_id: Option<String>, null (5..);
        /// What it said for the protocol that was chosen.
        (0..) metadata: Bytes;
    }
}

kafka_message! {
    /// The generation begins.
    pub struct JoinGroupResponse {
        /// How long the client was held back, in milliseconds.
        (2..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The generation.
        (0..) generation_id: i32 = -1;
        /// What kind of work is shared.
        (7..) protocol_type: Option<String>, null (7..);
        /// The way to share it that was chosen.
        (0..) protocol_name: Option<String>, null (7..) = Some(String::new());
        /// The member that shares it out.
        (0..) leader: String;
        /// The leader leaves things as they are.
        (9..) skip_assignment: bool;
        /// The id of who asked.
        (0..) member_id: String;
        /// All members, for the leader alone.
        (0..) members: Vec<JoinGroupResponseMember>;
    }
}
