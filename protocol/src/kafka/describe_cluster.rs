//! DescribeCluster: which brokers there are.

use super::metadata::NOT_ASKED;
use crate::kafka_message;

kafka_message! {
    /// Who is there?
    pub struct DescribeClusterRequest {
        /// Say what the client may do with the cluster.
        (0..) include_cluster_authorized_operations: bool;
        /// Whose addresses: 1 brokers, 2 controllers.
        (1..) endpoint_type: i8 = 1;
        /// Those without a lease, too.
        (2..) include_fenced_brokers: bool;
    }
}

kafka_message! {
    /// A broker and its address.
    pub struct DescribeClusterBroker {
        /// The broker.
        (0..) broker_id: i32;
        /// Host to dial.
        (0..) host: String;
        /// Port.
        (0..) port: i32;
        /// Where it stands.
        (0..) rack: Option<String>, null (0..);
        /// Whether it has no lease.
        (2..) is_fenced: bool;
    }
}

kafka_message! {
    /// Who is there.
    pub struct DescribeClusterResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// Whose addresses: 1 brokers, 2 controllers.
        (1..) endpoint_type: i8 = 1;
        /// The cluster.
        (0..) cluster_id: String;
        /// The broker to which changes of metadata are sent.
        (0..) controller_id: i32 = -1;
        /// The brokers.
        (0..) brokers: Vec<DescribeClusterBroker>;
        /// What the client may do with the cluster.
        (0..) cluster_authorized_operations: i32 = NOT_ASKED;
    }
}
