//! A broker as the others know it: which life of its data folder, and where it can be dialled. No logic.

use std::fmt;

use tidelog_protocol::{BrokerId, IncarnationId};

/// One life of a broker's data folder. A broker whose disk was wiped is another member, so it cannot vote twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Member {
    /// The broker.
    pub broker: BrokerId,
    /// Which life of its data folder.
    pub incarnation: IncarnationId,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} ({})", self.broker, self.incarnation)
    }
}

/// Where a broker can be dialled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
