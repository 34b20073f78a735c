//! A shop with an outbox in a real database, relays as processes that can be killed, and the judgement of what came out.
//!
//! - [`shop`]: transactions, short and long, committed and undone, each with an event; [`database`]: in which database.
//! - [`relay`]: a relay as a process, which ends itself at a step where it is told to.
//! - [`claims`]: what must hold, pure; [`reading`]: what can be read.

pub mod claims;
pub mod database;
pub mod reading;
pub mod relay;
pub mod shop;
