//! What a cluster is made of. No logic.

/// How the brokers reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// By loopback addresses: runs anywhere.
    Loopback,
    /// Each in a network namespace of its own. Needs [`Need::Namespaces`](crate::requirements::Need::Namespaces).
    Namespaces,
    /// By loopback addresses, and through a [`DelayingProxy`](crate::delaying_proxy::DelayingProxy) in front of each broker, which peers and
    /// clients have to take.
    Proxies,
}

/// Where the brokers keep their data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disks {
    /// In folders side by side.
    Folders,
    /// Each on a file system of its own of so many bytes. Needs [`Need::LoopDisk`](crate::requirements::Need::LoopDisk).
    Loop(u64),
}

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub(super) brokers: u32,
    pub(super) voters: u32,
    pub(super) wiring: Wiring,
    pub(super) disks: Disks,
    pub(super) racks: bool,
    pub(super) keys: Vec<(String, String)>,
    pub(super) preloads: Vec<(u32, Vec<(String, String)>)>,
}

impl ClusterSettings {
    /// Three brokers, all of them voters, on loopback addresses and in folders.
    #[must_use]
    pub fn three() -> Self {
        Self::of(3)
    }

    /// So many brokers, all of them voters, on loopback addresses and in folders.
    #[must_use]
    pub fn of(brokers: u32) -> Self {
        let (wiring, disks) = (Wiring::Loopback, Disks::Folders);
        Self { brokers, voters: brokers, wiring, disks, racks: false, keys: Vec::new(), preloads: Vec::new() }
    }

    /// With so many voters; the other brokers only learn.
    #[must_use]
    pub fn voters(mut self, voters: u32) -> Self {
        self.voters = voters;
        self
    }

    /// Wired so.
    #[must_use]
    pub fn wiring(mut self, wiring: Wiring) -> Self {
        self.wiring = wiring;
        self
    }

    /// On such disks.
    #[must_use]
    pub fn disks(mut self, disks: Disks) -> Self {
        self.disks = disks;
        self
    }

    /// Each in a rack of its own, `rack-1` and so on.
    #[must_use]
    pub fn racks(mut self) -> Self {
        self.racks = true;
        self
    }

    /// With a config key for all brokers.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.into(), value.into()));
        self
    }

    /// With environment variables for one broker.
    #[must_use]
    pub fn environment(mut self, broker: u32, variables: Vec<(String, String)>) -> Self {
        self.preloads.push((broker, variables));
        self
    }
}
