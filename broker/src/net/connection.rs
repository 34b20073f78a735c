//! One connection: one task that reads frames, hands them to `api`, and writes what is in the outbox. Reading stops while the
//! client leaves its answers lying, has too much unanswered, or while the memory budget is used up; so a slow client slows
//! only itself. Knows nothing of what a request means.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::frame::FrameLimits;
use tidelog_protocol::messages::GoAwayPush;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::arrival::{Arrival, Standing};
use super::ended::Ended;
use super::frame_writer::FrameWriter;
use super::in_frame::{Content, InFrame};
use super::opening::{self, Begun, Opening};
use super::pace;
use super::receive_buffer::{ReceiveBuffer, Room};
use super::waiting::{Grant, Waiting, granted};
use crate::api;
use crate::budget::{Lent, Pool};
use crate::gait::Gait;
use crate::kafka;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::session::Session;

/// A connection gives its thread to the others after this much.
const YIELD_BYTES: usize = 256 << 10;

/// Requests up to this size are not charged: a connection may have `requests_in_flight_max` of them.
const SMALL_BYTES: usize = 512;

/// The largest frame of another broker: the largest entry of the metadata log, and room around it.
const PEER_FRAME_BYTES: u32 = 64 << 20;

/// Serves one connection until it ends, maybe one of which the beginning was read.
pub(super) async fn serve(
    node: Arc<Node>,
    mut socket: TcpStream,
    (peer, local): (SocketAddr, SocketAddr),
    begun: Option<Begun>,
) -> Ended {
    let (opening, first) = match begun {
        Some(begun) => (Opening::Native(begun.version), begun.frame),
        None => match opening::read_in_time(&mut socket, &node).await {
            Ok(opening) => (opening, Bytes::new()),
            Err(ended) => return ended,
        },
    };
    let closed = node.connections_close.child_token();
    let version = match opening {
        Opening::Native(version) => version,
        Opening::Kafka(_) => ProtocolVersion::CURRENT,
    };
    let session = Session::new(peer, local, version, closed.clone(), node.metrics.requests_under_way.clone());
    let _end_streams = closed.drop_guard();
    let (buffer, kafka) = match opening {
        Opening::Native(_) => (ReceiveBuffer::begun(FrameLimits::HANDSHAKE, &first), None),
        Opening::Kafka(first) => {
            // Its clients say who they are in every request, or not at all.
            session.introduced.store(true, Ordering::Relaxed);
            let buffer = ReceiveBuffer::of_kafka(client_limits(node.config.frame_bytes_max), &first);
            (buffer, Some(kafka::Client::new(session.clone())))
        }
    };
    let mut connection = Connection {
        node,
        socket,
        session,
        kafka,
        buffer,
        writer: FrameWriter::default(),
        postponed: None,
        waiting: None,
        peer_closed: false,
        opened_at: Instant::now(),
        read_at: Instant::now(),
        arrival: Arrival::new(Instant::now()),
        next_look: Instant::now(),
        bytes_since_yield: 0,
        write_blocked_at: None,
        told_to_go: false,
    };
    let ended = connection.run().await;
    connection.say_goodbye(&ended).await;
    ended
}

/// What a client may send that is no broker.
fn client_limits(frame_bytes: u32) -> FrameLimits {
    FrameLimits { frame_bytes, body_bytes: FrameLimits::DEFAULT.body_bytes.min(frame_bytes) }
}

struct Connection {
    node: Arc<Node>,
    socket: TcpStream,
    session: Arc<Session>,
    /// What it has asked, where it speaks Kafka's protocol.
    kafka: Option<Arc<kafka::Client>>,
    buffer: ReceiveBuffer,
    writer: FrameWriter,
    /// A whole frame that waits for memory to be worked on.
    postponed: Option<InFrame>,
    /// The wait for that memory, or for memory to read more into; what it is for is seen from `postponed`.
    waiting: Option<Waiting>,
    /// The client was seen to have closed its side, with the rest of a frame in the socket.
    peer_closed: bool,
    opened_at: Instant,
    read_at: Instant,
    arrival: Arrival,
    /// When the frame that arrives is judged next, where it holds what others may wait for.
    next_look: Instant,
    bytes_since_yield: usize,
    write_blocked_at: Option<Instant>,
    told_to_go: bool,
}

