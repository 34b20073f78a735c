//! The storage against the consensus library's own suite.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;
use tidelog_log::{DataDir, FlusherHandle, OsDisk};
use tidelog_protocol::BrokerId;

use super::log_store::LogStore;
use super::raft_types::{Address, Member, RaftTypes, StorageFault};
use super::state_machine::StateMachine;
use super::storage::{QuorumStorage, StorageOptions};

impl From<u64> for Member {
    fn from(number: u64) -> Self {
        Self { broker: BrokerId(number as u32), ..Self::default() }
    }
}

struct InFreshFolders;

impl StoreBuilder<RaftTypes, LogStore, StateMachine, TempDir> for InFreshFolders {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageFault> {
        let folder = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(Arc::new(OsDisk), folder.path(), None).unwrap());
        let address = Address { host: "localhost".into(), port: 9092 };
        let options = StorageOptions { data, flusher: FlusherHandle::detached(), broker: BrokerId(1), address };
        let storage = QuorumStorage::open(options).unwrap();
        Ok((folder, LogStore::new(storage.journal, storage.machine.clone()), storage.machine))
    }
}

#[test]
fn the_storage_keeps_what_consensus_counts_on() {
    Suite::test_all(InFreshFolders).unwrap();
}
