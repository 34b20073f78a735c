//! `tidelog verify`: a workload against a live cluster, and a judge of what came of it. In the order of a run:
//! - [`events`]: the history: what was done and told, one JSON line each.
//! - [`workload`]: producers that write unique values, and consumers that read along.
//! - [`last_reading`]: fresh consumers that read everything at the end.
//! - `reading_along`: what a consumer was handed, held against what stands there.
//! - [`judge`]: holds the history against what must hold; knows nothing of clients and brokers.
//! - [`verdict`]: what it found, as text and as JSON.

pub mod events;
pub mod judge;
pub mod last_reading;
mod reading_along;
pub mod verdict;
pub mod workload;
