//! What the parts of one member share: who it is, what it works on, and how it asks the coordinator. Knows nothing of when.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_protocol::api::Request;
use tidelog_protocol::{ErrorCode, Monotonic, Offset};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::builder::MemberSettings;
use super::member::{Event, Failure, Place};
use super::work::{Run, Work};
use crate::ClientError;
use crate::cluster::{Cluster, Coordinate, Patience, Purpose};

/// Who a member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) member_id: Arc<str>,
    /// 0 while it joins.
    pub(super) epoch: i32,
    /// It is a member no more.
    pub(super) ended: bool,
}

/// What the parts of one member share.
pub(super) struct Shared {
    pub(super) cluster: Arc<Cluster>,
    pub(super) group: Arc<str>,
    pub(super) settings: MemberSettings,
    pub(super) work: Mutex<Work>,
    pub(super) identity: watch::Sender<Identity>,
    /// To the member's own task.
    pub(super) events: mpsc::Sender<Command>,
    /// One commit at a time, so that an older one never overtakes.
    pub(super) committing: tokio::sync::Mutex<()>,
    /// One callback at a time.
    pub(super) calling: tokio::sync::Mutex<()>,
    /// A record went out of the program's hands.
    pub(super) returned: Notify,
    /// Ends all tasks of the member.
    pub(super) ended: CancellationToken,
    pub(super) born: Instant,
    /// What a heartbeat failed with last.
    pub(super) failed_last: Mutex<Option<ClientError>>,
}

/// What the member's own task is told.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// For the member.
    Tell(Event),
    /// Commits what is done, then leaves.
    Leave,
}

/// Why a question of a member was not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// There is nothing left to ask.
    Pointless,
    /// It is not the member that it was.
    Fenced,
    /// It will not be answered.
    Failed(ClientError),
}

impl Shared {
    pub(super) fn now(&self) -> Monotonic {
        Monotonic(self.born.elapsed().as_millis() as u64)
    }

    pub(super) fn of(&self) -> Coordinate<'_> {
        Coordinate::group(&self.group)
    }

    /// Asks as the member that it is at that time, again where its epoch moved on meanwhile or the coordinator did, as the request timeout
    /// allows. `request` gives `None` once there is nothing left to ask.
    pub(super) async fn ask<R: Request>(
        &self,
        mut request: impl FnMut(&Identity) -> Option<R>,
    ) -> Result<R::Response, Unanswered> {
        let mut identity = self.identity.subscribe();
        let mut patience = Patience::repeating(&self.cluster.options);
        loop {
            let me = identity.borrow_and_update().clone();
            if me.ended || me.epoch <= 0 {
                return Err(Unanswered::Fenced);
            }
            let Some(request) = request(&me) else { return Err(Unanswered::Pointless) };
            let timeout = self.cluster.options.request_timeout;
            let error = match self.cluster.ask_coordinator_once(self.of(), &request, Purpose::Requests, timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.code() {
                Some(code @ (ErrorCode::UnknownMember | ErrorCode::FencedMember)) => {
                    let failure = if code == ErrorCode::UnknownMember { Failure::Unknown } else { Failure::Fenced };
                    // Where the queue is full the member's own heartbeat finds out.
                    let _ = self.events.try_send(Command::Tell(Event::Refused { epoch: me.epoch, failure }));
                    return Err(Unanswered::Fenced);
                }
                // The next heartbeat says which epoch it is.
                Some(ErrorCode::StaleMember) => {
                    tokio::select! {
                        waited = patience.after(error) => waited.map_err(Unanswered::Failed)?,
                        changed = identity.changed() => changed.map_err(|_| Unanswered::Fenced)?,
                    }
                }
                _ => patience.after(error).await.map_err(Unanswered::Failed)?,
            }
        }
    }

    /// A record is out of the program's hands.
    pub(super) fn returned(&self, place: Place, run: Run, offset: Offset, done: bool) {
        let waker = self.work.lock().returned(place, run, offset, done);
        wake(waker);
        self.returned.notify_waiters();
    }
}

/// Wakes the program, for what the lock was needed only to find out whom.
pub(super) fn wake(program: Option<Waker>) {
    if let Some(program) = program {
        program.wake();
    }
}
