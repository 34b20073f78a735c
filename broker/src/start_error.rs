//! Why a broker does not start: one sentence each that says what to do. No logic.

use std::net::SocketAddr;
use std::path::PathBuf;

use tidelog_log::StorageError;
use tidelog_log::data_dir::DataDirError;
use tidelog_protocol::WireError;

use crate::broker_mark::BrokerMarkError;
use crate::joining::JoinError;
use crate::partition::LeftoversError;
use crate::quorum::{ANEW, OpenStorageError, QuorumError};

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not ours to bind.
    #[error("cannot listen on {address}: {error}; {}", crate::port_remedy::port_remedy(key, error))]
    Listen {
        /// The config key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Both ports are to be one.
    #[error("listen and admin_listen are both {0}: set admin_listen to another port")]
    OnePort(SocketAddr),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The data folder is another broker's.
    #[error(transparent)]
    Owner(#[from] BrokerMarkError),
    /// The disk refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Threads cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] OpenStorageError),
    /// The metadata cannot be changed.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// There are partitions but nothing says of which topics.
    #[error("{} holds partitions but no metadata: {ANEW}", data.display())]
    MetadataLost {
        /// The data folder.
        data: PathBuf,
    },
    /// It was a broker's, and nothing says any more of which cluster.
    #[error("{} was a broker's before, but holds no metadata any more (its __cluster_metadata-0 is gone, or empty): {ANEW}", data.display())]
    MetadataGone {
        /// The data folder.
        data: PathBuf,
    },
    /// The metadata are an old copy.
    #[error(transparent)]
    Leftovers(#[from] LeftoversError),
    /// The cluster cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The metadata refuses this broker.
    #[error("this broker cannot register: {0}")]
    Register(WireError),
}
