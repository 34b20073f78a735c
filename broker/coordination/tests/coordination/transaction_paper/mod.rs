//! A coordinator of transactions on paper: every record is stored as soon as it is decided, and time passes when a test says so. Knows nothing
//! of what the tests want to show.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::panic, reason = "a failed test")]

use tidelog_coordination::groups::Bounds;
use tidelog_coordination::transactions::{
    Init, OpenTransactions, PendingMarkers, TransactionCommand, TransactionDecision, TransactionLimits,
    TransactionRecord, TransactionReply, Transactions,
};
use tidelog_coordination::{Command, Refusal};
use tidelog_protocol::messages::{
    AbortTransactionRequest, AddToTransactionRequest, DescribeTransactionRequest, DescribeTransactionResponse,
    EndTransactionRequest, ListTransactionsRequest, ProducerIdentity, TopicPartitions, TransactionListing,
    TransactionMarkers,
};
use tidelog_protocol::{ErrorCode, Monotonic, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId};

use crate::cluster::Cluster;

pub const ID: &str = "payments";
pub const TIMEOUT_MS: u32 = 5_000;
const WALL: i64 = 1_700_000_000_000;

pub struct Paper {
    pub transactions: Transactions,
    pub log: Vec<TransactionRecord>,
    pub cluster: Cluster,
    pub now: u64,
    /// By how much the wall clock of whoever coordinates is ahead.
    pub ahead_ms: i64,
    /// Is there an id to be had?
    pub gives_ids: bool,
    ids: i64,
}

pub fn limits() -> TransactionLimits {
    TransactionLimits {
        timeout_ms: Bounds { min: 1_000, default: 3_000, max: 900_000 },
        idle_ms: 60_000,
        ids_max: 3,
        partitions_max: 4,
        groups_max: 2,
    }
}

impl Paper {
    /// With a topic "orders" of 6 partitions.
    pub fn new() -> Self {
        let mut paper = Self {
            transactions: Transactions::new(limits()),
            log: Vec::new(),
            cluster: Cluster::of(3),
            now: 1_000,
            ahead_ms: 0,
            gives_ids: true,
            ids: 100,
        };
        paper.topic("orders", 6);
        paper
    }

    pub fn topic(&mut self, name: &str, partitions: u32) {
        self.cluster.create(name, |topic| topic.partitions = partitions).expect("a topic");
    }

    pub fn drop_topic(&mut self, name: &str) {
        self.cluster.ask(&Command::DeleteTopic { name: name.into() }).expect("it goes");
    }

    pub fn topic_id(&self, name: &str) -> TopicId {
        self.cluster.controller.image().topic_named(name).expect("it is there").id
    }

    pub fn partitions(&self, topic: &str, partitions: &[u32]) -> Vec<TopicPartitions> {
        let partitions = partitions.iter().copied().map(PartitionId).collect();
        vec![TopicPartitions { topic_id: self.topic_id(topic), partitions }]
    }

    pub fn decide(&mut self, command: &TransactionCommand) -> Result<TransactionDecision, Refusal> {
        let (now, wall) = self.clocks();
        self.transactions.handle(command, self.cluster.controller.image(), now, wall)
    }

    pub fn ask(&mut self, mut command: TransactionCommand) -> Result<TransactionReply, Refusal> {
        let mut decision = self.decide(&command)?;
        if decision.reply == TransactionReply::FreshIdNeeded && self.gives_ids {
            self.ids += 1;
            match &mut command {
                TransactionCommand::Init(init) => init.fresh_id = Some(ProducerId(self.ids)),
                TransactionCommand::End { fresh_id, .. } => *fresh_id = Some(ProducerId(self.ids)),
                other => panic!("{other:?} needs no id"),
            }
            decision = self.decide(&command)?;
        }
        self.store(decision.records);
        Ok(decision.reply)
    }

    fn store(&mut self, records: Vec<TransactionRecord>) {
        records.iter().for_each(|record| self.transactions.replay(record));
        self.log.extend(records);
    }

