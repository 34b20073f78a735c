//! AlterConfigs: another configuration in the place of the one that was; what it does not name goes back to the defaults.

use crate::kafka_message;

kafka_message! {
    /// One value.
    pub struct AlterableConfig {
        /// Its key.
        (0..) name: String;
        /// The value.
        (0..) value: Option<String>, null (0..);
    }
}

kafka_message! {
    /// What gets another configuration.
    pub struct AlterConfigsResource {
        /// Its kind: 2 a topic, 4 a broker.
        (0..) resource_type: i8;
        /// The topic's name, or the broker's number.
        (0..) resource_name: String;
        /// All that it shall set itself.
        (0..) configs: Vec<AlterableConfig>;
    }
}

kafka_message! {
    /// Sets configurations.
    pub struct AlterConfigsRequest {
        /// Of which.
        (0..) resources: Vec<AlterConfigsResource>;
        /// Only check, change nothing.
        (0..) validate_only: bool;
    }
}

kafka_message! {
    /// What came of one.
    pub struct AlterConfigsResourceResponse {
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// The kind.
        (0..) resource_type: i8;
        /// The name.
        (0..) resource_name: String;
    }
}

kafka_message! {
    /// What came of it.
    pub struct AlterConfigsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// Of each.
        (0..) responses: Vec<AlterConfigsResourceResponse>;
    }
}
