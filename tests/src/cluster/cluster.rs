//! Brokers as processes of their own that form one cluster: started, killed, paused, brought back. Knows nothing of what is sent to them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;
use tidelog_protocol::BrokerId;
use tidelog_protocol::messages::{ChangeVotersRequest, VoterChange};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::private_network::PrivateNetwork;
use super::settings::{ClusterSettings, Disks, Wiring};
use super::{Evidence, leftovers};
use crate::broker_process::{BrokerProcess, BrokerSettings, StartRefusal};
use crate::delaying_proxy::DelayingProxy;
use crate::loop_disk::LoopDisk;
use crate::loopback;
use crate::patience::insist;
use crate::process_figures::state_of;
use crate::question::ask;

/// The port of every broker that has an address of its own.
const PORT: u16 = 9092;
const ADMIN_PORT: u16 = 9640;

/// So many clusters at once: a loaded cluster waits more than it computes, but four of them on two cores are only noise.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A running cluster; it goes with its value, brokers first.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    network: Option<PrivateNetwork>,
    _folder: TempDir,
    _turn: SemaphorePermit<'static>,
}

#[derive(Debug)]
struct Member {
    // The process goes before the disk that it has open.
    process: BrokerProcess,
    disk: Option<LoopDisk>,
    proxy: Option<DelayingProxy>,
    is_down: bool,
    lives: Arc<AtomicU32>,
}

impl Cluster {
    /// Starts the brokers: the first alone, the others join it, then the voters are promoted.
    ///
    /// # Panics
    /// Where they do not become a cluster.
    pub async fn start(settings: ClusterSettings) -> Self {
        let turn = TURNS.acquire().await.expect("it is never closed");
        leftovers::remove();
        let folder = tempfile::Builder::new().prefix("tidelog-cluster-").tempdir().unwrap();
        let network = (settings.wiring == Wiring::Namespaces).then(|| PrivateNetwork::new(settings.brokers));
        let mut cluster = Self { members: Vec::new(), network, _folder: folder, _turn: turn };
        for id in 1..=settings.brokers {
            let member = cluster.start_member(&settings, id).await;
            cluster.members.push(member);
        }
        for id in 2..=settings.voters {
            cluster.change_voter(id, VoterChange::Promote).await;
        }
        cluster
    }

    async fn start_member(&self, settings: &ClusterSettings, id: u32) -> Member {
        let disk = match settings.disks {
            Disks::Folders => None,
            Disks::Loop(bytes) => Some(LoopDisk::new(bytes)),
        };
        let parent = disk.as_ref().map_or_else(|| self._folder.path().to_owned(), |disk| disk.path().to_owned());
        let mut broker = BrokerSettings::new().data(parent.join(format!("broker-{id}")));
        broker = broker.set("broker_id", &id.to_string());
        if settings.racks {
            broker = broker.set("rack", &format!("rack-{id}"));
        }
        let named = settings.preloads.iter().filter(|(named, _)| *named == id).flat_map(|(_, variables)| variables);
        broker = named.fold(broker, |broker, (name, value)| broker.env(name, value));
        broker = settings.keys.iter().fold(broker, |broker, (key, value)| broker.set(key, value));
        if let Some(network) = &self.network {
            let at = |port| SocketAddr::new(network.address(id).into(), port);
            broker = broker.under(network.launch_prefix(id)).listen(at(PORT)).admin_listen(at(ADMIN_PORT));
        }
        let proxy = match settings.wiring {
            Wiring::Proxies => Some(DelayingProxy::open().await),
            Wiring::Loopback | Wiring::Namespaces => None,
        };
        if let Some(proxy) = &proxy {
            // The others dial it before it serves, so where it will listen is settled first.
            let at = SocketAddr::new(loopback::fresh().ip(), PORT);
            proxy.lead_to(at);
            broker = broker.listen(at).set("advertise", &proxy.address().to_string());
        }
        if let Some(first) = self.members.first() {
            broker = broker.arg("--join").arg(first.address().to_string());
        }
        let process = broker.start();
        Member { process, disk, proxy, is_down: false, lives: Arc::new(AtomicU32::new(1)) }
    }

