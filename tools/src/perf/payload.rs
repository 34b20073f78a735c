//! The records that are sent: prebuilt, with the intended send time in their first eight bytes, so that a consumer on the same
//! machine (or one with the same clock) can tell the end-to-end latency. Knows nothing of producers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of the send time in front of every record.
pub const STAMP_BYTES: usize = 8;

/// Compressed runs draw on this many bytes of text, so that no codec finds a whole record again within its window.
const TEXT_BYTES: usize = 1 << 20;

/// What the bytes of a record are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Content {
    /// Random bytes, the same in every record.
    #[default]
    Random,
    /// Lines like those of a log, different in every record: what compression is measured with.
    Text,
}

/// Builds the records of one worker in place: no allocation and no copy per record.
#[derive(Clone, Debug)]
pub struct Payload {
    pool: Vec<u8>,
    record_bytes: usize,
    at: usize,
}

impl Payload {
    /// Records of `record_bytes`; the same `seed` gives the same bytes.
    ///
    /// # Panics
    /// Below [`STAMP_BYTES`]; the command line refuses that before.
    #[must_use]
    pub fn new(record_bytes: usize, content: Content, seed: u64) -> Self {
        assert!(record_bytes >= STAMP_BYTES, "a record must hold its send time");
        let mut random = fastrand::Rng::with_seed(seed);
        let pool = match content {
            Content::Random => {
                let mut bytes = vec![0; record_bytes];
                random.fill(&mut bytes);
                bytes
            }
            Content::Text => text(TEXT_BYTES.max(record_bytes), &mut random),
        };
        Self { pool, record_bytes, at: 0 }
    }

    /// Bytes of each record.
    #[must_use]
    pub const fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// The next record, due at `due`.
    pub fn next(&mut self, due: SendTime) -> &[u8] {
        if self.at + self.record_bytes > self.pool.len() {
            self.at = 0;
        }
        let record = &mut self.pool[self.at..self.at + self.record_bytes];
        self.at += self.record_bytes;
        record[..STAMP_BYTES].copy_from_slice(&due.0.to_le_bytes());
        record
    }
}

fn text(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "INFO",
        "WARN",
        "request",
        "partition",
        "leader",
        "completed",
        "in",
        "ms",
        "from",
        "client",
        "offset",
        "state",
        "changed",
        "to",
        "retry",
        "session",
    ];
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        if random.u8(..8) == 0 {
            text.push_str(&random.u32(..).to_string());
        } else {
            text.push_str(WORDS[random.usize(..WORDS.len())]);
        }
        text.push(if random.u8(..16) == 0 { '\n' } else { ' ' });
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// When a record was due to be sent: nanoseconds since 1970 on this machine's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SendTime(pub u64);

impl SendTime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64)
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, more: Duration) -> Self {
        Self(self.0 + more.as_nanos() as u64)
    }

    /// The time a record carries; none where it is too short, or where the value cannot be one (over a day old, or over a
    /// second ahead of `now`): such a record was not written by `perf-producer`.
    #[must_use]
    pub fn of_record(record: &[u8], now: Self) -> Option<Self> {
        let stamp = record.first_chunk::<STAMP_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))?;
        let plausible = now.0.saturating_sub(86_400_000_000_000)..now.0 + 1_000_000_000;
        plausible.contains(&stamp).then_some(Self(stamp))
    }

    /// How long ago it was at `now`; zero for a time ahead.
    #[must_use]
    pub fn age_at(self, now: Self) -> Duration {
        Duration::from_nanos(now.0.saturating_sub(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_carries_its_send_time() {
        let now = SendTime::now();
        let mut payload = Payload::new(100, Content::Random, 7);
        let record = payload.next(now);
        assert_eq!(record.len(), 100);
        assert_eq!(SendTime::of_record(record, now.plus(Duration::from_millis(3))), Some(now));
        assert_eq!(now.age_at(now.plus(Duration::from_millis(3))), Duration::from_millis(3));
    }

    #[test]
    fn foreign_records_have_no_send_time() {
        let now = SendTime::now();
        assert_eq!(SendTime::of_record(b"short", now), None);
        assert_eq!(SendTime::of_record(b"a log line of somebody", now), None);
        assert_eq!(SendTime::of_record(&[0; 16], now), None);
    }

    #[test]
    fn the_rest_of_a_record_is_fixed() {
        let mut payload = Payload::new(64, Content::Random, 7);
        let first = payload.next(SendTime(1)).to_vec();
        let second = payload.next(SendTime(2)).to_vec();
        assert_eq!(first[STAMP_BYTES..], second[STAMP_BYTES..]);
        assert_eq!(first, Payload::new(64, Content::Random, 7).next(SendTime(1)));
    }

    #[test]
    fn text_records_differ_and_wrap_around() {
        let mut payload = Payload::new(1000, Content::Text, 7);
        let first = payload.next(SendTime(1)).to_vec();
        assert_ne!(first, payload.next(SendTime(1)));
        for _ in 0..3000 {
            assert_eq!(payload.next(SendTime(1)).len(), 1000);
        }
        assert_eq!(Payload::new(3 << 20, Content::Text, 7).next(SendTime(1)).len(), 3 << 20);
    }
}
