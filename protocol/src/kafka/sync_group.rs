//! SyncGroup: the leader says who does what, and every member hears its part.

use bytes::Bytes;

use crate::kafka_message;

kafka_message! {
    /// What one member is to do.
    pub struct SyncGroupRequestAssignment {
        /// The member.
        (0..) member_id: String;
        /// Its part.
        (0..) assignment: Bytes;
    }
}

kafka_message! {
    /// Asks for the member's part; from the leader, with those of all.
    pub struct SyncGroupRequest {
        /// The group.
        (0..) group_id: String;
        /// The generation.
        (0..) generation_id: i32;
        /// Who asks.
        (0..) member_id: String;
        /// The name that outlives its process.
        (3..) group_instance_id: Option<String>, null (3..);
        /// What kind of work is shared, as it was told; null: not checked.
        (5..) protocol_type: Option<String>, null (5..);
        /// The way to share it, as it was told; null: not checked.
        (5..) protocol_name: Option<String>, null (5..);
        /// Every member's part, from the leader alone.
        (0..) assignments: Vec<SyncGroupRequestAssignment>;
    }
}

kafka_message! {
    /// The member's part.
    pub struct SyncGroupResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// What kind of work is shared.
        (5..) protocol_type: Option<String>, null (5..);
        /// The way to share it that was chosen.
        (5..) protocol_name: Option<String>, null (5..);
        /// The part.
        (0..) assignment: Bytes;
    }
}
