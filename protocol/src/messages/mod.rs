//! One file per API. Knows nothing of how messages travel; `api.rs` is their table.

mod alter_topic;
mod create_partitions;
mod create_topic;
mod delete_records;
mod delete_topic;
mod describe_broker;
mod describe_topics;
mod fault;
mod go_away;
mod hello;
mod list_offsets;
mod metadata;
mod ping;
mod position;
mod produce;
mod stream;
mod subscribe;

pub use alter_topic::*;
pub use create_partitions::*;
pub use create_topic::*;
pub use delete_records::*;
pub use delete_topic::*;
pub use describe_broker::*;
pub use describe_topics::*;
pub use fault::*;
pub use go_away::*;
pub use hello::*;
pub use list_offsets::*;
pub use metadata::*;
pub use ping::*;
pub use position::*;
pub use produce::*;
pub use stream::*;
pub use subscribe::*;