impl Connection {
    async fn run(&mut self) -> Ended {
        let mut tick = tokio::time::interval(self.tick());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // A socket that always has bytes, or takes them, must not keep the thread from the others, nor hide that the broker drains.
            // Counted in bytes: reads differ a hundredfold in the work that they bring.
            if self.bytes_since_yield >= YIELD_BYTES {
                self.bytes_since_yield = 0;
                tokio::task::yield_now().await;
            }
            tokio::task::consume_budget().await;
            if !self.told_to_go && self.node.draining.is_cancelled() {
                self.tell_to_go();
            }
            if let Err(ended) = self.work_on_frames() {
                return ended;
            }
            let all_out = match self.write() {
                Ok(all_out) => all_out,
                Err(error) => return self.broken(error),
            };
            if self.told_to_go && all_out && self.postponed.is_none() && self.session.unanswered() == 0 {
                return Ended::Shutdown;
            }
            let reading = self.may_read() && self.waiting.is_none();
            let room = if reading { self.buffer.make_room(&self.node.budget.arriving) } else { Room::Ready };
            self.arrival.note_reading(reading, || unread(&self.socket));
            let mut next = [0];
            tokio::select! {
                biased;
                () = self.session.closed.cancelled() => return self.closed_from_here(),
                _ = tick.tick() => {
                    if let Err(ended) = self.check_times() {
                        return ended;
                    }
                }
                () = tokio::time::sleep_until(self.next_look.into()), if self.buffer.holds_lent() || self.waits_for_room() => {
                    if let Err(ended) = self.check_pace() {
                        return ended;
                    }
                    self.check_claim();
                    self.next_look = Instant::now() + self.arrival.look_every(self.standing());
                }
                ready = self.socket.readable(), if reading && room == Room::Ready => {
                    let read = ready.and_then(|()| self.socket.try_read_buf(&mut self.buffer.space()));
                    if let Err(ended) = self.note_read(read) {
                        return ended;
                    }
                }
                // Who has sent nothing more waits for no memory, and is judged by its pace meanwhile.
                peeked = self.socket.peek(&mut next), if reading && room != Room::Ready => match (peeked, room) {
                    (Ok(1..), Room::Lend(bytes)) => self.wait_for_room(bytes),
                    (peeked, _) => {
                        if let Err(ended) = self.note_read(peeked) {
                            return ended;
                        }
                    }
                },
                ready = self.socket.writable(), if !all_out => {
                    if let Err(error) = ready {
                        return self.broken(error);
                    }
                }
                () = self.session.outbox.filled() => {}
                grant = granted(&mut self.waiting), if self.waiting.is_some() => self.note_granted(grant),
                // What waits to be read must not hide that nothing follows it.
                _ = self.socket.ready(Interest::PRIORITY), if self.waits_for_room() && !self.peer_closed => {
                    self.peer_closed = true;
                    if unread(&self.socket) < self.buffer.missing() as u64 {
                        return Ended::WithinFrame;
                    }
                }
                // Told at the top of the loop.
                () = self.node.draining.cancelled(), if !self.told_to_go => {}
            }
        }
    }

    fn closed_from_here(&self) -> Ended {
        let reason = self.kafka.as_ref().and_then(|client| client.ending());
        reason.map_or(Ended::Shutdown, |reason| Ended::Request(reason.into()))
    }

    fn wait_for_room(&mut self, bytes: usize) {
        let unread = unread(&self.socket);
        let gait = self.arrival.gait(self.buffer.frame_bytes(), self.buffer.missing(), unread);
        let comes = (gait, self.arrival.rate(unread));
        let lent = self.buffer.lend(&self.node.budget.arriving, bytes, comes, self.session.peer.ip().into());
        self.waiting =
            Some(Waiting::new(Some(bytes), async move { lent.await.map(|growth| Grant::Room(growth, bytes)) }));
    }

    /// A frame of which little was known when it asked waits for none that is still coming once the rest of it is here.
    fn check_claim(&mut self) {
        if let Some(Waiting { room: Some(bytes), since, .. }) = self.waiting
            && self.buffer.asked_as_less_than(Gait::Here)
            && unread(&self.socket) >= self.buffer.missing() as u64
        {
            self.wait_for_room(bytes);
            if let Some(waiting) = &mut self.waiting {
                waiting.since = since;
            }
        }
    }

    fn may_read(&self) -> bool {
        // What arrives after the broker said that it goes is left unread: the client sends it again elsewhere.
        !self.told_to_go
            && self.postponed.is_none()
            && self.session.unanswered() < self.node.config.requests_in_flight_max as usize
            && self.session.outbox.queued_bytes() < Outbox::READ_ROOM_BYTES
            && self.kafka.as_ref().is_none_or(|client| client.may_ask(Outbox::READ_ROOM_BYTES))
    }

    /// Hands whole frames over as long as there is room for their answers and memory for their work.
    fn work_on_frames(&mut self) -> Result<(), Ended> {
        while self.waiting.is_none() && self.may_read() {
            match self.buffer.next_frame()? {
                Some(frame) => self.admit(frame)?,
                None => break,
            }
        }
        match self.buffer.bytes_within_frame() {
            0 => drop(self.arrival.note_whole(None)),
            bytes => self.arrival.note_within(bytes),
        }
        Ok(())
    }

    fn admit(&mut self, mut frame: InFrame) -> Result<(), Ended> {
        frame.worth = self.arrival.note_whole(frame.completed());
        if let Some(worth) = frame.worth.as_ref().filter(|_| self.session.member().is_ok()) {
            worth.note();
        }
        let bytes = frame.content.bytes();
        if bytes <= SMALL_BYTES {
            return self.hand_over(frame, None);
        }
        let budget = &self.node.budget;
        // What other brokers need is bounded by what they are, and keeps no client waiting who brings no batches.
        let is_among_batches = frame.content.is_produce() || self.session.member().is_ok();
        let pool = if is_among_batches { &budget.batches } else { &budget.requests };
        match pool.try_lend(bytes) {
            Some(lent) => self.hand_over(frame, Some(lent)),
            None => {
                let lent = pool.lend(bytes);
                self.waiting = Some(Waiting::new(None, async move { lent.await.map(Grant::Work) }));
                self.postponed = Some(frame);
                Ok(())
            }
        }
    }

    fn hand_over(&mut self, frame: InFrame, lent: Option<Lent>) -> Result<(), Ended> {
        // Nothing is read before a frame that is here is handed over: the last read is the one that made it whole, however long
        // it has waited since.
        let arrived = self.read_at;
        let lent = lent.map(|lent| lent.held_by(&self.session.holder).of_worth(frame.worth));
        let (header, body, payload) = match (frame.content, &self.kafka) {
            (Content::Native { header, body, payload }, _) => (header, body, payload),
            (Content::Kafka(bytes), Some(client)) => {
                let input = kafka::Input { bytes, arrived, lent };
                return kafka::dispatch(&self.node, client, input).map_err(Ended::Request);
            }
            (Content::Kafka(_), None) => return Err(Ended::WithinFrame),
        };
        let input = api::Input { header, body, payload, arrived, lent };
        api::dispatch(&self.node, &self.session, input).map_err(Ended::Request)?;
        if self.session.introduced.load(Ordering::Relaxed) {
            let client = self.node.config.frame_bytes_max;
            // What brokers send each other must fit, however little clients may send.
            let frame_bytes = if self.session.member().is_ok() { client.max(PEER_FRAME_BYTES) } else { client };
            self.buffer.set_limits(client_limits(frame_bytes));
        }
        Ok(())
    }

    fn note_granted(&mut self, grant: Option<Grant>) {
        self.waiting = None;
        match grant {
            Some(Grant::Work(lent)) => {
                // A frame that cannot be handed over ends the connection at its next step, through the cancelled session.
                let handed = self.postponed.take().map(|frame| self.hand_over(frame, Some(lent)));
                match (handed, &self.kafka) {
                    (Some(Err(Ended::Request(reason))), Some(client)) => client.end(reason),
                    (Some(Err(_)), _) => self.session.closed.cancel(),
                    _ => {}
                }
            }
            Some(Grant::Room(growth, bytes)) => {
                self.buffer.grow(growth, bytes);
                self.next_look = Instant::now() + self.arrival.look_every(self.standing());
            }
            None => {}
        }
    }

    fn waits_for_room(&self) -> bool {
        self.waiting.is_some() && self.postponed.is_none()
    }

    /// Half a frame whose client falls silent, or never was fast, holds nothing that others wait for.
    fn check_pace(&mut self) -> Result<(), Ended> {
        if !self.buffer.holds_lent() {
            return Ok(());
        }
        let share = self.buffer.share(&self.node.budget.arriving);
        // One of those who wait may be this one.
        if share.parts().waiting() <= usize::from(self.waits_for_room()) {
            return Ok(());
        }
        let standing = self.standing();
        // Nobody waits for what it holds.
        if standing == Standing::CompletedQuickly(0) {
            return Ok(());
        }
        let frame_bytes = self.buffer.frame_bytes();
        let slow =
            self.arrival.too_slow(standing, frame_bytes, share.parts().fastest_waiting(), || unread(&self.socket));
        slow.map_or(Ok(()), |slow| Err(Ended::GivenUp(slow)))
    }

    /// What the frame that arrives is to the others.
    fn standing(&self) -> Standing {
        let share = self.buffer.share(&self.node.budget.arriving);
        match self.buffer.completion() {
            None => Standing::OneOfMany,
            Some(leave) if leave.is_quick() => Standing::CompletedQuickly(share.quick_rounds_waiting()),
            Some(_) => Standing::Completed(share.rounds_waiting()),
        }
    }

    fn note_read(&mut self, read: io::Result<usize>) -> Result<(), Ended> {
        match read {
            Ok(0) if self.buffer.is_within_frame() => Err(Ended::WithinFrame),
            Ok(0) => Err(Ended::ByClient),
            Ok(count) => {
                self.read_at = Instant::now();
                self.bytes_since_yield += count;
                self.arrival.note_read(count, self.read_at, || unread(&self.socket));
                self.node.metrics.bytes_received.inc_by(count as u64);
                self.buffer.note_read(&self.node.budget.arriving);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Writes what the socket takes; true where everything is out.
    fn write(&mut self) -> io::Result<bool> {
        let (count, all_out) = self.writer.flush(&self.socket, &self.session.outbox)?;
        if count > 0 {
            self.node.metrics.bytes_sent.inc_by(count as u64);
        }
        if all_out {
            self.write_blocked_at = None;
        } else if count > 0 || self.write_blocked_at.is_none() {
            self.write_blocked_at = Some(Instant::now());
        }
        Ok(all_out)
    }

    /// A client that closes with bytes unread, such as items of a stream, resets the connection: nothing is lost by that.
    fn broken(&self, error: io::Error) -> Ended {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let is_end = matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted);
        let waits = self.buffer.is_within_frame() || self.postponed.is_some() || self.session.unanswered() > 0;
        if is_end && !waits { Ended::ByReset } else { Ended::Socket(error) }
    }

    /// How often times are checked: often enough for the shortest limit, seldom enough for ten thousand quiet connections.
    fn tick(&self) -> Duration {
        let config = &self.node.config;
        let limits =
            [config.handshake_timeout_ms, config.frame_timeout_ms, config.write_timeout_ms, config.idle_timeout_ms];
        Duration::from_millis((limits.into_iter().min().unwrap_or(1_000) / 4).clamp(5, 10_000))
    }

    fn check_times(&mut self) -> Result<(), Ended> {
        let config = &self.node.config;
        let now = Instant::now();
        let past = |since: Instant, limit_ms: u64| {
            let limit = Duration::from_millis(limit_ms);
            (now.saturating_duration_since(since) >= limit).then_some(limit)
        };
        if !self.session.introduced.load(Ordering::Relaxed)
            && let Some(limit) = past(self.opened_at, config.handshake_timeout_ms)
        {
            return Err(Ended::Handshake(limit));
        }
        let frame_limit = Duration::from_millis(config.frame_timeout_ms);
        if self.arrival.takes_longer_than(frame_limit, now) {
            return Err(Ended::SlowFrame(frame_limit));
        }
        // Half a frame that waits for memory holds memory.
        if let Some(waiting) = self.waiting.as_ref().filter(|_| self.postponed.is_none())
            && let Some(limit) = past(waiting.since, config.frame_timeout_ms)
        {
            return Err(Ended::NoMemory(limit));
        }
        if let Some(limit) = self.write_blocked_at.and_then(|at| past(at, config.write_timeout_ms)) {
            return Err(Ended::SlowReader(limit));
        }
        self.check_requests(now)?;
        if let Some(limit) = past(self.read_at, config.idle_timeout_ms)
            && self.session.streams.is_empty()
            && self.session.unanswered() == 0
            && self.postponed.is_none()
        {
            return Err(Ended::Idle(limit));
        }
        if past(self.read_at, self.tick().as_millis() as u64 / 2).is_some() {
            self.buffer.shrink();
        }
        Ok(())
    }

    /// As long as its answers lie there, or the first of its requests waits for something to happen, those behind are not worked on and keep
    /// what they hold.
    fn check_requests(&self, now: Instant) -> Result<(), Ended> {
        let is_long = |waited: Option<Duration>| waited.filter(|waited| *waited >= pace::WINDOW);
        let waits = |pool: &Pool| is_long(pool.longest_wait()).is_some();
        let (for_batches, for_others) = (waits(&self.node.budget.batches), waits(&self.node.budget.requests));
        if !(for_batches || for_others) || !self.session.holder.holds_any() {
            return Ok(());
        }
        if is_long(self.write_blocked_at.map(|at| now.saturating_duration_since(at))).is_some() {
            return Err(Ended::Jammed(pace::WINDOW));
        }
        is_long(self.session.parked_for()).map_or(Ok(()), |waited| Err(Ended::Parked(waited)))
    }

    fn tell_to_go(&mut self) {
        self.told_to_go = true;
        if self.kafka.is_some() {
            // Its clients notice that the connection closes, and look for another broker.
            return;
        }
        let closes_in_ms = u32::try_from(self.node.config.shutdown_timeout_ms).unwrap_or(u32::MAX);
        self.session.push(&GoAwayPush { reason: "the broker shuts down".into(), closes_in_ms });
    }

    /// Tells the client why, as far as it still listens.
    async fn say_goodbye(&mut self, ended: &Ended) {
        if matches!(ended, Ended::ByClient | Ended::ByReset | Ended::WithinFrame | Ended::Socket(_)) {
            return;
        }
        // What it holds is for the others at once, not after the last words.
        (self.waiting, self.postponed) = (None, None);
        self.buffer = ReceiveBuffer::new(FrameLimits::HANDSHAKE);
        if !matches!(ended, Ended::Shutdown) && self.kafka.is_none() {
            self.session.push(&GoAwayPush { reason: ended.to_string(), closes_in_ms: 0 });
        }
        let last_words = async {
            while let Ok(false) = self.write() {
                if self.socket.writable().await.is_err() {
                    break;
                }
            }
            // Closing with unread bytes in the socket would send a reset that overtakes the last words.
            let _ = self.socket.shutdown().await;
            let mut sink = [0; 4096];
            while matches!(self.socket.read(&mut sink).await, Ok(count) if count > 0) {}
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), last_words).await;
    }
}

/// What has arrived and was not read, in bytes.
fn unread(socket: &TcpStream) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap_or(0)
}
