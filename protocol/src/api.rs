//! The table of APIs: number, kind, messages. One row here, one file in `messages/`, one handler in the broker.

use crate::codec::{DecodeError, Entropy};
use crate::frame::FrameKind;
use crate::message::{FieldSpec, Message, sentence};
use crate::messages::*;
use crate::version::ProtocolVersion;

/// A message that opens an exchange, and the one that answers it.
pub trait Request: Message {
    /// Its row in the table.
    const API: Api;
    /// The answer.
    type Response: Message;
}

/// A message that is never answered.
pub trait OneWay: Message {
    /// Its row in the table.
    const API: Api;
    /// [`FrameKind::Signal`] from the client, [`FrameKind::Push`] from the broker.
    const KIND: FrameKind;
}

/// One message of the table, for tests, the specification and fuzzing.
pub struct MessageSpec {
    /// Its API.
    pub api: Api,
    /// Which role it plays there.
    pub kind: FrameKind,
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: String,
    /// Its fields.
    pub fields: Vec<FieldSpec>,
    /// Decodes a body and encodes it again.
    pub reencode: fn(&[u8], ProtocolVersion) -> Result<Vec<u8>, DecodeError>,
    /// Decodes a body and shows every field with its value.
    pub show: fn(&[u8], ProtocolVersion) -> Result<String, DecodeError>,
    /// A sample body.
    pub sample: fn(&mut Entropy, ProtocolVersion) -> Vec<u8>,
}

fn spec<M: Message>(api: Api, kind: FrameKind) -> MessageSpec {
    MessageSpec {
        api,
        kind,
        name: M::NAME,
        doc: M::doc(),
        fields: M::fields(),
        reencode: |body, version| Ok(M::from_body(body, version)?.to_body(version).to_vec()),
        show: |body, version| Ok(format!("{:?}", M::from_body(body, version)?)),
        sample: |entropy, version| M::draw(entropy).to_body(version).to_vec(),
    }
}

