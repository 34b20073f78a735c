//! A dial under way: since when, and the way to end it from outside. A broker that hangs takes connections all the same, and answers no
//! greeting. Knows nothing of why it is given up.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::ClientError;
use crate::address::Address;

/// A greeting is answered at once, as a ping is.
const OVERDUE: Duration = Duration::from_millis(500);

/// A dial; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) address: Address,
    pub(super) began: Instant,
    given_up: CancellationToken,
}

impl Dial {
    /// Begins now.
    pub(super) fn begin(address: &Address) -> Self {
        Self { address: address.clone(), began: Instant::now(), given_up: CancellationToken::new() }
    }

    /// True where a broker that is there would have answered.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= OVERDUE
    }

    /// Ends it: whoever waits for it goes on elsewhere.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// What `connect` gives, unless it is given up before.
    pub(super) async fn unless_given_up<T>(
        &self,
        connect: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        self.given_up.run_until_cancelled(connect).await.unwrap_or_else(|| {
            let reason = "it does not answer, and others lead what it led".into();
            Err(ClientError::Unreachable { address: self.address.clone(), reason })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dial_ends_with_its_answer_or_as_it_is_given_up() {
        let dial = Dial::begin(&"broker:1".parse().unwrap());
        assert!(!dial.is_silent(dial.began + Duration::from_millis(499)));
        assert!(dial.is_silent(dial.began + Duration::from_millis(500)));
        assert_eq!(dial.unless_given_up(async { Ok(7) }).await, Ok(7));
        dial.clone().give_up();
        let given_up = dial.unless_given_up::<()>(std::future::pending()).await.unwrap_err();
        assert!(matches!(given_up, ClientError::Unreachable { .. }) && given_up.is_retriable(), "{given_up:?}");
    }
}
