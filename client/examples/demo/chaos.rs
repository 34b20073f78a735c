//! Kills whom chance chooses, again and again, in an order that follows from a seed. Knows nothing of what anybody does.

use std::time::{Duration, Instant};

use super::Failure;
use super::cast::Actor;
use super::cluster::Cluster;
use super::timeline::Timeline;

/// What kills.
pub struct Chaos {
    is_on: bool,
    chance: fastrand::Rng,
    next: Instant,
    kills: usize,
}

impl Chaos {
    /// Begins in a second; never, where it is not on.
    pub fn new(seed: u64, is_on: bool) -> Self {
        let next = Instant::now() + Duration::from_secs(1);
        Self { is_on, chance: fastrand::Rng::with_seed(seed), next, kills: 0 }
    }

    /// Waits for a second, or until somebody is to be killed, and kills somebody then: a process of the demo or, where the brokers are its own, a broker.
    /// An error where a process has ended by itself.
    pub async fn moment(
        &mut self,
        cast: &mut [Actor],
        cluster: Option<&Cluster>,
        timeline: &mut Timeline,
    ) -> Result<(), Failure> {
        tokio::time::sleep_until((Instant::now() + Duration::from_secs(1)).min(self.next).into()).await;
        if Instant::now() >= self.next {
            self.next = Instant::now() + Duration::from_millis(self.chance.u64(300..1_500));
            let (victim, broker) = (self.chance.usize(..cast.len() + 1), self.chance.u32(1..=3));
            match (cast.get_mut(victim), cluster) {
                _ if !self.is_on => {}
                (Some(actor), _) => {
                    actor.restart()?;
                    timeline.happened(format!("{} killed", actor.name));
                    self.kills += 1;
                }
                (None, Some(cluster)) if cluster.kill(broker)? => {
                    timeline.happened(format!("broker {broker} killed"));
                    self.kills += 1;
                    // Two of three must be there for anything to go on: no other is killed before it is back.
                    self.next += Duration::from_secs(3);
                }
                (None, _) => {}
            }
        }
        cast.iter_mut().try_for_each(Actor::check)
    }

    /// How many were killed, as the last line of a demo says it.
    pub fn said(&self) -> String {
        if self.is_on { format!("\n{} kills.", self.kills) } else { String::new() }
    }
}
