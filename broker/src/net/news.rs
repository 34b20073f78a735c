//! What an operator hears of connections that go wrong. Clients cause it, as often as they like: of each kind one is told at once, and then one in a
//! while with how many were left untold, so that no client fills the log, and none hides what another does. Whoever wants every one gets them at
//! debug level. Knows nothing of how connections are served.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_log::Complaint;
use tidelog_protocol::frame::FrameError;
use tracing::{debug, info, warn};

use super::ended::Ended;

/// What ended it, without the particulars: there are only so many.
type Kind = (Discriminant<Ended>, Option<Discriminant<FrameError>>);

/// What has been told of the connections to one port.
#[derive(Debug, Default)]
pub(super) struct News {
    refused: Mutex<Complaint>,
    ended: Mutex<HashMap<Kind, Complaint>>,
}

impl News {
    /// There are as many connections as there may be.
    pub(super) fn refused(&self, peer: SocketAddr, reason: &str) {
        match self.refused.lock().again(Instant::now()) {
            Some(untold) => warn!(%peer, reason, untold, "connection refused"),
            None => debug!(%peer, reason, "connection refused"),
        }
    }

    /// It went away in the midst of something.
    pub(super) fn lost(&self, peer: SocketAddr, ended: &Ended) {
        match self.again(ended) {
            Some(untold) => info!(%peer, %ended, untold, "connection lost"),
            None => debug!(%peer, %ended, "connection lost"),
        }
    }

    /// The broker ended it.
    pub(super) fn cut_off(&self, peer: SocketAddr, ended: &Ended) {
        match self.again(ended) {
            Some(untold) => warn!(%peer, %ended, untold, "connection cut off"),
            None => debug!(%peer, %ended, "connection cut off"),
        }
    }

    fn again(&self, ended: &Ended) -> Option<u64> {
        let frame = if let Ended::Frame(error) = ended { Some(discriminant(error)) } else { None };
        self.ended.lock().entry((discriminant(ended), frame)).or_default().again(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_of_a_kind_is_told_and_hides_no_other_kind() {
        let news = News::default();
        let slow = |ms| Ended::SlowFrame(Duration::from_millis(ms));
        let found = |byte| Ended::Frame(FrameError::Magic { found: [byte; 4] });
        let large = Ended::Frame(FrameError::FrameTooLarge { bytes: 2, limit: 1 });
        let told = [slow(1), slow(2), found(1), found(2), large, Ended::WithinFrame].map(|ended| news.again(&ended));
        assert_eq!(told, [Some(0), None, Some(0), None, Some(0), Some(0)]);
    }
}
