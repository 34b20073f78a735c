//! The task of a member: carries its heartbeats to the coordinator, and does what the pure machine decides. Knows nothing of offsets.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::{GroupHeartbeatRequest, GroupHeartbeatResponse};
use tidelog_protocol::{ErrorCode, Monotonic};
use tokio::sync::mpsc;

use super::letting_go::{LettingGo, tell_of_loss};
use super::member::{Answer, Beat, Effect, Event, Failure, Member, Place};
use super::shared::{Command, Identity, Shared, wake};
use super::taking::{Taking, by_topic};
use crate::ClientError;
use crate::cluster::Purpose;

type Asking = Pin<Box<dyn Future<Output = (u64, Result<GroupHeartbeatResponse, ClientError>)> + Send>>;

/// The task of a member.
pub(super) struct Heartbeats {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Member,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) asking: Option<Asking>,
    /// It is about to leave, and takes nothing any more.
    pub(super) is_leaving: bool,
}

impl Heartbeats {
    /// Runs until it is a member no more.
    pub(super) async fn run(mut self) {
        while !self.shared.ended.is_cancelled() {
            let event = self.next().await;
            let effects = self.member.handle(event, self.shared.now());
            for effect in effects {
                self.carry_out(effect);
            }
            self.publish();
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            let (born, deadline) = (self.shared.born, self.member.deadline());
            let due = async {
                match deadline {
                    Some(Monotonic(ms)) => tokio::time::sleep_until((born + Duration::from_millis(ms)).into()).await,
                    None => std::future::pending().await,
                }
            };
            let answered = async {
                match &mut self.asking {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (number, result) = answered => {
                    self.asking = None;
                    return self.understood(number, result);
                }
                command = self.commands.recv() => match command {
                    Some(Command::Tell(event)) => return event,
                    Some(Command::Leave) | None => self.prepare_to_leave(),
                },
                () = due => return Event::Tick,
            }
        }
    }

    fn understood(&self, number: u64, result: Result<GroupHeartbeatResponse, ClientError>) -> Event {
        match result {
            Ok(answer) => {
                let places = |assignment: Vec<tidelog_protocol::messages::TopicPartitions>| {
                    let each = assignment.into_iter().map(|of| (of.topic_id, of.partitions));
                    each.flat_map(|(id, partitions)| partitions.into_iter().map(move |partition| (id, partition)))
                        .collect()
                };
                let answer = Answer {
                    member_epoch: answer.member_epoch,
                    interval_ms: answer.heartbeat_interval_ms.max(1).into(),
                    session_ms: answer.session_timeout_ms.into(),
                    assignment: answer.assignment.map(places),
                };
                Event::Answered { number, answer }
            }
            Err(error) => {
                tracing::debug!(group = %self.shared.group, %error, "a heartbeat failed");
                *self.shared.failed_last.lock() = Some(error.clone());
                Event::Failed { number, failure: failure(error, fastrand::f64()) }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let shared = &self.shared;
        match effect {
            Effect::Send(beat) => self.asking = Some(self.say(&beat)),
            Effect::TakeNewId => {
                shared.identity.send_modify(|me| (me.member_id, me.epoch) = (new_member_id(), 0));
            }
            Effect::Take(places) if self.is_leaving => {
                tracing::debug!(group = %shared.group, ?places, "takes nothing more: it is about to leave");
            }
            Effect::Take(places) => {
                let claimed = shared.work.lock().claim(&places);
                self.spawn(Taking { shared: Arc::clone(shared), claimed }.run());
            }
            Effect::LetGo(places) => {
                // At once: whatever else is to be done, nothing more of them is handed out.
                let claimed = shared.work.lock().begin_to_let_go(&places);
                let letting_go = LettingGo { shared: Arc::clone(shared), claimed };
                self.spawn(async move {
                    let elsewhere = letting_go.run().await;
                    let released = places.into_iter().filter(|place| !elsewhere.contains(place)).collect();
                    let done = Command::Tell(Event::LetGo(released));
                    // Where nobody listens any more there is nobody to tell.
                    let _ = letting_go.shared.events.send(done).await;
                });
            }
            Effect::Lose(_) => {
                let lost = {
                    let mut work = shared.work.lock();
                    let all = work.all();
                    work.forget(&all)
                };
                if !lost.is_empty() {
                    self.spawn(tell_of_loss(Arc::clone(shared), lost));
                }
            }
            Effect::Stop(error) => {
                let program = shared.work.lock().end(error.map(Into::into));
                wake(program);
                shared.identity.send_modify(|me| (me.epoch, me.ended) = (0, true));
                shared.ended.cancel();
            }
        }
    }

    fn prepare_to_leave(&mut self) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        let claimed = {
            let mut work = self.shared.work.lock();
            let places: Vec<Place> = work.all().into_iter().map(|(place, _)| place).collect();
            work.begin_to_let_go(&places)
        };
        let letting_go = LettingGo { shared: Arc::clone(&self.shared), claimed };
        self.spawn(async move {
            letting_go.run().await;
            letting_go.the_others().await;
            // Where nobody listens any more it has left.
            let _ = letting_go.shared.events.send(Command::Tell(Event::Leave)).await;
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.shared.ended.clone();
        self.shared.cluster.runtime.spawn(ended.run_until_cancelled_owned(task));
    }

    /// A heartbeat, on its way.
    fn say(&self, beat: &Beat) -> Asking {
        let (shared, number, patience) = (Arc::clone(&self.shared), beat.number, beat.patience);
        let request = self.request(beat);
        Box::pin(async move {
            let asked = shared.cluster.ask_coordinator_once(shared.of(), &request, Purpose::Requests, patience);
            // To find the coordinator takes time, too.
            let result = tokio::time::timeout(patience + patience / 2, asked).await;
            let slow = || {
                ClientError::Broker(crate::WireError::new(
                    ErrorCode::DeadlineExceeded,
                    "no coordinator answered in time",
                ))
            };
            (number, result.unwrap_or_else(|_| Err(slow())))
        })
    }

    fn request(&self, beat: &Beat) -> GroupHeartbeatRequest {
        let (shared, settings) = (&self.shared, &self.shared.settings);
        let whole = |text: &Option<String>| text.clone().filter(|_| beat.whole);
        let busy_since = shared.work.lock().busy_since();
        GroupHeartbeatRequest {
            group: shared.group.to_string(),
            member_id: shared.identity.borrow().member_id.to_string(),
            member_epoch: beat.epoch,
            // Without it a pausing member would be nobody's.
            instance_id: settings.instance_id.clone(),
            rack: whole(&settings.rack),
            client_name: beat.whole.then(|| shared.cluster.options.client_id.clone()).filter(|name| !name.is_empty()),
            session_timeout_ms: settings.session_ms,
            rebalance_timeout_ms: settings.rebalance_ms,
            subscription: beat.whole.then(|| settings.subscription.clone()),
            assignor: whole(&settings.assignor),
            owned: beat.owned.clone().map(by_topic),
            busy_ms: busy_since.map(|since| shared.now().ms_since(since).try_into().unwrap_or(u32::MAX)),
        }
    }

    /// Tells the other parts what the member is now.
    fn publish(&self) {
        let epoch = self.member.epoch().max(0);
        let program = self.shared.work.lock().extend(self.member.valid_until(), self.shared.now());
        wake(program);
        self.shared.identity.send_if_modified(|me| {
            let changed = !me.ended && me.epoch != epoch;
            if changed {
                me.epoch = epoch;
            }
            changed
        });
    }
}

/// What a refusal means for a member.
fn failure(error: ClientError, jitter: f64) -> Failure {
    match error.code() {
        // A group that is not known has no such member.
        Some(ErrorCode::UnknownMember | ErrorCode::UnknownGroup) => Failure::Unknown,
        Some(ErrorCode::FencedMember | ErrorCode::StaleMember) => Failure::Fenced,
        Some(ErrorCode::InstanceTaken) => Failure::Taken { jitter, error },
        _ if error.is_retriable() => Failure::Passing { suggested_ms: error.retry_after_ms(), jitter },
        _ => Failure::Final(error),
    }
}

/// A random id: as good as unique, and nobody's but this member's.
pub(super) fn new_member_id() -> Arc<str> {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)).into()
}

impl Identity {
    pub(super) fn new() -> Self {
        Self { member_id: new_member_id(), epoch: 0, ended: false }
    }
}
