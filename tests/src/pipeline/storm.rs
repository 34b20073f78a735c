//! Faults for a pipeline, drawn one after the other: brokers and members are killed, paused, cut off and restarted, those that coordinate by
//! name. Knows nothing of what the members do.

use std::time::Duration;

use fastrand::Rng;

use super::member::MemberProcess;
use crate::cluster::{Cluster, Evidence};

/// Longer than a lease and a session of the tests, so that whoever stands still is noticed.
const NOTICED: Duration = Duration::from_secs(4);

/// A fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The leader of some partition of the output is killed.
    KillLeader,
    /// Whoever coordinates some transactions is killed.
    KillTransactionCoordinator,
    /// Whoever coordinates the group is killed, or others of its topic.
    KillGroupCoordinator,
    /// A broker stands still for longer than its lease.
    PauseBroker,
    /// A broker is cut off from all others and from the clients.
    CutOff,
    /// All brokers are asked to stop and started again, one by one.
    RollingRestart,
    /// A member is killed, and started again.
    KillMember,
    /// A member stands still for longer than its session, and goes on: a zombie.
    PauseMember,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::KillLeader,
        Self::KillMember,
        Self::KillTransactionCoordinator,
        Self::PauseMember,
        Self::CutOff,
        Self::KillGroupCoordinator,
        Self::PauseBroker,
        Self::RollingRestart,
    ];
}

/// What the faults fall on.
#[derive(Debug)]
pub struct Storm<'a> {
    /// The brokers; with a network of their own, or nobody can be cut off.
    pub cluster: &'a mut Cluster,
    /// The members.
    pub members: &'a mut [MemberProcess],
    /// The topic that they write to.
    pub output: &'a str,
    /// Chance.
    pub rng: &'a mut Rng,
}

impl Storm<'_> {
    /// Does one fault and ends it: afterwards every broker and every member runs.
    ///
    /// # Panics
    /// Where somebody ended by themselves.
    pub async fn strike(&mut self, fault: Fault) -> Evidence {
        match fault {
            Fault::KillLeader => {
                let partition = self.rng.u32(..12);
                self.kill_leader(self.output, partition, "leaders killed").await
            }
            Fault::KillTransactionCoordinator => {
                let partition = self.rng.u32(..16);
                self.kill_leader("__transactions", partition, "coordinators of transactions killed").await
            }
            Fault::KillGroupCoordinator => {
                let partition = self.rng.u32(..16);
                self.kill_leader("__groups", partition, "coordinators of groups killed").await
            }
            Fault::PauseBroker => {
                let broker = self.any_broker();
                let evidence = self.cluster.pause(broker);
                tokio::time::sleep(NOTICED).await;
                self.cluster.resume(broker);
                evidence
            }
            Fault::CutOff => {
                let broker = self.any_broker();
                let cut = self.cluster.network().isolate(broker);
                tokio::time::sleep(NOTICED).await;
                Evidence::of("packets dropped", cut.mend())
            }
            Fault::RollingRestart => {
                let mut evidence = Evidence::default();
                for broker in 1..=self.cluster.brokers() {
                    evidence.add(self.cluster.stop(broker));
                    self.cluster.restart(broker);
                    self.cluster.wait_healed(self.output).await;
                }
                evidence
            }
            Fault::KillMember => {
                let member = self.rng.choice(self.members.iter_mut()).expect("a pipeline has members");
                member.kill();
                member.restart();
                Evidence::of("members killed", 1_u64)
            }
            Fault::PauseMember => {
                let member = self.rng.choice(self.members.iter_mut()).expect("a pipeline has members");
                member.pause();
                tokio::time::sleep(NOTICED * 2).await;
                member.resume();
                Evidence::of("members that stood still", 1_u64)
            }
        }
    }

    fn any_broker(&mut self) -> u32 {
        self.rng.u32(1..=self.cluster.brokers())
    }

    async fn kill_leader(&mut self, topic: &str, partition: u32, what: &str) -> Evidence {
        let (leader, _) = self.cluster.leader(topic, partition).await;
        let evidence = self.cluster.kill(leader).and(what, 1_u64);
        self.cluster.next_leader(topic, partition, leader).await;
        self.cluster.restart(leader);
        evidence
    }
}
