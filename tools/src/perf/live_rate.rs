//! The line on the terminal that shows how a run is going. On standard error, and only where that is a terminal: in a pipe it
//! is silent. Knows nothing of what is counted.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::Rate;
use super::summary::display_mb_per_second;
use crate::byte_size::display_count;

/// The line.
#[derive(Debug)]
pub struct LiveRate {
    bar: ProgressBar,
}

impl LiveRate {
    /// A line that counts up to `records`, headed by `what`.
    #[must_use]
    pub fn new(what: &'static str, records: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::stderr());
        #[expect(clippy::expect_used, reason = "constant template")]
        let style =
            ProgressStyle::with_template("{prefix} [{bar:30}] {percent}%  {msg}").expect("the template is valid");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what);
        Self { bar }
    }

    /// Shows how far it is and how fast it goes.
    pub fn show(&self, records: u64, rate: Rate) {
        self.bar.set_message(rate_text(rate));
        self.bar.set_position(records);
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line that counts records whose end is not known.
#[derive(Debug)]
pub struct LiveCount {
    bar: ProgressBar,
    start: Instant,
}

impl LiveCount {
    /// A line headed by `what`; hidden in a pipe whatever `visible` says.
    #[must_use]
    pub fn new(what: &'static str, visible: Visible) -> Self {
        let target = if visible == Visible::Yes { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        #[expect(clippy::expect_used, reason = "constant template")]
        bar.set_style(ProgressStyle::with_template("{prefix}  {msg}").expect("the template is valid"));
        bar.set_prefix(what);
        Self { bar, start: Instant::now() }
    }

    /// Shows the count so far and its mean rate.
    pub fn show(&self, records: u64) {
        if !self.bar.is_hidden() {
            let rate = records as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
            self.bar.set_message(format!(
                "{} records, {} records/s",
                display_count(records),
                display_count(rate as u64)
            ));
            self.bar.set_position(records);
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Whether a line is wanted at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visible {
    /// Where there is a terminal.
    Yes,
    /// Never.
    No,
}

/// How often the line is drawn anew and a sample taken.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(100);

fn rate_text(rate: Rate) -> String {
    let records = display_count(rate.records_per_second.round() as u64);
    format!("{records} records/s  {}", display_mb_per_second(rate.mb_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_reads_well() {
        let rate = Rate { at_seconds: 1.0, records_per_second: 1_234_567.4, mb_per_second: 12.34 };
        assert_eq!(rate_text(rate), "1,234,567 records/s  12.3 MB/s");
    }

    #[test]
    fn in_a_pipe_nothing_is_drawn() {
        // The test runner captures standard error, so it is no terminal here, or it is one and the line may be drawn.
        let line = LiveRate::new("sending", 10);
        if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            assert!(line.bar.is_hidden());
        }
        line.clear();
    }
}
