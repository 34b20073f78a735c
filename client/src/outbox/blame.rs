//! What a failed send means to the rows of its transaction: whose fault it is, and whether it passes. Pure.

use crate::{ClientError, ErrorCode, SendError};

/// Why rows were not published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Blame {
    /// The row itself can never be sent: it is set aside.
    Row(String),
    /// Its topic is missing: it waits, or the topic is created.
    Topic(String),
    /// Neither: the same may succeed later, or once an operator has acted.
    Cluster,
}

/// What it means that a row's record was not taken, or not written, for this reason.
pub(crate) fn blame(error: &SendError) -> Blame {
    match error {
        SendError::TooLarge { .. } => Blame::Row(error.to_string()),
        SendError::Client(ClientError::UnknownTopic { topic }) => Blame::Topic(topic.clone()),
        SendError::Client(ClientError::Argument(_)) => Blame::Row(error.to_string()),
        SendError::Rejected(refusal) => match refusal.code {
            ErrorCode::InvalidBatch | ErrorCode::KeyMissing | ErrorCode::InternalTopic | ErrorCode::TooLarge => {
                Blame::Row(error.to_string())
            }
            _ => Blame::Cluster,
        },
        _ => Blame::Cluster,
    }
}

/// How many rows go into the next transaction, where rows that were sent together were refused and nobody knows which of them is to blame: one at a time, until
/// all of them are through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Caution {
    alone: usize,
}

impl Caution {
    /// So many rows were refused together.
    pub(crate) const fn suspect(&mut self, rows: usize) {
        self.alone = rows;
    }

    /// How many of `rows` go together.
    pub(crate) const fn limit(self, rows: usize) -> usize {
        if self.alone > 0 && rows > 0 { 1 } else { rows }
    }

    /// So many went through, or were set aside.
    pub(crate) const fn passed(&mut self, rows: usize) {
        self.alone = self.alone.saturating_sub(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WireError;

    #[test]
    fn only_what_can_never_be_sent_is_set_aside() {
        let rejected = |code| SendError::Rejected(WireError::new(code, "as drawn"));
        for error in [SendError::TooLarge { bytes: 2, limit: 1 }, rejected(ErrorCode::InvalidBatch)] {
            assert!(matches!(blame(&error), Blame::Row(_)), "{error}");
        }
        let unknown = SendError::Client(ClientError::UnknownTopic { topic: "t".into() });
        assert_eq!(blame(&unknown), Blame::Topic("t".into()));
        for error in [
            rejected(ErrorCode::NotEnoughReplicas),
            rejected(ErrorCode::Overloaded),
            SendError::Undone,
            SendError::Closed,
        ] {
            assert_eq!(blame(&error), Blame::Cluster, "{error}");
        }
    }

    #[test]
    fn suspects_go_one_by_one_until_all_are_through() {
        let mut caution = Caution::default();
        assert_eq!(caution.limit(100), 100);
        caution.suspect(3);
        for _ in 0..3 {
            assert_eq!(caution.limit(100), 1);
            caution.passed(1);
        }
        assert_eq!((caution.limit(100), caution.limit(0)), (100, 0));
    }
}
