//! From streams of batches to records.
//!
//! - [`ConsumerBuilder`]: what is read, and where it starts.
//! - [`Consumer`]: the reading end.
//! - `opening`: how it comes about; `subscription`: keeps the stream of one partition open; `inbox`: what was pushed;
//!   `repair_wait`: how long a damaged range is waited for; `growth`: partitions that come later; `changing`: partitions that come and go as somebody else says.
//! - `visibility`: which batches are the program's.
//! - [`BatchView`]: a batch without a copy; [`ConsumerRecord`]: a record that can be kept.

mod batch_view;
mod builder;
mod changing;
mod error;
mod growth;
mod inbox;
mod opening;
mod reading;
mod record;
mod repair_wait;
mod subscription;
mod visibility;

pub use batch_view::{BatchRecords, BatchView};
pub use builder::{ConsumerBuilder, OutOfRange, Start};
pub use error::ConsumeError;
pub use reading::Consumer;
pub use record::{ConsumerRecord, TopicPartition};

pub(crate) use builder::Settings;
pub(crate) use changing::{Delivery, Place};
pub(crate) use inbox::Slot;
pub(crate) use opening::resolve;