    /// Time passes, and what is due is done.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms;
        let (now, wall) = self.clocks();
        let records = self.transactions.expire(self.cluster.controller.image(), now, wall);
        self.store(records);
    }

    fn clocks(&self) -> (Monotonic, Timestamp) {
        (Monotonic(self.now), Timestamp(WALL + self.ahead_ms + self.now as i64))
    }

    /// Another broker takes over.
    pub fn reload(&mut self) {
        let mut transactions = Transactions::new(limits());
        self.log.iter().for_each(|record| transactions.replay(record));
        let (now, wall) = self.clocks();
        transactions.loaded(now, wall);
        self.transactions = transactions;
    }

    pub fn init_as(
        &mut self,
        id: &str,
        current: Option<ProducerIdentity>,
        timeout_ms: u32,
    ) -> Result<TransactionReply, Refusal> {
        let init = Init { transactional_id: id.into(), timeout_ms, current, fresh_id: None };
        self.ask(TransactionCommand::Init(init))
    }

    pub fn init(&mut self, current: Option<&ProducerIdentity>) -> Result<TransactionReply, Refusal> {
        self.init_as(ID, current.cloned(), TIMEOUT_MS)
    }

    /// A new producer under the id.
    pub fn begin(&mut self) -> ProducerIdentity {
        identity(self.init(None))
    }

    pub fn add(&mut self, identity: &ProducerIdentity, partitions: &[u32]) -> Result<TransactionReply, Refusal> {
        let partitions = self.partitions("orders", partitions);
        self.add_all(identity, partitions, &[])
    }

    pub fn add_all(
        &mut self,
        identity: &ProducerIdentity,
        partitions: Vec<TopicPartitions>,
        groups: &[&str],
    ) -> Result<TransactionReply, Refusal> {
        let groups = groups.iter().map(|group| (*group).into()).collect();
        let request = AddToTransactionRequest {
            transactional_id: ID.into(),
            identity: identity.clone(),
            partitions,
            groups,
            only_asks: false,
        };
        self.ask(TransactionCommand::Add(request))
    }

    pub fn end(&mut self, identity: &ProducerIdentity, commit: bool) -> Result<TransactionReply, Refusal> {
        let request = EndTransactionRequest { transactional_id: ID.into(), identity: identity.clone(), commit };
        self.ask(TransactionCommand::End { request, fresh_id: None })
    }

    pub fn abort(&mut self) -> Result<TransactionReply, Refusal> {
        self.abort_of(ID)
    }

    pub fn abort_of(&mut self, id: &str) -> Result<TransactionReply, Refusal> {
        self.ask(TransactionCommand::Abort(AbortTransactionRequest { transactional_id: id.into() }))
    }

    pub fn markers(&self) -> Option<TransactionMarkers> {
        let mut pending = self.transactions.pending_markers();
        assert!(pending.len() <= 1, "{pending:?}");
        pending.pop().map(|PendingMarkers { transactional_id, markers }| {
            assert_eq!(transactional_id, ID);
            markers
        })
    }

    pub fn confirm(&mut self, written: TransactionMarkers) {
        let command = TransactionCommand::MarkersWritten { transactional_id: ID.into(), written };
        assert_eq!(self.ask(command), Ok(TransactionReply::Noted));
    }

    /// All markers are written.
    pub fn finish(&mut self) {
        let markers = self.markers().expect("something is being ended");
        self.confirm(markers);
        assert_eq!(self.markers(), None);
    }

    pub fn describe(&mut self) -> DescribeTransactionResponse {
        let request = DescribeTransactionRequest { transactional_id: ID.into() };
        match self.ask(TransactionCommand::Describe(request)) {
            Ok(TransactionReply::Described(described)) => described,
            other => panic!("{other:?}"),
        }
    }

    pub fn list(&mut self, open_only: bool) -> Vec<TransactionListing> {
        match self.ask(TransactionCommand::List(ListTransactionsRequest { open_only })) {
            Ok(TransactionReply::Listed(listed)) => listed.transactions,
            other => panic!("{other:?}"),
        }
    }

    pub fn open(&self) -> OpenTransactions {
        self.transactions.open_transactions(Monotonic(self.now))
    }
}

/// What an Init or End gave.
pub fn identity(reply: Result<TransactionReply, Refusal>) -> ProducerIdentity {
    match reply {
        Ok(TransactionReply::Identity(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

/// The one after.
pub fn bumped(identity: &ProducerIdentity) -> ProducerIdentity {
    ProducerIdentity { producer_id: identity.producer_id, epoch: ProducerEpoch(identity.epoch.0 + 1) }
}

pub fn code(reply: Result<TransactionReply, Refusal>) -> ErrorCode {
    reply.expect_err("it is refused").code
}
