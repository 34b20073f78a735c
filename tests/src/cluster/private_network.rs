//! A network that only a test's brokers and its clients are on: a network namespace for each broker, a bridge in one of its own, and one leg
//! in the namespace of the test. Nothing of the machine's own network is touched. Knows nothing of brokers' data. Needs
//! [`Need::Namespaces`](crate::requirements::Need::Namespaces).

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::system;

/// The first word of every namespace's name; the process that made it is the second.
pub const PREFIX: &str = "tidelog-test";
/// The most brokers on one network.
pub const BROKERS_MAX: u32 = 12;
/// The clients' address within a subnet of 16 addresses.
const CLIENTS_HOST: u32 = 14;
/// Subnets in 198.18.0.0/15, which belongs to benchmarks and is never routed (RFC 2544).
const SUBNETS: u32 = 1 << 13;
const FIRST_ADDRESS: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// The network; it goes with its value.
#[derive(Debug)]
pub struct PrivateNetwork {
    name: String,
    leg: String,
    subnet: u32,
    brokers: u32,
}

impl PrivateNetwork {
    /// Makes a network for brokers 1 to `brokers`.
    ///
    /// # Panics
    /// Where the machine does not let it.
    #[must_use]
    pub fn new(brokers: u32) -> Self {
        assert!(brokers <= BROKERS_MAX, "a network has room for {BROKERS_MAX} brokers");
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let taken = system("ip", &["-o", "-4", "address"]);
        let is_free = |subnet: &u32| !taken.contains(&format!(" {}/", address(*subnet, CLIENTS_HOST)));
        let subnet = (0..SUBNETS).map(|step| (pid.wrapping_mul(7) + number + step) % SUBNETS).find(is_free);
        let subnet = subnet.expect("a free subnet");
        // Made before anything is, so that a failure half way leaves nothing behind.
        let network =
            Self { name: format!("{PREFIX}-{pid}-{number}"), leg: format!("tl{pid}n{number}"), subnet, brokers };
        network.build();
        network
    }

    fn build(&self) {
        let bridge = self.bridge();
        system("ip", &["netns", "add", &bridge]);
        system("ip", &["-n", &bridge, "link", "add", "bridge", "type", "bridge"]);
        system("ip", &["-n", &bridge, "link", "set", "bridge", "up"]);
        for id in 1..=self.brokers {
            let (namespace, port) = (self.namespace(id), format!("broker{id}"));
            system("ip", &["netns", "add", &namespace]);
            system("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
            let pair = ["link", "add", "wire", "netns", &namespace, "type", "veth", "peer", "name", &port];
            system("ip", &[&pair[..], &["netns", &bridge]].concat());
            let own = format!("{}/28", self.address(id));
            system("ip", &["-n", &namespace, "address", "add", &own, "dev", "wire"]);
            system("ip", &["-n", &namespace, "link", "set", "wire", "up"]);
            system("ip", &["-n", &bridge, "link", "set", &port, "master", "bridge", "up"]);
        }
        system("ip", &["link", "add", &self.leg, "type", "veth", "peer", "name", "clients", "netns", &bridge]);
        system("ip", &["address", "add", &format!("{}/28", self.clients()), "dev", &self.leg]);
        system("ip", &["link", "set", &self.leg, "up"]);
        system("ip", &["-n", &bridge, "link", "set", "clients", "master", "bridge", "up"]);
    }

    /// The address of a broker.
    #[must_use]
    pub fn address(&self, broker: u32) -> Ipv4Addr {
        address(self.subnet, broker)
    }

    /// The address that the test's own clients have here.
    #[must_use]
    pub fn clients(&self) -> Ipv4Addr {
        address(self.subnet, CLIENTS_HOST)
    }

    /// Brokers that have a place here, from 1.
    #[must_use]
    pub const fn brokers(&self) -> u32 {
        self.brokers
    }

    /// The namespace of a broker.
    #[must_use]
    pub fn namespace(&self, broker: u32) -> String {
        format!("{}-{broker}", self.name)
    }

    /// Words that let a program run there. It sees the same mounts: only the network is another.
    #[must_use]
    pub fn launch_prefix(&self, broker: u32) -> [String; 2] {
        inside(&self.namespace(broker))
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.name)
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        // What was not made yet cannot be removed, which is as good.
        let _ = Command::new("ip").args(["link", "del", &self.leg]).output();
        let namespaces = (1..=self.brokers).map(|id| self.namespace(id)).chain([self.bridge()]);
        for namespace in namespaces {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
        }
    }
}

/// Words that let a program run in a namespace. `nsenter` becomes the program, and unlike `ip netns exec` it makes no copy of the mounts, which
/// would keep a disk mounted that the test unmounts.
#[must_use]
pub fn inside(namespace: &str) -> [String; 2] {
    ["nsenter".into(), format!("--net=/run/netns/{namespace}")]
}

fn address(subnet: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_ADDRESS + subnet * 16 + host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::{Need, requires};

    #[test]
    fn a_network_is_there_and_goes() {
        if !requires("private_network", &[Need::Namespaces]) {
            return;
        }
        let network = PrivateNetwork::new(2);
        let namespaces = system("ip", &["netns", "list"]);
        assert!(namespaces.contains(&network.namespace(2)), "{namespaces}");
        let listed = network.name.clone();
        drop(network);
        let namespaces = system("ip", &["netns", "list"]);
        assert!(!namespaces.contains(&listed), "{namespaces}");
    }

    #[test]
    fn all_addresses_lie_in_the_range_of_benchmarks() {
        assert_eq!(address(0, 1), Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(address(SUBNETS - 1, CLIENTS_HOST), Ipv4Addr::new(198, 19, 255, 254));
    }
}
