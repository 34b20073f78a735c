//! The command line of Tidelog and its load generators. Knows the client, the log's offline reader and the terminal; nothing of
//! how a broker works. The binaries in `bin/` only parse their command line and call into here.
//!
//! What a user meets, in order:
//! - [`exit`]: how every command ends; [`stop_signal`]: when it is asked to.
//! - [`start_position`], [`isolation`], [`duration`], [`byte_size`], [`escape`]: what stands on a command line.
//! - [`lines`], [`record_format`], [`base64`]: bytes in and bytes out.
//! - [`output`]: tables and JSON.
//! - [`connect`], [`producer_args`]: the way to the broker; [`contact`]: whether it still answers.
//! - [`cli`]: the commands of `tidelog`.
//! - [`verify`]: a workload and the judge of what came of it.
//! - [`perf`]: the load generators.

pub mod base64;
pub mod byte_size;
pub mod cli;
pub mod connect;
pub mod contact;
pub mod duration;
pub mod escape;
pub mod exit;
pub mod isolation;
pub mod lines;
pub mod output;
pub mod perf;
pub mod producer_args;
pub mod record_format;
pub mod start_position;
pub mod stop_signal;
pub mod verify;
