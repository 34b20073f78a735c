//! Connections to other brokers, over their ordinary port. In the order a request meets them:
//! - [`peers`]: one link to each broker for each kind of traffic.
//! - `link`: a bounded queue, a connection behind it that is made when there is something to say, and made again.
//! - `dialling`: preface, hello, and the check that at the other end is who it should be.
//! - `frames`: frames in and out of a socket.
//!
//! Knows nothing of what the requests mean.

mod dialling;
mod frames;
mod link;
mod peers;

pub use dialling::{Expected, PeerIdentity, dial_once};
pub use link::{Answer, Link, PeerError};
pub use peers::{Lane, Peers};