    /// So many brokers, with ids from 1 on.
    #[must_use]
    pub fn brokers(&self) -> u32 {
        self.members.len() as u32
    }

    /// Adds one more broker, which learns and does not vote.
    ///
    /// # Panics
    /// Where it cannot join.
    pub async fn add(&mut self, settings: &ClusterSettings) -> u32 {
        let id = self.brokers() + 1;
        let member = self.start_member(settings, id).await;
        self.members.push(member);
        id
    }

    /// Makes a broker a voter, or no voter any more.
    ///
    /// # Panics
    /// Where the cluster refuses for good.
    pub async fn change_voter(&self, broker: u32, change: VoterChange) {
        insist("a change of voters", async || {
            let request = ChangeVotersRequest { broker_id: BrokerId(broker), change };
            let asked = self.reachable().next().ok_or("nobody to ask")?;
            ask(asked, &request).await.map(drop).map_err(|error| format!("{error:?}"))
        })
        .await;
    }

    /// Where clients find the cluster: all brokers, by commas.
    #[must_use]
    pub fn servers(&self) -> String {
        self.members.iter().map(|member| member.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Where others reach a broker.
    #[must_use]
    pub fn address(&self, id: u32) -> SocketAddr {
        self.member(id).address()
    }

    /// The addresses of all brokers that the test has not taken down.
    pub fn reachable(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.iter().filter(|member| !member.is_down).map(Member::address)
    }

    /// The process of a broker.
    #[must_use]
    pub fn process(&self, id: u32) -> &BrokerProcess {
        &self.member(id).process
    }

    /// The data folder of a broker.
    #[must_use]
    pub fn data(&self, id: u32) -> PathBuf {
        self.member(id).process.data().to_owned()
    }

    /// The disk of a broker.
    ///
    /// # Panics
    /// Where the cluster was started without disks of its own.
    #[must_use]
    pub fn disk(&self, id: u32) -> &LoopDisk {
        self.member(id).disk.as_ref().expect("a cluster with disks of its own")
    }

    /// The network between the brokers.
    ///
    /// # Panics
    /// Where the cluster was started without one of its own.
    #[must_use]
    pub fn network(&self) -> &PrivateNetwork {
        self.network.as_ref().expect("a cluster with a network of its own")
    }

    /// The way to a broker.
    ///
    /// # Panics
    /// Where the cluster was started without proxies.
    #[must_use]
    pub fn proxy(&self, id: u32) -> &DelayingProxy {
        self.member(id).proxy.as_ref().expect("a cluster with proxies")
    }

    /// True where the test has taken a broker down.
    #[must_use]
    pub fn is_down(&self, id: u32) -> bool {
        self.member(id).is_down
    }

    /// How often a broker was started so far, for those who look on from outside.
    #[must_use]
    pub fn lives(&self, id: u32) -> Arc<AtomicU32> {
        self.member(id).lives.clone()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// Where it is down already.
    pub fn kill(&mut self, id: u32) -> Evidence {
        let member = self.member_mut(id);
        assert!(member.process.is_alive(), "broker {id} ended before it was killed");
        member.lives.fetch_add(1, Ordering::SeqCst);
        member.process.kill();
        member.is_down = true;
        Evidence::of("brokers killed", 1_u64)
    }

    /// Ends a broker that may have ended by itself: where a fault leaves it no choice, that is no failure.
    pub fn end(&mut self, id: u32) {
        let member = self.member_mut(id);
        member.lives.fetch_add(1, Ordering::SeqCst);
        if member.process.is_alive() {
            member.process.kill();
        }
        member.is_down = true;
    }

    /// Asks a broker to stop, and waits for its end.
    ///
    /// # Panics
    /// Where it does not end well.
    pub fn stop(&mut self, id: u32) -> Evidence {
        let member = self.member_mut(id);
        assert!(member.process.is_alive(), "broker {id} ended before it was stopped");
        member.is_down = true;
        let status = member.process.terminate();
        member.lives.fetch_add(1, Ordering::SeqCst);
        assert!(status.success(), "broker {id} was asked to stop and ended with {status}");
        Evidence::of("brokers stopped", 1_u64)
    }

    /// Starts a broker that is down, and waits until it serves.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn restart(&mut self, id: u32) {
        self.restart_all(&[id]);
    }

    /// Starts brokers that are down, all at once, and waits until all of them serve: none does before a majority is there.
    ///
    /// # Panics
    /// Where one does not start.
    pub fn restart_all(&mut self, ids: &[u32]) {
        std::thread::scope(|scope| {
            for (id, member) in (1..).zip(&mut self.members).filter(|(id, _)| ids.contains(id)) {
                scope.spawn(move || {
                    let outcome = member.process.try_restart();
                    member.is_down = false;
                    outcome.unwrap_or_else(|refusal| panic!("broker {id} did not start again: {refusal:?}"));
                });
            }
        });
    }

    /// As [`Cluster::restart`], for one broker that may refuse.
    ///
    /// # Errors
    /// What it said.
    pub fn try_restart(&mut self, id: u32) -> Result<(), StartRefusal> {
        let member = self.member_mut(id);
        member.process.try_restart()?;
        member.is_down = false;
        Ok(())
    }

    /// Stops a broker without its knowledge, until [`Cluster::resume`].
    ///
    /// # Panics
    /// Where it is down.
    pub fn pause(&self, id: u32) -> Evidence {
        self.process(id).pause();
        Evidence::of("brokers stopped by a signal", 1_u64)
    }

    /// Lets a paused broker go on. It must have stood still until now, else the pause is no evidence.
    ///
    /// # Panics
    /// Where it did not.
    pub fn resume(&self, id: u32) {
        let process = self.process(id);
        assert_eq!(state_of(process.pid()), Some('T'), "broker {id} did not stand still");
        process.signal(Signal::CONT);
    }

    /// Empties the data folder of a broker that is down, as a new disk would be.
    ///
    /// # Panics
    /// Where it is the first broker, which would found a cluster of its own.
    pub fn wipe(&mut self, id: u32) -> Evidence {
        assert!(
            id > 1 && self.is_down(id),
            "only a broker that was told to join can be wiped, and only while it is down"
        );
        let data = self.data(id);
        let files = walk(&data);
        std::fs::remove_dir_all(&data).unwrap();
        Evidence::of("files wiped", files)
    }

    /// The third assertion of a fault test, second half: no process ended but by the test's hand, and none of their tasks panicked.
    ///
    /// # Panics
    /// Where one did.
    pub fn assert_alive(&mut self) {
        for (id, member) in (1..).zip(&mut self.members) {
            let panics: Vec<_> = member
                .process
                .log_text()
                .lines()
                .filter(|line| line.contains("panicked at"))
                .map(str::to_owned)
                .collect();
            assert!(panics.is_empty(), "broker {id} panicked: {panics:?}");
            if !member.is_down {
                assert!(member.process.is_alive(), "broker {id} ended, and not by the test's hand");
            }
        }
    }

    fn member(&self, id: u32) -> &Member {
        &self.members[id as usize - 1]
    }

    fn member_mut(&mut self, id: u32) -> &mut Member {
        &mut self.members[id as usize - 1]
    }
}

impl Member {
    fn address(&self) -> SocketAddr {
        self.proxy.as_ref().map_or_else(|| self.process.address(), DelayingProxy::address)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the brokers said at the end ---\n{}\n---", super::sight::last_words(self));
        }
        // One after another their ends would only be noise to those that are left.
        for member in self.members.iter_mut().filter(|member| !member.is_down) {
            member.process.signal(Signal::KILL);
        }
    }
}

fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}
