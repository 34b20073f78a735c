//! The event store of the client against a real broker: optimistic concurrency, commands, schemas, snapshots, checkpoints, views; and what it
//! refuses.

mod appends;
mod checkpoints;
mod commands;
mod guide;
mod lost_answers;
mod refusals;
mod running;
mod snapshots;
mod views;
