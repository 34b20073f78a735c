//! How long a damaged range is waited for that the broker says is being fetched from another replica: that passes, but where the other cannot be
//! reached it does not, and whoever reads shall hear of it. Pure; knows nothing of streams.

use std::time::{Duration, Instant};

use tidelog_protocol::{ErrorCode, Offset, WireError};

use crate::ClientError;

/// The wait for one range, if there is one.
#[derive(Debug, Default)]
pub(super) struct RepairWait(Option<Wait>);

#[derive(Debug)]
struct Wait {
    range: (Offset, Offset),
    since: Instant,
    refusals: u32,
}

/// What comes of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// It is asked again; this was the refusal of this number, from 1 on.
    Left(u32),
    /// It was waited for long enough.
    Over,
}

impl RepairWait {
    /// Takes a refusal in; `None` where it is for another reason.
    pub(super) fn refused(&mut self, error: &ClientError, limit: Duration, now: Instant) -> Option<Patience> {
        let ClientError::Broker(WireError { code: ErrorCode::Overloaded, range: Some(range), .. }) = error else {
            return None;
        };
        let known = self.0.take().filter(|wait| wait.range == *range);
        let mut wait = known.unwrap_or(Wait { range: *range, since: now, refusals: 0 });
        wait.refusals = wait.refusals.saturating_add(1);
        let is_over = now.saturating_duration_since(wait.since) >= limit;
        let patience = if is_over { Patience::Over } else { Patience::Left(wait.refusals) };
        // Whoever is told and tries again waits anew.
        self.0 = (!is_over).then_some(wait);
        Some(patience)
    }

    /// Something was read, or shall be read elsewhere.
    pub(super) fn ends(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_waited_for_so_long_and_each_anew() {
        let refusal = |code, range: Option<(u64, u64)>| {
            let range = range.map(|(from, to)| (Offset(from), Offset(to)));
            ClientError::Broker(WireError { range, ..WireError::new(code, "x") })
        };
        let fetched = |from| refusal(ErrorCode::Overloaded, Some((from, from + 1)));
        let (limit, begin) = (Duration::from_secs(10), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut wait = RepairWait::default();
        let mut refused = |error: &ClientError, seconds| wait.refused(error, limit, at(seconds));
        assert_eq!(refused(&refusal(ErrorCode::Overloaded, None), 0), None, "it has too much to do, and that passes");
        assert_eq!(refused(&refusal(ErrorCode::OffsetOutOfRange, Some((3, 4))), 0), None);
        assert_eq!(refused(&fetched(3), 0), Some(Patience::Left(1)));
        assert_eq!(refused(&fetched(3), 9), Some(Patience::Left(2)));
        assert_eq!(refused(&fetched(7), 12), Some(Patience::Left(1)), "that is another range");
        assert_eq!(refused(&refusal(ErrorCode::NotLeader, None), 13), None, "it is waited for all the same");
        assert_eq!(refused(&fetched(7), 22), Some(Patience::Over));
        assert_eq!(refused(&fetched(7), 23), Some(Patience::Left(1)), "it was asked for again");
        wait.ends();
        assert_eq!(wait.refused(&fetched(7), limit, at(40)), Some(Patience::Left(1)));
    }
}
