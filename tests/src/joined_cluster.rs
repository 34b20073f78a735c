//! Several brokers in this process that joined each other, as real ones do: one metadata quorum over their ordinary ports. Knows nothing of
//! what is right.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use tidelog_broker::config::{Advertise, OwnId, PathText};
use tidelog_broker::{Broker, Config};
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{ChangeVotersRequest, VoterChange};
use tidelog_protocol::{BrokerId, ErrorCode, WireError};

use crate::patience::{wait_until, within_limit};
use crate::raw_connection::RawConnection;

/// The cluster, with ids from 1 on.
pub struct JoinedCluster {
    folder: TempDir,
    brokers: Vec<Option<Broker>>,
    configs: Vec<Config>,
}

impl JoinedCluster {
    /// Starts so many brokers, all of them voters.
    ///
    /// # Panics
    /// Where they do not start.
    pub async fn start(brokers: u32) -> Self {
        let cluster = Self::learners(brokers).await;
        for id in 2..=brokers {
            cluster.promote(id).await;
        }
        cluster
    }

    /// Starts so many brokers, of which only the first votes.
    ///
    /// # Panics
    /// Where they do not start.
    pub async fn learners(brokers: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { folder, brokers: Vec::new(), configs: Vec::new() };
        for _ in 0..brokers {
            cluster.add().await;
        }
        cluster
    }

    /// One more broker joins. Its id.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn add(&mut self) -> u32 {
        let id = self.brokers.len() as u32 + 1;
        let join = self.living().next().map(Broker::address);
        let config = config(self.folder.path(), id, join);
        let broker = within_limit("a broker to join", Broker::start(config.clone())).await.unwrap();
        // A broker that starts again is found where it was.
        self.configs.push(Config { listen: broker.address(), admin_listen: broker.admin_address(), ..config });
        self.brokers.push(Some(broker));
        id
    }

    /// A broker votes from here on.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub async fn promote(&self, id: u32) {
        let request = ChangeVotersRequest { broker_id: BrokerId(id), change: VoterChange::Promote };
        self.settled(&request).await.unwrap();
    }

    /// A broker.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn broker(&self, id: u32) -> &Broker {
        self.brokers[id as usize - 1].as_ref().expect("it runs")
    }

    /// Where clients reach a broker.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn address(&self, id: u32) -> SocketAddr {
        self.broker(id).address()
    }

    /// Where clients reach them, as they are given several addresses.
    #[must_use]
    pub fn addresses(&self) -> String {
        let all: Vec<String> = self.living().map(|broker| broker.address().to_string()).collect();
        all.join(",")
    }

    /// Those that run.
    pub fn living(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().flatten()
    }

    /// Asks a broker.
    ///
    /// # Errors
    /// What it answers.
    pub async fn ask<R: Request>(&self, id: u32, request: &R) -> Result<R::Response, WireError> {
        RawConnection::introduced(self.address(id)).await.call(request, &[]).await
    }

    /// Asks any broker, again where there is no controller just now.
    ///
    /// # Errors
    /// What it answers else.
    ///
    /// # Panics
    /// Where there never is one.
    pub async fn settled<R: Request>(&self, request: &R) -> Result<R::Response, WireError> {
        let address = self.living().next().expect("one runs").address();
        wait_until("a controller", async || {
            let answer = RawConnection::introduced(address).await.call(request, &[]).await;
            let none = |error: &WireError| matches!(error.code, ErrorCode::NotController | ErrorCode::NoQuorum);
            (!answer.as_ref().is_err_and(none)).then_some(answer)
        })
        .await
    }

    /// Shuts a broker down.
    ///
    /// # Panics
    /// Where it does not run, or its disk refuses.
    pub async fn stop(&mut self, id: u32) {
        let broker = self.brokers[id as usize - 1].take().expect("it runs");
        within_limit("a broker to shut down", broker.shutdown()).await.unwrap();
    }

    /// Where a broker keeps what it has.
    #[must_use]
    pub fn data(&self, id: u32) -> &Path {
        &self.configs[id as usize - 1].data.0
    }

    /// How a broker is started the next time.
    pub fn config_mut(&mut self, id: u32) -> &mut Config {
        &mut self.configs[id as usize - 1]
    }

    /// A broker that was stopped loses all that it has.
    ///
    /// # Panics
    /// Where it runs, or had nothing.
    pub fn wipe(&self, id: u32) {
        assert!(self.brokers[id as usize - 1].is_none(), "it runs");
        std::fs::remove_dir_all(self.data(id)).unwrap();
    }

    /// Starts one that was stopped.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn start_again(&mut self, id: u32) {
        let config = self.configs[id as usize - 1].clone();
        let broker = within_limit("a broker to start again", Broker::start(config)).await.unwrap();
        self.brokers[id as usize - 1] = Some(broker);
    }
}

fn config(folder: &Path, broker_id: u32, join: Option<SocketAddr>) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(folder.join(format!("broker-{broker_id}"))),
        disk_free_min_bytes: 0,
        broker_id: OwnId(Some(broker_id)),
        join: Advertise(join.map(|address| (address.ip().to_string(), address.port()))),
        ..Config::default()
    }
}
