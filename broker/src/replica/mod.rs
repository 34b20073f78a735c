//! Following leaders elsewhere, and asking the controller about those who follow here. In flow order:
//! - [`board`]: what the owners of followed partitions want of each leader; only the latest counts.
//! - `pursuit`: one task for each leader: carries questions and reports there, answers and batches back; `streams`: what it knows of
//!   each partition.
//! - `link`: the connection to a leader.
//! - `in_sync`: carries proposed in-sync sets to the controller; `holdings`: tells it what is not whole here.
//! - `repair`: fetches what is damaged here from a replica that has it.
//! - `ticks`: tells owners that time passes.
//!
//! Knows nothing of the rules, nor of what is in a log.

mod board;
mod holdings;
mod in_sync;
mod link;
mod pursuit;
mod repair;
mod streams;
mod ticks;

use std::sync::Arc;

use crate::node::Node;
use crate::partition::Proposals;

pub(crate) use board::Board;
pub(crate) use repair::repair_all;

/// Does all of it until the broker's connections close.
pub(crate) fn start(node: &Arc<Node>, board: &Arc<Board>, proposals: Arc<Proposals>) {
    node.vital.spawn("followed leaders", pursuit::follow_leaders(node.clone(), board.clone()));
    node.vital.spawn("in-sync sets", in_sync::carry(node.clone(), proposals));
    node.vital.spawn("holdings", holdings::tell(node.clone()));
    node.vital.spawn("ticks", ticks::run(node.clone()));
}
