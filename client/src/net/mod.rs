//! One connection to one broker. Knows frames and correlation ids, and nothing of topics, batches or retries.
//!
//! - `handshake`: dial, preface, hello.
//! - `connection`: the handle; requests, signals, streams, and what waits for an answer.
//! - `refusals`: who hears that what wants no answer was refused.
//! - `writer`, `reader`: the two tasks, frames out and frames in.
//! - `receive_buffer`: large buffers that are used again once nobody holds a slice of them.
//! - `monitor`: deadlines and keepalive; `quiet`: what silence says before they have passed.

mod connection;
mod handshake;
mod monitor;
mod quiet;
mod reader;
mod receive_buffer;
mod refusals;
mod writer;

pub(crate) use connection::{Connection, Reply, StreamHandler, Ticket};
pub(crate) use handshake::{Greeting, connect, cut_short};
pub(crate) use refusals::Refusals;
