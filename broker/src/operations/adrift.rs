//! A leader whose broker has been out of touch with the controller for so long that another may lead by now: its records are settled whoever
//! leads, but its end may not be that of the log. Whether that is so of a broker says its lease.

use tidelog_protocol::{ProtocolVersion, WireError};

use crate::partition::{Serves, Tail, refusals};

/// From this version on a client can ask for what is settled, and so be refused where nobody knows whether that is all.
const KNOWS_SETTLED: ProtocolVersion = ProtocolVersion(8);

/// Whether this is the tail of one who leads by its own view and may have been replaced, as its broker has no lease. A partition that no other
/// broker holds is led by nobody else.
pub(crate) const fn may_be_deposed(tail: &Tail, has_lease: bool) -> bool {
    !has_lease && tail.leads && tail.has_peers
}

/// As whom a replica serves one who asks for what is settled. A lease that was lost for a moment is waited for.
pub(crate) const fn serves_settled(tail: &Tail, is_adrift: bool) -> Serves {
    if may_be_deposed(tail, !is_adrift) { Serves::Adrift } else { Serves::Survivor }
}

/// Why a leader does not say where its log begins and ends: what it says is taken for all there is. At once: another may be elected as soon as the
/// lease is over, and whoever asks can ask again.
pub(crate) fn refusal(tail: &Tail, has_lease: bool, version: ProtocolVersion) -> Option<WireError> {
    (version >= KNOWS_SETTLED && may_be_deposed(tail, has_lease)).then(refusals::is_adrift)
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset};

    use super::*;

    fn tail(leads: bool, has_peers: bool) -> Tail {
        let offset = Offset(7);
        Tail {
            log_start: Offset::ZERO,
            last_stable: offset,
            high_watermark: offset,
            log_end: offset,
            common_end: offset,
            leader_epoch: LeaderEpoch(1),
            led_from: offset,
            leads,
            has_peers,
            is_broken: false,
            ended: None,
            closed: None,
        }
    }

    #[test]
    fn a_leader_adrift_serves_whoever_asks_for_what_is_settled_and_tells_nobody_else_its_end() {
        let leader = tail(true, true);
        assert_eq!((serves_settled(&leader, true), serves_settled(&leader, false)), (Serves::Adrift, Serves::Survivor));
        assert_eq!(Serves::Adrift.refusal(&leader), None);
        assert!(
            Serves::Survivor.refusal(&leader).is_some(),
            "as long as a controller hears of it, it is asked as leader"
        );
        let refused = refusal(&leader, false, KNOWS_SETTLED).map(|error| error.code);
        assert_eq!((refused, refusal(&leader, true, KNOWS_SETTLED)), (Some(ErrorCode::NotLeader), None));
        assert_eq!(refusal(&leader, false, ProtocolVersion(7)), None, "who cannot ask otherwise");
    }

    #[test]
    fn nobody_else_leads_what_nobody_else_holds_and_a_follower_is_no_leader() {
        for tail in [tail(true, false), tail(false, true)] {
            assert_eq!(serves_settled(&tail, true), Serves::Survivor);
            assert_eq!(refusal(&tail, false, KNOWS_SETTLED), None);
        }
        assert!(Serves::Adrift.refusal(&tail(false, true)).is_some());
    }
}
