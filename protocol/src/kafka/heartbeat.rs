//! Heartbeat: a member lives, and hears whether it is to join again.

use crate::kafka_message;

kafka_message! {
    /// The member lives.
    pub struct HeartbeatRequest {
        /// The group.
        (0..) group_id: String;
        /// The generation that it knows.
        (0..) generation_id: i32;
        /// The member.
        (0..) member_id: String;
        /// The name that outlives its process.
        (3..) group_instance_id: Option<String>, null (3..);
    }
}

kafka_message! {
    /// It was heard.
    pub struct HeartbeatResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}
