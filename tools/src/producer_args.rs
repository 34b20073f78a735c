//! How records are batched and acknowledged, as `tidelog produce` and `perf-producer` take it. Knows nothing of what is sent.

use std::time::Duration;

use tidelog_client::{Acks, Compression, ProducerBuilder};

use crate::byte_size::parse_small_byte_size;
use crate::duration::parse_duration;

/// Batching and acknowledgement.
#[derive(Clone, Debug, clap::Args)]
pub struct ProducerArgs {
    /// When a record counts as written: 'all' once every in-sync replica has it as the topic's durability asks, 'leader' once
    /// the leader wrote it to its page cache, 'none' without asking: what is on its way when another broker takes the lead, or is
    /// refused, is lost.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    pub acks: AcksArg,

    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = CompressionArg::None, value_name = "CODEC")]
    pub compression: CompressionArg,

    /// The largest batch before compression, 1KiB to 32MiB.
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_small_byte_size)]
    pub batch_size: u32,

    /// How long a batch that is not full waits for more records, such as 5ms. With 0 it waits only while an earlier one is
    /// under way.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    pub linger: Duration,
}

impl ProducerArgs {
    /// Sets up a producer accordingly.
    pub fn apply(&self, producer: ProducerBuilder) -> ProducerBuilder {
        producer
            .acks(self.acks.acks())
            .compression(self.compression.compression())
            .batch_bytes(self.batch_size as usize)
            .linger(self.linger)
    }
}

/// When a record counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum AcksArg {
    /// Without asking: what is on its way to a leader that is none any more is lost.
    None,
    /// Once the leader wrote it.
    Leader,
    /// Once every in-sync replica has it as the topic's durability asks.
    All,
}

impl AcksArg {
    /// The same to the client.
    #[must_use]
    pub const fn acks(self) -> Acks {
        match self {
            Self::None => Acks::None,
            Self::Leader => Acks::Leader,
            Self::All => Acks::All,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Leader => "leader",
            Self::All => "all",
        }
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum CompressionArg {
    /// Not at all.
    None,
    /// Fast.
    Lz4,
    /// Small, and still fast.
    Zstd,
    /// Fast; for old consumers.
    Snappy,
    /// Small and slow; for old consumers.
    Gzip,
}

impl CompressionArg {
    /// The same to the client.
    #[must_use]
    pub const fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd => Compression::Zstd,
            Self::Snappy => Compression::Snappy,
            Self::Gzip => Compression::Gzip,
        }
    }
}
