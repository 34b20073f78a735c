//! DescribeConfigs: configuration values of topics and brokers, with where they come from.

use crate::kafka_message;

kafka_message! {
    /// What has a configuration.
    pub struct DescribeConfigsResource {
        /// Its kind: 2 a topic, 4 a broker.
        (0..) resource_type: i8;
        /// The topic's name, or the broker's number.
        (0..) resource_name: String;
        /// The keys asked for; null or empty means all.
        (0..) configuration_keys: Option<Vec<String>>, null (0..);
    }
}

kafka_message! {
    /// Asks for configurations.
    pub struct DescribeConfigsRequest {
        /// Whose.
        (0..) resources: Vec<DescribeConfigsResource>;
        /// Say of each value what it goes before.
        (1..) include_synonyms: bool;
        /// Say of each key what it means.
        (3..) include_documentation: bool;
    }
}

kafka_message! {
    /// A place where a value is set, or would be.
    pub struct DescribeConfigsSynonym {
        /// The key there.
        (1..) name: String;
        /// The value.
        (1..) value: Option<String>, null (1..);
        /// The place, numbered as `config_source`.
        (1..) source: i8;
    }
}

kafka_message! {
    /// One configuration value.
    pub struct DescribeConfigsResourceResult {
        /// Its key.
        (0..) name: String;
        /// The value that holds.
        (0..) value: Option<String>, null (0..);
        /// Whether it cannot be changed by a request.
        (0..) read_only: bool;
        /// Where it comes from: 1 the topic itself, 4 the broker's own configuration, 5 the defaults.
        (1..) config_source: i8 = -1;
        /// Whether it is a secret.
        (0..) is_sensitive: bool;
        /// Where it is set, the place that wins first.
        (1..) synonyms: Vec<DescribeConfigsSynonym>;
        /// Its type: 1 boolean, 2 text, 3 a number of 32 bits, 4 of 16, 5 of 64, 6 a fraction, 7 a list.
        (3..) config_type: i8;
        /// What it means.
        (3..) documentation: Option<String>, null (0..) = Some(String::new());
    }
}

kafka_message! {
    /// A configuration.
    pub struct DescribeConfigsResult {
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// Whose it is: the kind.
        (0..) resource_type: i8;
        /// Whose it is: the name.
        (0..) resource_name: String;
        /// Its values.
        (0..) configs: Vec<DescribeConfigsResourceResult>;
    }
}

kafka_message! {
    /// Configurations.
    pub struct DescribeConfigsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// One of each.
        (0..) results: Vec<DescribeConfigsResult>;
    }
}
