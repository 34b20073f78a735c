//! ApiVersions: what is served, asked before anything else.

use crate::kafka_message;

kafka_message! {
    /// What do you serve?
    pub struct ApiVersionsRequest {
        /// The library of the client.
        (3..) client_software_name: String;
        /// Its version.
        (3..) client_software_version: String;
    }
}

kafka_message! {
    /// An API and its versions.
    pub struct ApiVersion {
        /// Its number.
        (0..) api_key: i16;
        /// The first version.
        (0..) min_version: i16;
        /// The last version.
        (0..) max_version: i16;
    }
}

kafka_message! {
    /// A feature that could be in use.
    pub struct SupportedFeatureKey {
        /// Its name.
        (3..) name: String;
        /// The first level.
        (3..) min_version: i16;
        /// The last level.
        (3..) max_version: i16;
    }
}

kafka_message! {
    /// A feature that is in use.
    pub struct FinalizedFeatureKey {
        /// Its name.
        (3..) name: String;
        /// The last level in use.
        (3..) max_version_level: i16;
        /// The first level in use.
        (3..) min_version_level: i16;
    }
}

kafka_message! {
    /// What is served.
    pub struct ApiVersionsResponse {
        /// What went wrong.
        (0..) error_code: i16;
        /// The APIs.
        (0..) api_keys: Vec<ApiVersion>;
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// Features that could be in use.
        (3..) supported_features: Vec<SupportedFeatureKey>, tag 0;
        /// As of when the features in use are these; -1 where that is not known.
        (3..) finalized_features_epoch: i64, tag 1 = -1;
        /// Features in use.
        (3..) finalized_features: Vec<FinalizedFeatureKey>, tag 2;
        /// Of a cluster that is leaving ZooKeeper.
        (3..) zk_migration_ready: bool, tag 3;
    }
}
