//! Which members were heard of lately: soft state beside the records, made afresh when another broker coordinates. Knows nothing of
//! what is done about silence.

use tidelog_protocol::Monotonic;

use super::membership::MemberView;

/// What is known of a member's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Presence {
    /// When it was last heard of; absent until the first look at it.
    pub heard: Option<Monotonic>,
    /// Since when it is to let go of something.
    pub letting_go_since: Option<Monotonic>,
    /// How long it works on its oldest record, as it said last.
    pub busy_ms: Option<u32>,
}

impl Presence {
    /// From now on its time counts, where it did not yet.
    pub fn begin(&mut self, member: &MemberView<'_>, now: Monotonic) {
        self.heard.get_or_insert(now);
        if member.current.letting_go.is_empty() {
            self.letting_go_since = None;
        } else {
            self.letting_go_since.get_or_insert(now);
        }
    }

    /// Was it silent for its session?
    pub fn is_silent(&self, member: &MemberView<'_>, now: Monotonic) -> bool {
        self.heard.is_some_and(|heard| now >= heard.plus_ms(u64::from(member.said.session_ms)))
    }

    /// When it has to be heard of, or to have let go.
    pub fn due(&self, member: &MemberView<'_>) -> Option<Monotonic> {
        let session = self.heard.map(|heard| heard.plus_ms(u64::from(member.said.session_ms)));
        let rebalance = self.letting_go_since.map(|since| since.plus_ms(u64::from(member.said.rebalance_ms)));
        session.into_iter().chain(rebalance).min()
    }

    /// Milliseconds since it was heard of.
    pub fn silent_ms(&self, now: Monotonic) -> u32 {
        self.heard.map_or(0, |heard| u32::try_from(now.ms_since(heard)).unwrap_or(u32::MAX))
    }
}