macro_rules! api_table {
    (
        requests { $($(#[doc = $rdoc:literal])* $rcode:literal $rname:ident($req:ty => $res:ty);)* }
        signals { $($(#[doc = $sdoc:literal])* $scode:literal $sname:ident($sig:ty);)* }
        pushes { $($(#[doc = $pdoc:literal])* $pcode:literal $pname:ident($push:ty);)* }
    ) => {
        /// An API. Numbers are never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Api {
            $($(#[doc = $rdoc])* $rname = $rcode,)*
            $($(#[doc = $sdoc])* $sname = $scode,)*
            $($(#[doc = $pdoc])* $pname = $pcode,)*
        }

        impl Api {
            /// Every API, requests first.
            pub const ALL: &'static [Self] = &[$(Self::$rname,)* $(Self::$sname,)* $(Self::$pname,)*];

            /// The API of this number.
            #[must_use]
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $($rcode => Some(Self::$rname),)*
                    $($scode => Some(Self::$sname),)*
                    $($pcode => Some(Self::$pname),)*
                    _ => None,
                }
            }

            /// The protocol version that introduced it.
            #[must_use]
            pub const fn since(self) -> ProtocolVersion {
                // Each version's numbers lie above those of the versions before.
                ProtocolVersion(match self as u16 {
                    0..40 => 1,
                    40..110 => 2,
                    110..130 => 3,
                    _ => 5,
                })
            }

            /// Its name in the table.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rname => stringify!($rname),)*
                    $(Self::$sname => stringify!($sname),)*
                    $(Self::$pname => stringify!($pname),)*
                }
            }

            /// What it is for.
            #[must_use]
            pub fn meaning(self) -> String {
                match self {
                    $(Self::$rname => sentence(&[$($rdoc,)*]),)*
                    $(Self::$sname => sentence(&[$($sdoc,)*]),)*
                    $(Self::$pname => sentence(&[$($pdoc,)*]),)*
                }
            }
        }

        $(impl Request for $req { const API: Api = Api::$rname; type Response = $res; })*
        $(impl OneWay for $sig { const API: Api = Api::$sname; const KIND: FrameKind = FrameKind::Signal; })*
        $(impl OneWay for $push { const API: Api = Api::$pname; const KIND: FrameKind = FrameKind::Push; })*

        /// Every message of the table, in its order.
        #[must_use]
        pub fn message_specs() -> Vec<MessageSpec> {
            vec![
                $(spec::<$req>(Api::$rname, FrameKind::Request), spec::<$res>(Api::$rname, FrameKind::Response),)*
                $(spec::<$sig>(Api::$sname, FrameKind::Signal),)*
                $(spec::<$push>(Api::$pname, FrameKind::Push),)*
            ]
        }
    };
}

api_table! {
    requests {
        /// Who is there, and which limits hold; the first request on every connection.
        1 Hello(HelloRequest => HelloResponse);
        /// Is the broker there?
        2 Ping(PingRequest => PingResponse);
        /// Brokers, topics, partitions and their leaders.
        3 Metadata(MetadataRequest => MetadataResponse);
        /// What the broker process uses.
        4 DescribeBroker(DescribeBrokerRequest => DescribeBrokerResponse);
        /// Creates a topic.
        10 CreateTopic(CreateTopicRequest => CreateTopicResponse);
        /// Deletes a topic and its data.
        11 DeleteTopic(DeleteTopicRequest => DeleteTopicResponse);
        /// Changes the configuration of a topic.
        12 AlterTopic(AlterTopicRequest => AlterTopicResponse);
        /// Configuration and state of topics.
        13 DescribeTopics(DescribeTopicsRequest => DescribeTopicsResponse);
        /// Adds partitions to a topic.
        14 CreatePartitions(CreatePartitionsRequest => CreatePartitionsResponse);
        /// Appends record batches to a partition.
        20 Produce(ProduceRequest => ProduceResponse);
        /// Opens a stream of record batches.
        21 Subscribe(SubscribeRequest => SubscribeResponse);
        /// Ends a stream.
        23 Unsubscribe(UnsubscribeRequest => UnsubscribeResponse);
        /// Offsets by position or time.
        24 ListOffsets(ListOffsetsRequest => ListOffsetsResponse);
        /// Deletes the oldest records of a partition.
        25 DeleteRecords(DeleteRecordsRequest => DeleteRecordsResponse);
        /// A broker has started; between brokers.
        40 RegisterBroker(RegisterBrokerRequest => RegisterBrokerResponse);
        /// A broker keeps its lease or asks to go; between brokers.
        41 BrokerHeartbeat(BrokerHeartbeatRequest => BrokerHeartbeatResponse);
        /// A leader changes who is in sync with it; between brokers.
        42 AlterInSync(AlterInSyncRequest => AlterInSyncResponse);
        /// Brokers, controller, and how many partitions are not as they should be.
        43 DescribeCluster(DescribeClusterRequest => DescribeClusterResponse);
        /// Moves partitions to other brokers.
        44 Reassign(ReassignRequest => ReassignResponse);
        /// Moves everything off a broker.
        45 DrainBroker(DrainBrokerRequest => DrainBrokerResponse);
        /// Spreads replicas and leaders evenly.
        46 Balance(BalanceRequest => BalanceResponse);
        /// Elects preferred leaders, or one that may have lost records.
        47 ElectLeader(ElectLeaderRequest => ElectLeaderResponse);
        /// Forgets a broker.
        48 RemoveBroker(RemoveBrokerRequest => RemoveBrokerResponse);
        /// Who holds partitions.
        49 DescribePartitions(DescribePartitionsRequest => DescribePartitionsResponse);
        /// A broker has drawn another stamp for its data folder; between brokers.
        50 StampFolder(StampFolderRequest => StampFolderResponse);
        /// Where an epoch ended in the leader's log; asked by followers.
        60 EpochEnd(EpochEndRequest => EpochEndResponse);
        /// Opens a stream from a leader to a follower.
        61 ReplicaSubscribe(ReplicaSubscribeRequest => ReplicaSubscribeResponse);
        /// A broker does not hold replicas whole that it should; between brokers.
        64 ReportReplicas(ReportReplicasRequest => ReportReplicasResponse);
        /// Asks for a vote in the metadata quorum.
        80 RaftVote(RaftVoteRequest => RaftVoteResponse);
        /// Entries of the metadata log.
        81 RaftAppend(RaftAppendRequest => RaftAppendResponse);
        /// A piece of a snapshot of the metadata.
        82 RaftSnapshot(RaftSnapshotRequest => RaftSnapshotResponse);
        /// Takes a broker into the metadata quorum.
        90 JoinCluster(JoinClusterRequest => JoinClusterResponse);
        /// Changes who votes on metadata.
        91 ChangeVoters(ChangeVotersRequest => ChangeVotersResponse);
        /// Hands a request on to the controller.
        92 Forward(ForwardRequest => ForwardResponse);
        /// Which broker coordinates a group or a transactional producer.
        100 FindCoordinator(FindCoordinatorRequest => FindCoordinatorResponse);
        /// A member joins a group, stays, learns what it owns, leaves.
        101 GroupHeartbeat(GroupHeartbeatRequest => GroupHeartbeatResponse);
        /// Notes how far a group has come.
        102 OffsetCommit(OffsetCommitRequest => OffsetCommitResponse);
        /// Where a group stopped.
        103 OffsetFetch(OffsetFetchRequest => OffsetFetchResponse);
        /// The groups that a broker coordinates.
        104 ListGroups(ListGroupsRequest => ListGroupsResponse);
        /// Members, what they own, offsets.
        105 DescribeGroup(DescribeGroupRequest => DescribeGroupResponse);
        /// Forgets a group or offsets of it.
        106 DeleteGroup(DeleteGroupRequest => DeleteGroupResponse);
        /// Waits until a group has passed an offset.
        107 WaitFor(WaitForRequest => WaitForResponse);
        /// Takes partitions and groups into a transaction.
        110 AddToTransaction(AddToTransactionRequest => AddToTransactionResponse);
        /// Commits or aborts a transaction.
        111 EndTransaction(EndTransactionRequest => EndTransactionResponse);
        /// A transaction has ended: partitions and groups are told how; between brokers.
        112 WriteMarkers(WriteMarkersRequest => WriteMarkersResponse);
        /// The transactional ids that a broker coordinates.
        113 ListTransactions(ListTransactionsRequest => ListTransactionsResponse);
        /// Producer, partitions and groups of a transactional id.
        114 DescribeTransaction(DescribeTransactionRequest => DescribeTransactionResponse);
        /// Aborts a transaction that its producer does not end.
        115 AbortTransaction(AbortTransactionRequest => AbortTransactionResponse);
        /// Who a producer is.
        120 InitProducerId(InitProducerIdRequest => InitProducerIdResponse);
        /// Producer ids for a broker to give out; between brokers.
        121 AllocateProducerIds(AllocateProducerIdsRequest => AllocateProducerIdsResponse);
        /// What became of transactions whose markers a partition misses; between brokers.
        130 TransactionFates(TransactionFatesRequest => TransactionFatesResponse);
    }
    signals {
        /// Lets a stream push more bytes.
        22 Credit(CreditSignal);
        /// How far a follower is.
        62 ReplicaProgress(ReplicaProgressSignal);
    }
    pushes {
        /// Record batches of a stream.
        26 StreamItem(StreamItemPush);
        /// Record batches for a follower.
        63 ReplicaItem(ReplicaItemPush);
        /// The broker is about to close the connection.
        5 GoAway(GoAwayPush);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_found() {
        for api in Api::ALL {
            assert_eq!(Api::from_u16(*api as u16), Some(*api));
        }
    }

    #[test]
    fn every_message_survives_the_round_trip() {
        for spec in message_specs() {
            for seed in 0..300 {
                let body = (spec.sample)(&mut Entropy::new(seed), ProtocolVersion::CURRENT);
                let again = (spec.reencode)(&body, ProtocolVersion::CURRENT);
                assert_eq!(again.as_ref(), Ok(&body), "{} seed {seed}", spec.name);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic_any_decoder() {
        for spec in message_specs() {
            let mut entropy = Entropy::new(7);
            for _ in 0..2_000 {
                let mut body = (spec.sample)(&mut entropy, ProtocolVersion::CURRENT);
                for _ in 0..=entropy.below(3) {
                    if !body.is_empty() {
                        let at = entropy.below(body.len() as u64) as usize;
                        body[at] = entropy.next() as u8;
                    }
                }
                body.truncate(entropy.below(body.len() as u64 + 1) as usize);
                let _ = (spec.reencode)(&body, ProtocolVersion::CURRENT);
            }
        }
    }
}
