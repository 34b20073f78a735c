//! ListGroups: the groups that a broker coordinates.

use crate::kafka_message;

kafka_message! {
    /// Asks for groups.
    pub struct ListGroupsRequest {
        /// Only those in one of these states; empty: in any.
        (4..) states_filter: Vec<String>;
        /// Only those of one of these kinds; empty: of any.
        (5..) types_filter: Vec<String>;
    }
}

kafka_message! {
    /// A group.
    pub struct ListedGroup {
        /// Its name.
        (0..) group_id: String;
        /// What kind of work is shared.
        (0..) protocol_type: String;
        /// Its state by name.
        (4..) group_state: String;
        /// Its kind by name.
        (5..) group_type: String;
    }
}

kafka_message! {
    /// The groups.
    pub struct ListGroupsResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong: the list is not whole.
        (0..) error_code: i16;
        /// Those that there are.
        (0..) groups: Vec<ListedGroup>;
    }
}
