//! What can be done, whichever protocol asks for it: the rules that the handlers of both have in common. One file per operation:
//! - [`produce`]: batches are checked and handed to their partition.
//! - [`delete_records`]: the log start of a partition moves up.
//! - [`look_up`]: offsets by position and time. [`leaderships`]: what a client knows of them.
//! - [`identity`]: who a producer is.
//! - [`coordinator`]: who coordinates a group or a transactional producer.
//! - [`adrift`]: a leader that may have been replaced.
//! - [`addresses`]: where the brokers are.
//! - [`foresight`]: what would come of a change.
//!
//! What changes metadata lies in `change`, reading in `partition`. Knows nothing of frames.

pub(crate) mod addresses;
pub(crate) mod adrift;
pub(crate) mod coordinator;
pub(crate) mod delete_records;
pub(crate) mod foresight;
pub(crate) mod identity;
pub(crate) mod leaderships;
pub(crate) mod look_up;
pub(crate) mod produce;
