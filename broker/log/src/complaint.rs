//! How often something that fails again and again is told: what fails at every append or every look would fill the log of a broker that is
//! short of something, and hide the rest. Knows neither what failed nor who listens.

use std::time::{Duration, Instant};

/// One thing that may fail again and again.
#[derive(Debug, Default)]
pub struct Complaint {
    told_at: Option<Instant>,
    untold: u64,
}

impl Complaint {
    /// It is told no more often than this.
    pub const PAUSE: Duration = Duration::from_secs(10);

    /// It failed: how many failures were left untold since the last, where this one shall be told.
    pub fn again(&mut self, now: Instant) -> Option<u64> {
        if self.told_at.is_some_and(|told_at| now.saturating_duration_since(told_at) < Self::PAUSE) {
            self.untold += 1;
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_one_in_a_while_with_the_number_of_the_others() {
        let mut complaint = Complaint::default();
        let start = Instant::now();
        let told: Vec<_> = (0..25_000).filter_map(|ms| complaint.again(start + Duration::from_millis(ms))).collect();
        assert_eq!(told, [0, 9_999, 9_999]);
        assert_eq!(complaint.again(start + Duration::from_secs(3_600)), Some(4_999));
    }
}
