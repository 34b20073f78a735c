//! FindCoordinator: which broker coordinates groups or transactional producers.

use crate::kafka_message;

/// Asks for the coordinator of a group.
pub const GROUP: i8 = 0;
/// Asks for the coordinator of a transactional producer.
pub const TRANSACTION: i8 = 1;

kafka_message! {
    /// Asks who coordinates.
    pub struct FindCoordinatorRequest {
        /// The name of what is coordinated.
        (0..=3) key: String;
        /// What that is, as above.
        (1..) key_type: i8;
        /// Several names.
        (4..) coordinator_keys: Vec<String>;
    }
}

kafka_message! {
    /// Who coordinates one of several.
    pub struct Coordinator {
        /// Its name.
        (0..) key: String;
        /// The broker; -1 where none does.
        (0..) node_id: i32;
        /// Host to dial.
        (0..) host: String;
        /// Port.
        (0..) port: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same in words.
        (0..) error_message: Option<String>, null (0..);
    }
}

kafka_message! {
    /// Who coordinates.
    pub struct FindCoordinatorResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// What went wrong.
        (0..=3) error_code: i16;
        /// The same in words.
        (1..=3) error_message: Option<String>, null (0..) = Some(String::new());
        /// The broker; -1 where none does.
        (0..=3) node_id: i32;
        /// Host to dial.
        (0..=3) host: String;
        /// Port.
        (0..=3) port: i32;
        /// One for each name.
        (4..) coordinators: Vec<Coordinator>;
    }
}
