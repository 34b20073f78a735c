//! The part of the command line that `perf-producer` and `perf-consumer` share. Knows nothing of sending and receiving.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidelog_client::TopicName;

use crate::cli::topics::Durability;
use crate::connect::{ConnectArgs, block_on_threads};
use crate::exit::{Exit, Failure, conclude};
use crate::output::OutputFormat;

/// What both load generators take.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where the broker is.
    #[command(flatten)]
    pub connect: ConnectArgs,

    /// The topic.
    #[arg(long, value_name = "NAME", default_value = "perf")]
    pub topic: TopicName,

    /// How many records to measure, all workers together.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,

    /// Whether a missing topic is created. If absent, perf-producer creates it and perf-consumer does not.
    #[arg(long, value_enum, value_name = "WHEN", default_missing_value = "missing")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub create_topic: Option<CreateTopic>,

    /// How many partitions a created topic has; one for each worker if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: Option<u32>,

    /// What an acknowledged record of a created topic has survived; the broker's default if absent.
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,

    /// How many threads this process works with; one for each core if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Print one JSON object on standard output and nothing else. `broker_rss_bytes` in it is the resident memory that is the broker's own
    /// (RssAnon); pages of mapped log files, which the system takes back when it needs them, are in `broker_rss_peak_bytes` alone.
    #[arg(long)]
    pub json: bool,

    /// Write a report with charts to this file, to be opened in a browser.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,

    /// Measure first what this machine can do (loopback TCP, memcpy, CRC32C, disk), for about three seconds.
    #[arg(long)]
    pub limits: bool,

    /// The folder whose disk --limits measures: use the one of the broker's data.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub limits_folder: PathBuf,

    /// Say on standard error what is being done, also where that is no terminal.
    #[arg(short, long)]
    pub verbose: bool,
}

impl RunArgs {
    /// Runs a load generator to its end and gives the exit code of the process.
    pub fn conclude(&self, run: impl Future<Output = Result<Exit, Failure>>) -> ExitCode {
        let format = if self.json { OutputFormat::Json } else { OutputFormat::Table };
        conclude(block_on_threads(self.threads, run), format)
    }
}

/// Whether a missing topic is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum CreateTopic {
    /// Where it is missing.
    Missing,
    /// Never: a missing topic is an error.
    Never,
}

/// Reads a rate in records per second; −1 means none.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_throughput(text: &str) -> Result<Throughput, String> {
    match text.parse::<f64>() {
        Ok(-1.0) => Ok(Throughput::Unlimited),
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Throughput::PerSecond(rate)),
        _ => Err(format!("'{text}' is no rate; write records per second, or -1 for as fast as possible")),
    }
}

/// How fast records are sent or read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Throughput {
    /// As fast as possible.
    Unlimited,
    /// This many records per second, all workers together.
    PerSecond(f64),
}

impl std::fmt::Display for Throughput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::PerSecond(rate) => write!(f, "{rate} records/s"),
        }
    }
}

/// The share of worker `worker` (from 0) in `total`: as even as whole numbers allow.
#[must_use]
pub const fn share(total: u64, worker: usize, workers: usize) -> u64 {
    let (worker, workers) = (worker as u64, workers as u64);
    total / workers + (worker < total % workers) as u64
}

/// The command line of this process, quoted for a shell.
#[must_use]
pub fn command_line() -> String {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or(&program).to_string();
    std::iter::once(program).chain(arguments).map(|argument| quoted(&argument)).collect::<Vec<_>>().join(" ")
}

fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,@%+".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_means_unlimited() {
        assert_eq!(parse_throughput("-1"), Ok(Throughput::Unlimited));
        assert_eq!(parse_throughput("50000"), Ok(Throughput::PerSecond(50_000.0)));
        assert_eq!(parse_throughput("0.5"), Ok(Throughput::PerSecond(0.5)));
        for text in ["0", "-2", "fast", "inf", "NaN", ""] {
            assert!(parse_throughput(text).unwrap_err().contains("-1 for as fast as possible"), "{text}");
        }
    }

    #[test]
    fn shares_are_even_and_add_up() {
        for (total, workers) in [(10, 3), (2, 5), (1_000_000, 7), (0, 2)] {
            let shares: Vec<_> = (0..workers).map(|worker| share(total, worker, workers)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("--batch-size=256KiB"), "--batch-size=256KiB");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
