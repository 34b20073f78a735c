//! `tidelog produce --transactional-id`: lines become records of transactions, each seen as a whole or not at all. Knows nothing of arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_client::messages::TransactionEnder;
use tidelog_client::producer::HeaderRef;
use tidelog_client::{Client, PartitionId, RecordRef, Transaction, TransactionalProducer};
use tokio::sync::mpsc;

use super::produce::{Input, ProduceArgs, Tally, check_partition, key_and_value, report};
use super::{Context, Verbosity};
use crate::byte_size::counted;
use crate::connect::{failure, send_failure, transaction_failure};
use crate::duration::display_duration;
use crate::exit::{Exit, Failure};
use crate::perf::live_rate::{LiveCount, Visible};
use crate::stop_signal::StopSignal;

pub(super) async fn run(id: String, args: ProduceArgs, input: Input, context: &Context) -> Result<Exit, Failure> {
    // From here on: whatever is open is undone before the process ends.
    let mut stop = StopSignal::listen()?;
    let opened = async {
        let client = context.connect.client("tidelog").await?;
        // Also to say at once that there is no such topic.
        let plain = client.producer().build().map_err(failure)?;
        check_partition(&args, &plain.topic(args.topic.as_str()).await.map_err(failure)?)?;
        let timeout = context.connect.timeout();
        let mut building = client.transactional_producer(&id).end_timeout(timeout);
        if let Some(limit) = args.transaction_timeout {
            building = building.transaction_timeout(limit);
        }
        let building = building.sending(|producer| args.producer.apply(producer).delivery_timeout(timeout));
        Ok((building.build().await.map_err(transaction_failure)?, client))
    };
    let (mut producer, client) = context.connect.in_time(opened).await?;
    if input.is_terminal() {
        context.verbosity.say("type lines to write them; Ctrl-D commits, Ctrl-C undoes");
    }
    let typed = input.is_terminal() || context.verbosity == Verbosity::Quiet;
    let live = LiveCount::new("producing", if typed { Visible::No } else { Visible::Yes });
    let start = Instant::now();
    let mut writing =
        Writing { args: &args, lines: VecDeque::new(), chunks: input.read_lines(), live, tally: Tally::default() };
    let ended = writing.all(&mut producer, &mut stop).await;
    writing.live.clear();
    let committed = counted(writing.tally.written, "record");
    let exit = match ended {
        Ok(exit) => Ok(exit),
        Err(refused) => {
            let asked = tokio::time::timeout(context.connect.timeout(), timed_out(&client, &id)).await;
            let refused = asked.ok().flatten().map_or(refused, |limit| {
                let sentence =
                    format!("the transaction was open for longer than {}, and is undone", display_duration(limit));
                Failure::new(Exit::Failed, sentence).hint(
                    "fewer lines in each: --records-per-transaction 10000; or more time: --transaction-timeout 5m",
                )
            });
            Err(refused.suffix(format!("{committed} committed")))
        }
    };
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
    async fn all(&mut self, producer: &mut TransactionalProducer, stop: &mut StopSignal) -> Result<Exit, Failure> {
        loop {
            match self.transaction(producer, stop).await? {
                Ended::Full => self.live.show(self.tally.written),
                Ended::Last => return Ok(Exit::Done),
                Ended::Interrupted => return Ok(Exit::Interrupted),
            }
        }
    }

    async fn transaction(
        &mut self,
        producer: &mut TransactionalProducer,
        stop: &mut StopSignal,
    ) -> Result<Ended, Failure> {
        let transaction = producer.begin().await.map_err(transaction_failure)?;
        let before = self.tally.taken;
        let filled = tokio::select! {
            biased;
            () = stop.received() => Ok(Ended::Interrupted),
            filled = self.fill(&transaction) => filled,
        };
        match filled {
            Ok(Ended::Interrupted) | Err(_) => {
                // Before the process ends, so that nobody has to wait for its timeout. Where nobody answers it is undone then.
                let _ = transaction.abort().await;
            }
            Ok(Ended::Full | Ended::Last) => {
                transaction.commit().await.map_err(transaction_failure)?;
                self.tally.written += self.tally.taken - before;
            }
        }
        filled
    }

    /// Sends lines until the transaction has as many as it may, or there are no more.
    async fn fill(&mut self, transaction: &Transaction<'_>) -> Result<Ended, Failure> {
        let topic = transaction.topic(self.args.topic.as_str()).await.map_err(failure)?;
        let headers: Vec<HeaderRef<'_>> =
            self.args.header.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect();
        let limit = self.args.records_per_transaction.unwrap_or(u64::MAX);
        let mut sent = 0;
        while sent < limit {
            let Some(line) = self.lines.pop_front() else {
                match self.chunks.recv().await {
                    Some(lines) => self.lines.extend(lines?),
                    None => return Ok(Ended::Last),
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
        }
        Ok(Ended::Full)
    }
}

/// How long the transactions of an id may take, where the last one of it was undone because it took longer.
async fn timed_out(client: &Client, id: &str) -> Option<Duration> {
    let described = client.admin().describe_transaction(id).await.ok()?;
    let by = described.ended.filter(|ended| !ended.committed)?.by;
    (by == TransactionEnder::Timeout).then(|| Duration::from_millis(u64::from(described.timeout_ms)))
}
