//! A network that drops, delays, reorders, duplicates and is cut. Knows nothing of what it carries.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::message::Place;

/// How bad the weather is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Out of a thousand messages, so many vanish.
    pub dropped: u32,
    /// Out of a thousand messages, so many arrive twice.
    pub doubled: u32,
    /// The usual delay in milliseconds: this one up to twice as long.
    pub delay_ms: u64,
    /// Out of a thousand messages, so many are late by up to [`Self::late_ms`] more, and so overtaken.
    pub late: u32,
    /// How late.
    pub late_ms: u64,
}

impl Weather {
    /// Every message arrives after a millisecond, in order.
    pub const CALM: Self = Self { dropped: 0, doubled: 0, delay_ms: 1, late: 0, late_ms: 0 };
}

/// The network.
#[derive(Clone, Debug)]
pub struct Network {
    /// How bad it is now.
    pub weather: Weather,
    cut: BTreeSet<(Place, Place)>,
    held: BTreeSet<(Place, Place)>,
}

impl Network {
    /// With nothing cut.
    #[must_use]
    pub const fn new(weather: Weather) -> Self {
        Self { weather, cut: BTreeSet::new(), held: BTreeSet::new() }
    }

    /// Nothing gets from `from` to `to` any more. The other direction is another matter.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// What is sent from `from` to `to` from here on is kept back, until the world releases it.
    pub fn hold(&mut self, from: Place, to: Place) {
        self.held.insert((from, to));
    }

    /// What is sent from here on passes again; what was kept back stays so.
    pub fn let_pass(&mut self, from: Place, to: Place) {
        self.held.remove(&(from, to));
    }

    /// Is what is sent kept back?
    #[must_use]
    pub fn is_held(&self, from: Place, to: Place) -> bool {
        self.held.contains(&(from, to))
    }

    /// All lines are whole again, and nothing is kept back any more.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.held.clear();
    }

    /// Is the line cut?
    #[must_use]
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut.contains(&(from, to))
    }

    /// After how many milliseconds a message arrives: once, twice or never.
    pub fn journey(&self, from: Place, to: Place, rng: &mut Rng) -> (Option<u64>, Option<u64>) {
        let Weather { dropped, doubled, .. } = self.weather;
        if self.is_cut(from, to) || (dropped > 0 && rng.u32(..1_000) < dropped) {
            return (None, None);
        }
        let again = doubled > 0 && rng.u32(..1_000) < doubled;
        (Some(self.delay(rng)), again.then(|| self.delay(rng)))
    }

    fn delay(&self, rng: &mut Rng) -> u64 {
        let Weather { delay_ms, late, late_ms, .. } = self.weather;
        let usual = if delay_ms > 1 { rng.u64(delay_ms..=2 * delay_ms) } else { delay_ms };
        let is_late = late > 0 && rng.u32(..1_000) < late;
        usual + if is_late { rng.u64(0..=late_ms) } else { 0 }
    }
}
