//! Whether the controller may count on being the only one, and what leases it may give by that. Pure: it is told when the voters were asked,
//! that a majority answered, and that another wants a vote. Knows nothing of how they are asked.
//!
//! # Why a new controller need not wait for a whole lease
//!
//! Let a controller ask the voters at `c` whether it still leads, and a majority say so. Then:
//! 1. Whatever it grants by that confirmation ends by `c + LEASE_MS`: a lease is shortened by the time that has passed since `c`, and the broker
//!    counts it from when its heartbeat was *sent*, which was before it was granted.
//! 2. Nobody else is elected before `c + FAITHFUL_MS`. A majority that elects has a voter in common with the one that confirmed. If that is not
//!    the controller itself, it heard of this leader at `c` or later and votes for nobody else for [`FAITHFUL_MS`], also when it restarts
//!    meanwhile (its vote is on disk, and it counts from its start). If it is the controller itself, [`Confirmation::may_vote`] refuses
//!    for as long, and a vote that it gave while it asked makes void what it asked.
//! 3. So every lease that a predecessor gave has ended [`LEASE_MS`](crate::leases::LEASE_MS) − [`FAITHFUL_MS`] after another was elected; of the
//!    time saved a tenth of a second is left for clocks that do not run alike: [`HANDOVER_MS`].
//! 4. Who runs the controller gives itself [`OWN_LEASE_MS`] only, as nothing lies between the two: what it holds of its own ends sooner still.
//!    What an earlier controller gave it ended 700 ms after it was elected, and a majority heard of it, when it took office, after that: so
//!    that too has ended when the next is elected.
//!
//! `tests/lease_handover.rs` lives this through many random schedules, and shows that each of the steps is needed.

use tidelog_protocol::Monotonic;

/// A voter that heard of a leader votes for nobody else for so long, in milliseconds.
pub const FAITHFUL_MS: u64 = 800;

/// What has certainly passed of every lease that a predecessor gave when another takes office, in milliseconds.
pub const HANDOVER_MS: u64 = FAITHFUL_MS - 100;

/// The lease of the broker that runs the controller, in milliseconds: short, since another must wait for its end when it is gone.
pub const OWN_LEASE_MS: u64 = 1_000;

/// A controller that has not made sure for so long that it still is one gives no leases, in milliseconds. Shorter than the time in which no
/// other can be elected: it must not answer a broker that is heard of by its successor already.
const CONFIRMED_MS_MAX: u64 = 500;

/// What one member knows of its own leadership.
#[derive(Clone, Debug, Default)]
pub struct Confirmation {
    /// When it began to ask what a majority has answered.
    confirmed: Option<Monotonic>,
    /// How often it let others have its vote.
    votes: u64,
}

/// The voters are being asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    began: Monotonic,
    votes: u64,
}

impl Confirmation {
    /// It begins to ask the voters at `now`.
    #[must_use]
    pub const fn ask(&self, now: Monotonic) -> Asking {
        Asking { began: now, votes: self.votes }
    }

    /// A majority has answered that it leads; false where that says nothing any more.
    pub fn confirmed(&mut self, asked: Asking) -> bool {
        let holds = asked.votes == self.votes;
        if holds {
            self.confirmed = self.confirmed.max(Some(asked.began));
        }
        holds
    }

    /// Another asks for its vote at `now`: may it think about that?
    pub fn may_vote(&mut self, now: Monotonic) -> bool {
        let may = !self.is_certain(now);
        self.votes += u64::from(may);
        may
    }

    /// Whether a majority confirmed so lately that nobody else can have been elected.
    #[must_use]
    pub fn is_certain(&self, now: Monotonic) -> bool {
        self.confirmed.is_some_and(|confirmed| now.ms_since(confirmed) <= FAITHFUL_MS)
    }

    /// How long a lease may be that is given at `now`, where one of `lease_ms` is due; `None` where none may be given. Always less than what
    /// is due: a release that counted from when a lease was granted gave the whole, and by that is told apart.
    #[must_use]
    pub fn lease_ms(&self, now: Monotonic, lease_ms: u64) -> Option<u64> {
        let since = now.ms_since(self.confirmed?);
        (since <= CONFIRMED_MS_MAX).then(|| lease_ms.saturating_sub(since.max(1)))
    }
}
