//! A coordinator: the machine, and a log of which only a part is stored. Knows nothing of who asks.

use std::collections::BTreeSet;

use tidelog_coordination::groups::Bounds;
use tidelog_coordination::transactions::{
    PendingMarkers, TransactionCommand, TransactionDecision, TransactionFlaws, TransactionLimits, TransactionRecord,
    TransactionReply, Transactions,
};
use tidelog_coordination::{ClusterImage, Refusal};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{
    DescribeTransactionRequest, DescribeTransactionResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerIdentity, TransactionFate,
};
use tidelog_protocol::{Monotonic, ProducerId, Timestamp};

use super::oracle::Oracle;

pub struct Coordinator {
    pub away_until: u64,
    machine: Transactions,
    flaws: TransactionFlaws,
    log: Vec<Vec<TransactionRecord>>,
    stored: usize,
    ids: i64,
}

pub fn limits() -> TransactionLimits {
    TransactionLimits {
        timeout_ms: Bounds { min: 500, default: 3_000, max: 10_000 },
        idle_ms: 20_000,
        ..TransactionLimits::default()
    }
}

impl Coordinator {
    pub fn new(flaws: TransactionFlaws) -> Self {
        let machine = Transactions::with_flaws(limits(), flaws);
        Self { away_until: 0, machine, flaws, log: Vec::new(), stored: 0, ids: 1_000 }
    }

    pub fn handle(
        &mut self,
        command: &TransactionCommand,
        image: &ClusterImage,
        now: u64,
        oracle: &mut Oracle,
    ) -> Result<TransactionReply, Refusal> {
        let (monotonic, wall) = times(now);
        let mut command = command.clone();
        let mut decision = self.machine.handle(&command, image, monotonic, wall)?;
        if decision.reply == TransactionReply::FreshIdNeeded {
            assert!(decision.records.is_empty(), "nothing was decided");
            self.ids += 1;
            match &mut command {
                TransactionCommand::Init(init) => init.fresh_id = Some(ProducerId(self.ids)),
                TransactionCommand::End { fresh_id, .. } => *fresh_id = Some(ProducerId(self.ids)),
                other => panic!("{other:?} needs no id"),
            }
            decision = self.machine.handle(&command, image, monotonic, wall)?;
        }
        let TransactionDecision { records, reply } = decision;
        self.write(records, oracle);
        Ok(reply)
    }

    pub fn expire(&mut self, image: &ClusterImage, now: u64, oracle: &mut Oracle) {
        let (monotonic, wall) = times(now);
        let records = self.machine.expire(image, monotonic, wall);
        self.write(records, oracle);
    }

    pub fn write(&mut self, records: Vec<TransactionRecord>, oracle: &mut Oracle) {
        for record in &records {
            self.machine.replay(record);
            oracle.is_decided(record);
        }
        if !records.is_empty() {
            self.log.push(records);
        }
    }

    pub fn fate(&self, of: &ProducerIdentity) -> TransactionFate {
        self.machine.fate(of)
    }

    pub fn pending_markers(&self) -> Vec<PendingMarkers> {
        self.machine.pending_markers()
    }

    pub const fn written(&self) -> usize {
        self.log.len()
    }

    pub const fn stored(&self) -> usize {
        self.stored
    }

    pub fn store(&mut self, oracle: &mut Oracle) {
        self.log[self.stored..].iter().flatten().for_each(|record| oracle.is_stored(record));
        self.stored = self.log.len();
    }

    /// Another broker takes over: what was not stored may be lost. Was it? And was the log compacted before?
    pub fn move_elsewhere(&mut self, chance: &mut Entropy, now: u64, oracle: &mut Oracle) -> (bool, bool) {
        let unstored = (self.log.len() - self.stored) as u64;
        let lost = chance.below(unstored + 1) as usize;
        self.log.truncate(self.log.len() - lost);
        self.store(oracle);
        let records: Vec<TransactionRecord> = self.log.iter().flatten().cloned().collect();
        self.machine = self.replayed(&records, now);
        let compact = chance.below(2) == 0;
        if compact {
            let left = compacted(&records, chance);
            let from_left = self.replayed(&left, now);
            assert_eq!(state(&from_left), state(&self.machine), "compaction changes nothing");
            self.machine = from_left;
            self.log = left.into_iter().map(|record| vec![record]).collect();
            self.stored = self.log.len();
        }
        (lost > 0, compact)
    }

    pub fn describe(&self, id: &str) -> Option<DescribeTransactionResponse> {
        describe(&self.machine, id)
    }

    pub fn ids(&self) -> Vec<String> {
        list(&self.machine).transactions.into_iter().map(|listing| listing.transactional_id).collect()
    }

    /// The machine that a log makes, each record by way of its bytes.
    fn replayed(&self, records: &[TransactionRecord], now: u64) -> Transactions {
        let mut machine = Transactions::with_flaws(limits(), self.flaws);
        for record in records {
            let read = TransactionRecord::from_key_value(&record.key(), record.value().as_deref());
            let read = read.expect("it reads back");
            assert_eq!(&read, record);
            machine.replay(&read);
        }
        let (now, wall) = times(now);
        machine.loaded(now, wall);
        machine
    }
}

/// What compaction may leave: of a part of the log from its start the latest value of each key, tombstones perhaps not.
fn compacted(records: &[TransactionRecord], chance: &mut Entropy) -> Vec<TransactionRecord> {
    let end = chance.below(records.len() as u64 + 1) as usize;
    let mut seen = BTreeSet::new();
    let mut left: Vec<TransactionRecord> = Vec::new();
    for record in records[..end].iter().rev() {
        if seen.insert(record.key()) && (record.value.is_some() || chance.below(2) == 0) {
            left.push(record.clone());
        }
    }
    left.reverse();
    left.extend(records[end..].iter().cloned());
    left
}

type State = (ListTransactionsResponse, Vec<Option<DescribeTransactionResponse>>, Vec<PendingMarkers>);

/// All that is durable.
fn state(machine: &Transactions) -> State {
    let listed = list(machine);
    let described = listed.transactions.iter().map(|listing| describe(machine, &listing.transactional_id)).collect();
    (listed, described, machine.pending_markers())
}

fn ask(machine: &Transactions, command: &TransactionCommand) -> Result<TransactionReply, Refusal> {
    let image = ClusterImage::default();
    machine.clone().handle(command, &image, Monotonic(0), Timestamp(0)).map(|decision| decision.reply)
}

fn list(machine: &Transactions) -> ListTransactionsResponse {
    match ask(machine, &TransactionCommand::List(ListTransactionsRequest { open_only: false })) {
        Ok(TransactionReply::Listed(listed)) => listed,
        other => panic!("{other:?}"),
    }
}

fn describe(machine: &Transactions, id: &str) -> Option<DescribeTransactionResponse> {
    let request = DescribeTransactionRequest { transactional_id: id.into() };
    match ask(machine, &TransactionCommand::Describe(request)) {
        Ok(TransactionReply::Described(described)) => Some(described),
        _ => None,
    }
}

fn times(now: u64) -> (Monotonic, Timestamp) {
    (Monotonic(now), Timestamp(1_700_000_000_000 + now as i64))
}
