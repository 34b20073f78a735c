//! A lease: who may act for a while, and the token that tells later holders from earlier ones. Pure: knows neither clock nor database.
//!
//! A clock decides only who tries next. What may be done is decided by the token: whoever writes under a lease checks in the same
//! transaction that the token is still the latest, so that a holder that was away for too long writes nothing.

use std::time::Duration;

/// The tables' row of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseRow {
    /// Who has it; empty where nobody has.
    pub(crate) owner: String,
    /// Grows with every holder.
    pub(crate) token: i64,
    /// Until when, in milliseconds since 1970 by the database's clock.
    pub(crate) until_ms: i64,
}

/// A lease in somebody's hands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// What it is of.
    pub(crate) name: String,
    /// Who has it.
    pub(crate) owner: String,
    /// Under which token.
    pub(crate) token: i64,
}

/// What became of an attempt to get a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It is the asker's, as this row says.
    Taken(LeaseRow),
    /// Another has it, for so long unless it is renewed.
    Held {
        /// Who.
        owner: String,
        /// For how long. Whoever waits looks sooner: a clock that went back must not keep everybody out for as long as it did.
        left: Duration,
    },
}

/// What `owner` gets, where the lease stands as `row` says.
pub(crate) fn claim(row: Option<&LeaseRow>, owner: &str, now_ms: i64, span: Duration) -> Claim {
    let until_ms = now_ms.saturating_add(milliseconds(span));
    let token = row.map_or(0, |row| row.token) + 1;
    match row {
        Some(held) if !held.owner.is_empty() && held.until_ms > now_ms => {
            let left = held.until_ms - now_ms;
            Claim::Held { owner: held.owner.clone(), left: Duration::from_millis(left.unsigned_abs()) }
        }
        _ => Claim::Taken(LeaseRow { owner: owner.into(), token, until_ms }),
    }
}

/// Milliseconds, as the tables keep them.
pub(crate) fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(5);

    fn row(owner: &str, token: i64, until_ms: i64) -> LeaseRow {
        LeaseRow { owner: owner.into(), token, until_ms }
    }

    #[test]
    fn the_first_gets_the_first_token() {
        assert_eq!(claim(None, "a", 1_000, SPAN), Claim::Taken(row("a", 1, 6_000)));
    }

    #[test]
    fn nobody_gets_what_another_has() {
        let held = Claim::Held { owner: "a".into(), left: Duration::from_millis(500) };
        assert_eq!(claim(Some(&row("a", 7, 1_500)), "b", 1_000, SPAN), held);
        // Not even the same name: it may be an earlier life that still acts.
        assert_eq!(claim(Some(&row("a", 7, 1_500)), "a", 1_000, SPAN), held);
    }

    #[test]
    fn whoever_comes_after_has_a_higher_token() {
        for before in [row("a", 7, 1_000), row("", 7, 0), row("", 7, 99_000)] {
            assert_eq!(claim(Some(&before), "b", 1_000, SPAN), Claim::Taken(row("b", 8, 6_000)));
        }
    }

    #[test]
    fn what_is_left_is_of_the_holders_span_and_not_the_askers() {
        let long = claim(Some(&row("a", 7, 301_000)), "b", 1_000, SPAN);
        assert_eq!(long, Claim::Held { owner: "a".into(), left: Duration::from_secs(300) });
    }
}
