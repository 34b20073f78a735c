//! From streams of batches to records.
//!
//! - [`ConsumerBuilder`]: what is read, and where it starts.
//! - [`Consumer`]: the reading end.
//! - [`BatchView`]: a batch without a copy; [`ConsumerRecord`]: a record that can be kept.

mod batch_view;
mod builder;
mod error;
mod reading;
mod record;

pub use batch_view::{BatchRecords, BatchView};
pub use builder::{ConsumerBuilder, OutOfRange, Start};
pub use error::ConsumeError;
pub use reading::Consumer;
pub use record::{ConsumerRecord, TopicPartition};
