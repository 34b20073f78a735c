//! A broker in this process, that can be stopped and started again on the same folder and port.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;

use tempfile::TempDir;
use tidelog_broker::config::PathText;
use tidelog_broker::{Broker, Config};
use tidelog_client::{Client, NewTopic};

/// A broker and its folder.
pub struct TestBroker {
    folder: TempDir,
    pub address: SocketAddr,
    running: Option<Broker>,
}

impl TestBroker {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one at this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = launch(&folder, address).await;
        Self { address: running.address(), folder, running: Some(running) }
    }

    /// Ends it properly.
    pub async fn stop(&mut self) {
        if let Some(broker) = self.running.take() {
            broker.shutdown().await.unwrap();
        }
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(launch(&self.folder, self.address).await);
    }

    /// A client of it.
    pub async fn client(&self) -> Client {
        Client::connect(&self.address.to_string()).await.unwrap()
    }

    /// A client, and a topic without flushes of this many partitions.
    pub async fn client_with_topic(&self, topic: &str, partitions: u32) -> Client {
        let client = self.client().await;
        let topic = NewTopic::named(topic).partitions(partitions).config("durability", "written");
        client.admin().create_topic(&topic).await.unwrap();
        client
    }
}

async fn launch(folder: &TempDir, listen: SocketAddr) -> Broker {
    let config = Config {
        listen,
        admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: PathText(folder.path().join("data")),
        disk_free_min_bytes: 0,
        ..Config::default()
    };
    Broker::start(config).await.unwrap()
}
