//! The Tidelog broker: the IO shell around the pure rules. In the order a request meets them:
//!
//! - [`config`], [`config_sources`]: how it is set, and from where.
//! - [`broker`]: a broker's life; [`shutdown`](broker::Broker::shutdown) ends it. `folder`: what it opens of its data folder as it starts;
//!   `start_error`, `port_remedy`: why it does not, and what to do; `vital`: the tasks that it cannot do without.
//! - `net`: sockets and frames.
//! - [`session`], [`outbox`], [`streams`], `detour`: one client, what leaves for it, what it subscribed to, and what of it takes long to check.
//! - `api`: one file per API; `kafka`: the same for Kafka's protocol; `operations`: what they do, whichever protocol asks; `change`: those that change metadata, wherever the
//!   controller runs.
//! - [`partition`]: the partitions here: owners, tails, cursors.
//! - [`coordinators`]: groups and their offsets, over partitions of internal topics.
//! - [`quorum`]: metadata and the way to change it. [`peer`], [`member`]: the other brokers; `joining`, `registering`, `waiting`: becoming one of
//!   them; `belonging`: being one still.
//! - [`lease`]: what lets this broker acknowledge; `lease_watch`: what the controller does about brokers that are silent; `departed`:
//!   who serves no more, and since when.
//! - `replica`: following leaders elsewhere.
//! - `housekeeping`, `scrubber`, `scrub_plan`, `compactor`, `compactions`, `compaction_metrics`, `pulse`, [`stalls`], [`stall_rule`], `readiness`, `admin_http`, `admin_port`, `exposition`, [`metrics`], [`logging`], [`process`], [`clock`], [`budget`], [`pool`], `gait`, `turns`, [`files`], [`throttle`], [`catch_up`]: what runs beside.
//! - [`dev_cluster`]: several brokers on one machine, as processes of their own.
//! - [`producer_ids`]: ids for idempotent producers.
//! - [`watermarks`], `clean_mark`, `broker_mark`: what a broker notes for its next start.
//!
//! The arrows go one way: `net → {api, kafka} → operations → {replica, coordinators → partition, quorum → peer} → concept crates`. See `ARCHITECTURE.md`.

mod admin_http;
mod admin_port;
mod api;
mod belonging;
pub mod broker;
mod broker_mark;
pub mod budget;
pub mod catch_up;
mod change;
mod clean_mark;
pub mod clock;
mod compaction_metrics;
mod compactions;
mod compactor;
pub mod config;
pub mod config_sources;
pub mod coordinators;
mod departed;
mod detour;
pub mod dev_cluster;
mod exposition;
pub mod files;
mod folder;
mod folder_stamps;
mod gait;
mod housekeeping;
mod joining;
mod kafka;
pub mod lease;
mod lease_watch;
pub mod logging;
pub mod member;
pub mod metrics;
mod net;
pub mod node;
mod operations;
pub mod outbox;
mod own_id;
pub mod partition;
pub mod peer;
pub mod pool;
mod port_remedy;
pub mod process;
pub mod producer_ids;
mod pulse;
pub mod quorum;
mod readiness;
mod registering;
mod replica;
mod scrub_plan;
mod scrubber;
pub mod session;
mod shutdown;
pub mod stall_rule;
pub mod stalls;
mod stamping;
mod start_error;
pub mod streams;
pub mod throttle;
mod turns;
mod vital;
mod waiting;
pub mod watermarks;

pub use broker::Broker;
pub use config::Config;
pub use start_error::StartError;
pub use vital::BreakDown;
