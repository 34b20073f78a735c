//! Several brokers as real processes that form one cluster, faults for it, and the judgement of what came of them. Knows nothing of how a
//! broker works inside.
//!
//! - [`settings`]: how many brokers, where they run, on what disks. [`cluster`]: starts them, kills, pauses, restarts.
//! - [`private_network`]: a network namespace for each broker; [`cut`] drops what passes between them, and counts it. [`leftovers`]: what a
//!   killed earlier run left behind goes.
//! - [`sight`]: what the brokers themselves say of leaders, in-sync sets, watermarks.
//! - [`round`]: a workload under a fault, and the three assertions: it happened ([`evidence`]), the invariants held, the cluster healed.
//!   What they are judged by: [`tail`] reads along, [`observer`] looks on, [`replica_files`] compares what lies on the disks.

// Several files of one concept, so the names repeat it.
#![allow(clippy::module_inception)]

pub mod cluster;
pub mod cut;
pub mod evidence;
pub mod leftovers;
pub mod observer;
pub mod private_network;
pub mod replica_files;
pub mod round;
pub mod settings;
pub mod sight;
pub mod tail;

pub use cluster::Cluster;
pub use cut::{Cut, End};
pub use evidence::Evidence;
pub use round::{Round, Survived};
pub use settings::{ClusterSettings, Disks, Wiring};
