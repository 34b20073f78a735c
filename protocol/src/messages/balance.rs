//! Balance: replicas and preferred leaders are spread evenly over the brokers.

use crate::message;

message! {
    /// Spreads replicas over racks and brokers, and preferred leaders over replicas, with as few copies as that takes.
    pub struct BalanceRequest {
        /// How many replicas may be copied; 0 for no limit.
        1 copies_max: u32,
        /// Only plan, move nothing.
        1 validate_only: bool,
    }
}

message! {
    /// What moves.
    pub struct BalanceResponse {
        /// Partitions that copy replicas.
        1 copying: u32,
        /// Partitions that only prefer another leader.
        1 reordered: u32,
        /// Replicas that are copied; 0 means that they are spread already, or that nothing more may be copied.
        1 copies: u32,
    }
}
