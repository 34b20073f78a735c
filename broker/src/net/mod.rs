//! Sockets: accepting, framing, back-pressure, timeouts. Knows nothing of what a request means; `api` does.

mod connection;
mod frame_writer;
mod listener;
mod pace;
mod receive_buffer;

pub(crate) use listener::{Listener, serve};
