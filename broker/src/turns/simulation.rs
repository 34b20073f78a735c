//! Those who waste their turns and come back, and those who use theirs, in many random lives: how many wasted turns somebody waits for.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Ranks, Source, Turn, Turns};

/// Of everything: what there is at the default memory budget, in MiB.
const SIZE: usize = 64;

fn address(number: u32) -> Source {
    IpAddr::from(Ipv4Addr::from(number)).into()
}

/// Repeats a run where it is set.
fn seeded() -> fastrand::Rng {
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// One that waits, or has its turn.
struct Client {
    waiting: Pin<Box<dyn Future<Output = Turn>>>,
    turn: Option<Turn>,
    is_wasteful: bool,
}

/// Those that are there at a time.
struct Crowd {
    turns: Turns,
    ranks: Ranks,
    clients: Vec<Client>,
}

impl Crowd {
    fn new() -> Self {
        Self { turns: Turns::of(SIZE), ranks: Ranks::default(), clients: Vec::new() }
    }

    fn come(&mut self, source: Source, needs: usize, is_wasteful: bool) {
        let waiting = Box::pin(self.turns.take(self.ranks.next(false).from(source), needs));
        self.clients.push(Client { waiting, turn: None, is_wasteful });
    }

    /// Whoever was told of a turn has it. So many were wasteful, and so many not.
    fn begin(&mut self) -> (usize, usize) {
        let mut begun = (0, 0);
        for client in self.clients.iter_mut().filter(|client| client.turn.is_none()) {
            if let Poll::Ready(turn) = client.waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                client.turn = Some(turn);
                if client.is_wasteful { begun.0 += 1 } else { begun.1 += 1 }
            }
        }
        begun
    }

    /// One of those that have a turn ends it; true where it was wasted.
    fn end_one(&mut self, random: &mut fastrand::Rng) -> bool {
        let have: Vec<_> = (0..self.clients.len()).filter(|index| self.clients[*index].turn.is_some()).collect();
        let mut client = self.clients.swap_remove(have[random.usize(..have.len())]);
        if !client.is_wasteful
            && let Some(turn) = &mut client.turn
        {
            turn.note_used();
        }
        client.is_wasteful
    }
}

/// For how many wasted turns that began behind it each of those waits that come alone among so many that waste theirs and come back at once.
fn waits(
    random: &mut fastrand::Rng,
    count: usize,
    wasteful: &[(Source, usize)],
    honest: (Source, usize),
) -> Vec<usize> {
    let mut crowd = Crowd::new();
    let come_wasteful = |crowd: &mut Crowd, random: &mut fastrand::Rng| {
        let (source, needs) = wasteful[random.usize(..wasteful.len())];
        crowd.come(source, needs, true);
    };
    (0..count).for_each(|_| come_wasteful(&mut crowd, random));
    let (mut wasted, mut waits) = (None, Vec::new());
    let mut note_begun = |crowd: &mut Crowd, wasted: &mut Option<usize>| {
        let (begun_wasteful, begun_honest) = crowd.begin();
        *wasted = wasted.map(|wasted| wasted + begun_wasteful);
        if begun_honest > 0 {
            waits.extend(wasted.take());
        }
    };
    note_begun(&mut crowd, &mut wasted);
    for _ in 0..40 * count {
        if wasted.is_none() && random.u8(..4) == 0 {
            crowd.come(honest.0, honest.1, false);
            wasted = Some(0);
            note_begun(&mut crowd, &mut wasted);
        }
        let was_wasted = crowd.end_one(random);
        note_begun(&mut crowd, &mut wasted);
        // It is the last of all again.
        if was_wasted {
            come_wasteful(&mut crowd, random);
            note_begun(&mut crowd, &mut wasted);
        }
    }
    waits
}

#[test]
fn who_comes_alone_waits_for_few_of_those_who_waste_their_turns_and_come_back() {
    let mut random = seeded();
    for count in [10, 60] {
        for (wasteful, honest, at_a_time) in [
            // Larger, smaller, or from elsewhere.
            (&[(address(1), 60)][..], (address(1), 10), 1),
            (&[(address(1), 10)][..], (address(1), 30), 6),
            (&[(address(1), 20)][..], (address(2), 20), 3),
            (&[(address(1), 60), (address(1), 20), (address(1), 5), (address(2), 20)][..], (address(3), 10), 12),
        ] {
            let waits = waits(&mut random, count, wasteful, honest);
            let most = waits.iter().max().copied().unwrap_or_default();
            println!("{count} wasteful {wasteful:?}: {} times, most {most}", waits.len());
            assert!(waits.len() > 2 * count, "somebody waited for ever");
            // It needs room beside those that have a turn, and may be behind one that came first.
            assert!(most <= 2 * at_a_time + 2, "behind {most} wasted turns");
        }
    }
}

#[test]
fn who_is_not_told_from_those_who_waste_their_turns_waits_for_each_of_them_twice_at_most() {
    let mut random = seeded();
    for count in [10, 60] {
        let waits = waits(&mut random, count, &[(address(1), 60)], (address(1), 60));
        let most = waits.iter().max().copied().unwrap_or_default();
        println!("{count} wasteful: {} times, most {most}", waits.len());
        assert!(!waits.is_empty() && most <= 2 * (count + 1), "behind {most} wasted turns");
    }
}
