//! An address of its own for each broker, so that it keeps its port over a restart. Knows nothing of brokers.
//!
//! All of 127.0.0.0/8 is this machine. Clients dial from 127.0.0.1, so on another address no outgoing connection can take the port of
//! a broker that is down, and nobody who retries ends up connected to himself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// A loopback address that no other test of this machine has, with port 0: "any free one".
#[must_use]
pub fn fresh() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id() % (250 * 250);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 250;
    let octet = |value: u32| u8::try_from(value % 250 + 1).expect("at most 250");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, octet(process / 250), octet(process), octet(number))), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_can_be_listened_on() {
        let (first, second) = (fresh(), fresh());
        assert_ne!(first.ip(), second.ip());
        assert!(std::net::TcpListener::bind(first).is_ok());
    }
}
