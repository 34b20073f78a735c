//! Sockets: accepting, framing, back-pressure, timeouts. Knows nothing of what a request means; `api` does.

mod arrival;
mod connection;
mod ended;
mod frame_writer;
mod framing;
mod in_frame;
mod least_rate;
mod listener;
mod news;
mod opening;
mod pace;
mod receive_buffer;
mod refusing;
mod waiting;

pub(crate) use listener::{Listener, serve};
