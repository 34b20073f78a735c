//! The load generators: what they send, when, what they measure and how they say it.
//!
//! In the order of a run:
//! - [`options`]: the command line that both share.
//! - [`session`]: what surrounds the workers, from the topic to the report.
//! - [`producer`], [`consumer`]: the workers of `perf-producer` and `perf-consumer`.
//! - [`membership`]: the workers of `perf-consumer --group`.
//! - `transactions`: a worker of `perf-producer` that sends within them.
//! - [`flight`]: records on their way to their acks.
//! - [`limits`]: what the machine itself can do, measured in the same run.
//! - [`payload`]: the record that is sent, with its intended send time in front.
//! - [`pacer`] and [`timer`]: when each record is due, and a wait that is precise enough for it.
//! - [`latency`]: how long each took, in an HdrHistogram.
//! - [`progress`]: how far the workers are, and the samples over time.
//! - [`live_rate`]: the line on the terminal.
//! - [`usage`]: CPU time and memory of this process.
//! - [`summary`]: the figures of a run, as JSON and as text.
//! - [`chart`] and [`report`]: the same as one HTML page.

pub mod chart;
pub mod consumer;
pub mod flight;
pub mod latency;
pub mod limits;
pub mod live_rate;
pub mod membership;
pub mod options;
pub mod pacer;
pub mod payload;
pub mod producer;
pub mod progress;
pub mod report;
pub mod session;
pub mod summary;
pub mod timer;
mod transactions;
pub mod usage;
