//! What an operator asks of a whole cluster: who is there, who holds what, and that it change. Any broker may be asked; it hands on to the
//! one that decides. Knows nothing of records.

use tidelog_protocol::messages::*;
use tidelog_protocol::{BrokerId, PartitionId};

use crate::admin::{parts, topic_name};
use crate::{Admin, ClientError};

impl Admin {
    /// How the cluster is: brokers with their leases, who votes on metadata, how many partitions are not as they should be. Where no broker
    /// runs the controller, the broker asked tells what it knows, without `controller` and leases.
    ///
    /// # Errors
    /// As any call.
    ///
    /// ```no_run
    /// # async fn example(client: tidelog_client::Client) -> Result<(), tidelog_client::ClientError> {
    /// let cluster = client.admin().describe_cluster().await?;
    /// println!("{} brokers, {} partitions without a leader", cluster.brokers.len(), cluster.partitions.offline);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        let described = self.cluster.call(&DescribeClusterRequest {}).await?;
        // It may be cut off from one that decides; if so, it is asked last from here on.
        if described.controller.is_none() && self.cluster.metadata(Some(Vec::new())).await?.controller.is_some() {
            return self.cluster.call(&DescribeClusterRequest {}).await;
        }
        Ok(described)
    }

    /// Who holds the partitions of these topics, or of all where there are none, by topic and index; those that `filter` lets through.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] for the first that does not exist; else as any call.
    pub async fn describe_partitions(
        &self,
        topics: Option<&[&str]>,
        filter: PartitionFilter,
    ) -> Result<Vec<PartitionReplicas>, ClientError> {
        let names = |topics: &[&str]| topics.iter().map(|name| topic_name(name)).collect::<Result<Vec<_>, _>>();
        let request = DescribePartitionsRequest { topics: topics.map(names).transpose()?, filter };
        let mut answer = self.cluster.call(&request).await?;
        if self.is_known_elsewhere(&answer.unknown).await? {
            answer = self.cluster.call(&request).await?;
        }
        match answer.unknown.first() {
            Some(name) => Err(ClientError::UnknownTopic { topic: name.to_string() }),
            None => Ok(answer.partitions),
        }
    }

    /// What the process of this broker uses, what it leads, and how far its watermarks are behind.
    ///
    /// # Errors
    /// [`ClientError::Argument`] where the cluster has no such broker; else as any call, but it is tried once only.
    pub async fn describe_broker_of(&self, broker: BrokerId) -> Result<DescribeBrokerResponse, ClientError> {
        self.cluster.call_broker(broker, &DescribeBrokerRequest {}).await
    }

    /// Every topic as this broker alone sees it: the state of a partition is that of the replica here, and `Offline` where there is none that
    /// can be read.
    ///
    /// # Errors
    /// As [`Admin::describe_broker_of`].
    pub async fn describe_replicas_of(&self, broker: BrokerId) -> Result<Vec<TopicDescription>, ClientError> {
        let topics = self.cluster.metadata(None).await?.topics;
        let mut described = Vec::with_capacity(topics.len());
        for part in parts(&topics) {
            let names = part.iter().map(|topic| topic.name.clone()).collect();
            let request = DescribeTopicsRequest { topics: Some(names) };
            described.extend(self.cluster.call_broker(broker, &request).await?.topics);
        }
        Ok(described)
    }

    /// Moves partitions: all of `assignments` or nothing. New replicas copy first, then each partition switches by itself; see
    /// [`Admin::describe_partitions`] for how far they are. An assignment without replicas takes a move under way back.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `UnknownBroker` or `InvalidReassignment` from the broker; else as any call.
    ///
    /// ```no_run
    /// # use tidelog_client::{BrokerId, PartitionId, messages::ReplicaAssignment};
    /// # async fn example(client: tidelog_client::Client) -> Result<(), tidelog_client::ClientError> {
    /// let replicas = Some(vec![BrokerId(2), BrokerId(3)]);
    /// let assignment = ReplicaAssignment { topic: "logs".into(), partition: PartitionId(0), replicas };
    /// let moving = client.admin().reassign(vec![assignment]).await?;
    /// println!("{} partitions are being copied", moving.copying);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reassign(&self, assignments: Vec<ReplicaAssignment>) -> Result<ReassignResponse, ClientError> {
        self.cluster.call(&ReassignRequest { assignments, validate_only: false }).await
    }

    /// What [`Admin::reassign`] would do. Nothing moves.
    ///
    /// # Errors
    /// As [`Admin::reassign`].
    pub async fn plan_reassignment(
        &self,
        assignments: Vec<ReplicaAssignment>,
    ) -> Result<ReassignResponse, ClientError> {
        self.cluster.call(&ReassignRequest { assignments, validate_only: true }).await
    }

    /// Moves everything off a broker, which gets nothing new from here on. Asked again it goes on where it stopped.
    ///
    /// # Errors
    /// `UnknownBroker`; `InvalidReassignment` where nobody can take what it holds; else as any call.
    pub async fn drain(&self, broker: BrokerId) -> Result<DrainBrokerResponse, ClientError> {
        self.cluster.call(&DrainBrokerRequest { broker_id: broker, cancel: false, validate_only: false }).await
    }

    /// What [`Admin::drain`] would do. Nothing moves.
    ///
    /// # Errors
    /// As [`Admin::drain`].
    pub async fn plan_drain(&self, broker: BrokerId) -> Result<DrainBrokerResponse, ClientError> {
        self.cluster.call(&DrainBrokerRequest { broker_id: broker, cancel: false, validate_only: true }).await
    }

    /// A broker that is being drained may get replicas again. What moves already goes on moving.
    ///
    /// # Errors
    /// `UnknownBroker`; `InvalidReassignment` where it is not being drained; else as any call.
    pub async fn cancel_drain(&self, broker: BrokerId) -> Result<(), ClientError> {
        let request = DrainBrokerRequest { broker_id: broker, cancel: true, validate_only: false };
        self.cluster.call(&request).await.map(drop)
    }

    /// Spreads replicas and preferred leaders evenly over brokers and racks, with as few copies as that takes, and `copies_max` of them at
    /// most where there is a limit.
    ///
    /// # Errors
    /// As any call.
    pub async fn balance(&self, copies_max: Option<u32>) -> Result<BalanceResponse, ClientError> {
        self.cluster.call(&BalanceRequest { copies_max: copies_max.unwrap_or(0), validate_only: false }).await
    }

    /// What [`Admin::balance`] would do. Nothing moves.
    ///
    /// # Errors
    /// As any call.
    pub async fn plan_balance(&self, copies_max: Option<u32>) -> Result<BalanceResponse, ClientError> {
        self.cluster.call(&BalanceRequest { copies_max: copies_max.unwrap_or(0), validate_only: true }).await
    }

    /// Gives the lead of a partition to its preferred replica, or of all partitions wherever that can be. Returns how many changed.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `InvalidElection` where the preferred replica of the one partition cannot lead; else as any call.
    pub async fn elect_preferred(&self, partition: Option<(&str, PartitionId)>) -> Result<u32, ClientError> {
        let partition = partition.map(|(topic, partition)| NamedPartition { topic: topic.into(), partition });
        Ok(self.cluster.call(&ElectLeaderRequest { partition, unclean: None }).await?.elected)
    }

    /// Gives the lead of a partition without a leader to `broker`, whatever it holds: **records that only others hold are lost**, those that
    /// were acknowledged too. The partition keeps that it happened.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `UnknownBroker`; `InvalidElection` where there is a leader or the broker cannot be one; else as
    /// any call.
    pub async fn elect_unclean(
        &self,
        topic: &str,
        partition: PartitionId,
        broker: BrokerId,
    ) -> Result<(), ClientError> {
        let partition = Some(NamedPartition { topic: topic.into(), partition });
        self.cluster.call(&ElectLeaderRequest { partition, unclean: Some(broker) }).await.map(drop)
    }

    /// Forgets a broker that serves no more and holds nothing; it leaves the metadata quorum too.
    ///
    /// # Errors
    /// `UnknownBroker`; `BrokerInUse` where it holds replicas or serves; `InvalidVoters` for the last voter; else as any call.
    pub async fn remove_broker(&self, broker: BrokerId) -> Result<(), ClientError> {
        self.cluster.call(&RemoveBrokerRequest { broker_id: broker }).await.map(drop)
    }

    /// Lets a broker vote on metadata, or no longer, or no longer belong to the quorum at all; what is so already stays so. Returns the
    /// voters of then.
    ///
    /// # Errors
    /// `UnknownBroker`; `InvalidVoters` for the last voter and for more voters than there may be; else as any call.
    pub async fn change_voters(&self, broker: BrokerId, change: VoterChange) -> Result<Vec<BrokerId>, ClientError> {
        let request = ChangeVotersRequest { broker_id: broker, change };
        let membership = self.cluster.call(&request).await?.membership;
        let mut voters: Vec<_> = membership.voters.iter().flat_map(|set| &set.members).map(|m| m.broker_id).collect();
        voters.sort_unstable();
        voters.dedup();
        Ok(voters)
    }
}
