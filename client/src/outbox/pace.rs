//! When to look into the table again. Pure: knows neither clock nor database.
//!
//! A table that was full is looked into at once. One that was not, soon; and one in which nothing was found, ever later, up to a bound: so a
//! busy outbox costs few looks for each event, and an idle one next to nothing.

use std::time::Duration;

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// As many rows as were asked for: there are more.
    Full,
    /// Fewer.
    Some,
    /// None.
    Nothing,
}

/// The waits between looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Pace {
    /// Waits between these bounds.
    pub(crate) fn between(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), next: least }
    }

    /// How long to wait after a look that found this.
    pub(crate) fn after(&mut self, found: Found) -> Duration {
        match found {
            Found::Full => {
                self.next = self.least;
                Duration::ZERO
            }
            Found::Some => {
                self.next = self.least;
                self.least
            }
            Found::Nothing => {
                let wait = self.next;
                self.next = (self.next * 2).min(self.most);
                wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_idle_outbox_is_looked_into_ever_later_up_to_the_bound() {
        let mut pace = Pace::between(ms(2), ms(10));
        let waits: Vec<_> = (0..5).map(|_| pace.after(Found::Nothing)).collect();
        assert_eq!(waits, [ms(2), ms(4), ms(8), ms(10), ms(10)]);
        assert_eq!(pace.after(Found::Some), ms(2));
        assert_eq!(pace.after(Found::Nothing), ms(2));
        assert_eq!(pace.after(Found::Full), ms(0));
    }

    #[test]
    fn bounds_that_are_the_wrong_way_round_are_one() {
        let mut pace = Pace::between(ms(5), ms(1));
        assert_eq!([pace.after(Found::Nothing), pace.after(Found::Nothing)], [ms(5), ms(5)]);
    }
}
