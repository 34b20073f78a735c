//! Where members can be dialled: as their newest registration says, or as they told since, where nobody was found there any more. A
//! registration must be settled, for which the member may be needed itself. Knows nothing of sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_coordination::{BrokerImage, ClusterImage};
use tidelog_protocol::BrokerEpoch;

use super::raft_types::{Address, Member};

/// Where members said that they are. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereabouts {
    told: Arc<Mutex<BTreeMap<Member, Told>>>,
}

#[derive(Clone, Debug)]
struct Told {
    /// The registration that was the newest then: a later one is newer than what was told.
    registered: Option<BrokerEpoch>,
    address: Address,
}

impl Whereabouts {
    /// A member says where it is, and it is not where it was known to be.
    pub(super) fn moved(&self, image: &ClusterImage, member: Member, address: Address) {
        let registered = registration(image, member).map(|known| known.epoch);
        self.told.lock().insert(member, Told { registered, address });
    }

    /// Where a member can be dialled; `otherwise` where it never registered.
    pub(super) fn of(&self, image: &ClusterImage, member: Member, otherwise: &Address) -> Address {
        let registered = registration(image, member);
        let mut told = self.told.lock();
        if let Some(known) = told.get(&member) {
            if known.registered == registered.map(|known| known.epoch) {
                return known.address.clone();
            }
            told.remove(&member);
        }
        registered.map_or_else(|| otherwise.clone(), |broker| Address { host: broker.host.clone(), port: broker.port })
    }
}

/// The registration of this life of a broker's folder.
pub(super) fn registration(image: &ClusterImage, member: Member) -> Option<&BrokerImage> {
    image.broker(member.broker).filter(|broker| broker.incarnation == member.incarnation)
}

#[cfg(test)]
mod tests {
    use tidelog_coordination::records::BrokerRegistered;
    use tidelog_protocol::{BrokerId, IncarnationId, MetadataIndex};

    use super::*;

    fn at(port: u16) -> Address {
        Address { host: "localhost".into(), port }
    }

    #[test]
    fn what_a_member_told_holds_until_it_registers_anew() {
        let member = Member { broker: BrokerId(1), incarnation: IncarnationId([1; 16]) };
        let mut image = ClusterImage::default();
        let register = |image: &mut ClusterImage, epoch: u64, port: u16| {
            let record = BrokerRegistered {
                broker_id: member.broker,
                epoch: BrokerEpoch(epoch),
                incarnation: member.incarnation,
                host: "localhost".into(),
                port,
                rack: None,
                fenced: false,
                leaving: false,
                draining: false,
                stamp: None,
                copy: None,
            };
            image.apply(MetadataIndex(epoch), &record.into());
        };
        let whereabouts = Whereabouts::default();
        assert_eq!(whereabouts.of(&image, member, &at(1)), at(1));
        register(&mut image, 1, 2);
        assert_eq!(whereabouts.of(&image, member, &at(1)), at(2));
        whereabouts.moved(&image, member, at(3));
        assert_eq!(whereabouts.of(&image, member, &at(1)), at(3));
        register(&mut image, 2, 4);
        assert_eq!(whereabouts.of(&image, member, &at(1)), at(4));
    }
}
