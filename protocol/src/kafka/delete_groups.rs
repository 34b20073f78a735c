//! DeleteGroups: groups without members are forgotten.

use crate::kafka_message;

kafka_message! {
    /// Forgets groups.
    pub struct DeleteGroupsRequest {
        /// The groups.
        (0..) groups_names: Vec<String>;
    }
}

kafka_message! {
    /// What came of one.
    pub struct DeletableGroupResult {
        /// The group.
        (0..) group_id: String;
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// What came of it.
    pub struct DeleteGroupsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// One for each.
        (0..) results: Vec<DeletableGroupResult>;
    }
}
