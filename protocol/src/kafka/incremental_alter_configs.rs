//! IncrementalAlterConfigs: single values are set and reset, the others stay.

use super::alter_configs::AlterConfigsResourceResponse;
use crate::kafka_message;

/// Sets a value.
pub const SET: i8 = 0;
/// Puts a key back to its default.
pub const DELETE: i8 = 1;
/// Adds to a list.
pub const APPEND: i8 = 2;
/// Takes from a list.
pub const SUBTRACT: i8 = 3;

kafka_message! {
    /// A change of one value.
    pub struct AlterableConfig {
        /// Its key.
        (0..) name: String;
        /// What is done: 0 it is set, 1 put back to the default, 2 added to, 3 taken from.
        (0..) config_operation: i8;
        /// The value, or what is added or taken; comma-separated in a list.
        (0..) value: Option<String>, null (0..);
    }
}

kafka_message! {
    /// Whose values change.
    pub struct AlterConfigsResource {
        /// Its kind: 2 a topic, 4 a broker.
        (0..) resource_type: i8;
        /// The topic's name, or the broker's number.
        (0..) resource_name: String;
        /// The changes.
        (0..) configs: Vec<AlterableConfig>;
    }
}

kafka_message! {
    /// Changes configurations.
    pub struct IncrementalAlterConfigsRequest {
        /// Of which.
        (0..) resources: Vec<AlterConfigsResource>;
        /// Only check, change nothing.
        (0..) validate_only: bool;
    }
}

kafka_message! {
    /// What came of it.
    pub struct IncrementalAlterConfigsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// Of each.
        (0..) responses: Vec<AlterConfigsResourceResponse>;
    }
}
