//! What the demos share: their command line, processes that can be killed, a cluster of three brokers, and a timeline to look at. Knows nothing of what a demo shows.
#![allow(dead_code, reason = "each demo uses a part")]

pub mod arguments;
pub mod cast;
pub mod cluster;
pub mod timeline;

/// What goes wrong in a demo, in a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
