//! Where a follower's log parts from its leader's: one step of the search for each answer (KIP-101, KIP-279). Knows nothing of
//! who asks and who answers.
//!
//! The follower names the newest epoch of its log; the leader answers with the largest epoch it knows up to that one and where it
//! ends there. Where the follower knows that epoch too, both logs are the same up to the earlier of its two ends. Where it does not,
//! it asks for the next older epoch of its own. The watermark plays no part: it lags behind on followers, and a log cut at it would
//! lose records that were acknowledged.

use tidelog_protocol::{LeaderEpoch, Offset};

use crate::epoch_history::{EpochEnd, EpochHistory};

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask where this older epoch ended.
    Ask(LeaderEpoch),
    /// The logs are the same below here.
    Common(Offset),
    /// They have nothing in common: begin anew where the leader's log begins.
    Nothing,
}

/// What an answer about `asked` means for a log with `history` that ends at `log_end`. `None` where the answer names an epoch above
/// the one asked for: it answers another question.
#[must_use]
pub fn step(history: &EpochHistory, log_end: Offset, asked: LeaderEpoch, answer: Option<EpochEnd>) -> Option<Step> {
    let Some(theirs) = answer else { return Some(Step::Nothing) };
    if theirs.epoch > asked {
        return None;
    }
    Some(match history.end_of(theirs.epoch, log_end) {
        // All of this log was written under epochs that the leader's does not hold.
        None => Step::Nothing,
        Some(ours) if ours.epoch == theirs.epoch => Step::Common(ours.end.min(theirs.end)),
        Some(ours) => Step::Ask(ours.epoch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(starts: &[(u32, u64)]) -> EpochHistory {
        EpochHistory::recovered(starts.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))))
    }

    /// The point that the whole search finds, and how many questions it took.
    fn search(ours: (&[(u32, u64)], u64), theirs: (&[(u32, u64)], u64)) -> (Step, usize) {
        let (mine, leaders) = (history(ours.0), history(theirs.0));
        let mut asked = mine.latest().unwrap();
        for questions in 1.. {
            let answer = leaders.end_of(asked, Offset(theirs.1));
            match step(&mine, Offset(ours.1), asked, answer).unwrap() {
                Step::Ask(older) => {
                    assert!(older < asked, "the search goes back");
                    asked = older;
                }
                found => return (found, questions),
            }
        }
        unreachable!()
    }

    #[test]
    fn the_shorter_log_of_the_same_epochs_is_a_prefix() {
        assert_eq!(search((&[(1, 0)], 5), (&[(1, 0)], 9)), (Step::Common(Offset(5)), 1));
        assert_eq!(search((&[(1, 0)], 9), (&[(1, 0)], 5)), (Step::Common(Offset(5)), 1));
    }

    #[test]
    fn an_unclean_pair_of_leaders_is_found_out_by_older_epochs() {
        // KIP-279: both logs went on alone after epoch 0, under epochs that the other never saw.
        let found = search((&[(0, 0), (1, 1), (3, 4)], 6), (&[(0, 0), (2, 1)], 8));
        assert_eq!(found, (Step::Common(Offset(1)), 2));
        let found = search((&[(0, 0), (2, 5), (4, 6)], 7), (&[(0, 0), (1, 3), (3, 4)], 9));
        assert_eq!(found, (Step::Common(Offset(3)), 3));
    }

    #[test]
    fn logs_without_a_common_epoch_have_nothing_in_common() {
        assert_eq!(search((&[(2, 0)], 5), (&[(1, 0)], 9)), (Step::Nothing, 1));
        assert_eq!(search((&[(1, 0)], 5), (&[(2, 30)], 50)), (Step::Nothing, 1), "retention ran ahead");
        assert_eq!(search((&[(1, 0)], 5), (&[], 0)), (Step::Nothing, 1));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let answer = Some(EpochEnd { epoch: LeaderEpoch(5), end: Offset(3) });
        assert_eq!(step(&history(&[(1, 0)]), Offset(5), LeaderEpoch(1), answer), None);
    }
}
