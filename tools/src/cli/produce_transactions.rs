//! `tidelog produce --transactional-id`: lines become records of transactions, each seen as a whole or not at all. Knows nothing of arguments.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use tidelog_client::producer::HeaderRef;
use tidelog_client::{PartitionId, RecordRef, TransactionalProducer};
use tokio::sync::mpsc;

use super::produce::{Input, ProduceArgs, Tally, check_partition, key_and_value, report};
use super::{Context, Verbosity};
use crate::byte_size::counted;
use crate::connect::{failure, send_failure, transaction_failure};
use crate::exit::{Exit, Failure};
use crate::perf::live_rate::{LiveCount, Visible};

pub(super) async fn run(id: String, args: ProduceArgs, input: Input, context: &Context) -> Result<Exit, Failure> {
    let opened = async {
        let client = context.connect.client("tidelog").await?;
        // Also to say at once that there is no such topic.
        let plain = client.producer().build().map_err(failure)?;
        check_partition(&args, &plain.topic(args.topic.as_str()).await.map_err(failure)?)?;
        let timeout = context.connect.timeout;
        let building = client.transactional_producer(id).end_timeout(timeout);
        let building = building.sending(|producer| args.producer.apply(producer).delivery_timeout(timeout));
        building.build().await.map_err(transaction_failure)
    };
    let mut producer = context.connect.in_time(opened).await?;
    if input.is_terminal() {
        context.verbosity.say("type lines to write them; Ctrl-D commits, Ctrl-C undoes");
    }
    let typed = input.is_terminal() || context.verbosity == Verbosity::Quiet;
    let live = LiveCount::new("producing", if typed { Visible::No } else { Visible::Yes });
    let start = Instant::now();
    let mut writing =
        Writing { args: &args, lines: VecDeque::new(), chunks: input.read_lines(), live, tally: Tally::default() };
    let ended = writing.all(&mut producer).await;
    writing.live.clear();
    let committed = counted(writing.tally.written, "record");
    let exit = ended.map_err(|refused| refused.suffix(format!("{committed} committed")));
    report(&writing.tally, &args, start, context)?;
    exit
}

/// How a transaction came to its end.
enum Ended {
    /// It has as many lines as it may.
    Full,
    /// There are no more lines.
    Last,
    Interrupted,
}

struct Writing<'a> {
    args: &'a ProduceArgs,
    lines: VecDeque<Bytes>,
    chunks: mpsc::Receiver<Result<Vec<Bytes>, Failure>>,
    live: LiveCount,
    tally: Tally,
}

impl Writing<'_> {
    async fn all(&mut self, producer: &mut TransactionalProducer) -> Result<Exit, Failure> {
        loop {
            match self.transaction(producer).await? {
                Ended::Full => self.live.show(self.tally.written),
                Ended::Last => return Ok(Exit::Done),
                Ended::Interrupted => return Ok(Exit::Interrupted),
            }
        }
    }

    async fn transaction(&mut self, producer: &mut TransactionalProducer) -> Result<Ended, Failure> {
        let transaction = producer.begin().await.map_err(transaction_failure)?;
        let topic = transaction.topic(self.args.topic.as_str()).await.map_err(failure)?;
        let headers: Vec<HeaderRef<'_>> =
            self.args.header.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect();
        let limit = self.args.records_per_transaction.unwrap_or(u64::MAX);
        let mut sent = 0;
        let ended = loop {
            if sent == limit {
                break Ended::Full;
            }
            let Some(line) = self.lines.pop_front() else {
                let chunk = tokio::select! {
                    biased;
                    _ = tokio::signal::ctrl_c() => {
                        // It is undone all the same where nobody answers.
                        let _ = transaction.abort().await;
                        return Ok(Ended::Interrupted);
                    }
                    chunk = self.chunks.recv() => chunk,
                };
                match chunk {
                    Some(lines) => self.lines.extend(lines?),
                    None => break Ended::Last,
                }
                continue;
            };
            let number = self.tally.taken + 1;
            let at_line = |refused: Failure| refused.prefix(format!("line {number}"));
            let (key, value) = key_and_value(self.args, &line).map_err(at_line)?;
            let partition = self.args.partition.map(PartitionId);
            let record = RecordRef { partition, key, value: Some(value), headers: &headers, timestamp: None };
            // One that is not written fails the commit.
            let _delivery = match topic.send_record(&record).await {
                Ok(delivery) => delivery,
                Err(error) => {
                    let refused = transaction.failure().unwrap_or(error);
                    return Err(at_line(send_failure(refused)));
                }
            };
            sent += 1;
            self.tally.taken += 1;
            self.tally.bytes += (key.map_or(0, <[u8]>::len) + value.len()) as u64;
        };
        transaction.commit().await.map_err(transaction_failure)?;
        self.tally.written += sent;
        Ok(ended)
    }
}
