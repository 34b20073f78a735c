//! When somebody came, before whom and behind whom, and from where. Knows nothing of what is waited for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where somebody comes from, as far as many can be told to be one: an IPv4 address, or the 64 bits of an IPv6 address that stand for a
/// network, in which whoever has it has as many addresses as they like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Source(u64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No network of IPv6 begins with as many zeros.
            IpAddr::V4(address) => Self(u32::from(address).into()),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64),
        }
    }
}

/// When somebody came, before whom and behind whom. Kept by who asks more than once: to ask again is not to come again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    is_unproved: bool,
    order: u64,
    source: Source,
}

impl Rank {
    pub(super) const FIRST_UNPROVED: Self = Self { is_unproved: true, order: 0, source: Source(0) };

    /// True before all that have not proved to use what they get.
    pub(crate) const fn is_proved(self) -> bool {
        !self.is_unproved
    }

    /// Of one that comes from there.
    pub(crate) const fn from(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Where it comes from.
    pub(crate) const fn source(self) -> Source {
        self.source
    }
}

/// Where ranks come from: one for all turns at which the same may wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranks(Arc<AtomicU64>);

impl Ranks {
    /// Of who comes now.
    pub(crate) fn next(&self, is_proved: bool) -> Rank {
        let order = self.0.fetch_add(1, Ordering::Relaxed);
        Rank { is_unproved: !is_proved, order, source: Source::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_one_may_have_many_of_are_one_source() {
        let of = |address: &str| Source::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }
}
