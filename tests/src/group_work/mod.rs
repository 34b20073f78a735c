//! Members of a group at work, and the judgement of it: what each owned and when, what it processed, and how far the group said that it was.
//! Knows nothing of how a coordinator decides.
//!
//! - [`notes`]: what happened, in one order for all members of this process, and how long changes took to settle.
//! - [`worker`]: a member that processes, notes it down, and leaves when told to.
//! - [`judge`]: which of the promises were broken, pure. [`load`]: records that keep coming; [`observer`]: the group's offsets, seen from outside.

pub mod judge;
pub mod load;
pub mod notes;
pub mod observer;
pub mod worker;

pub use judge::{Judged, judge};
pub use load::Load;
pub use notes::{Entry, Notes, What};
pub use observer::Observer;
pub use worker::Worker;
