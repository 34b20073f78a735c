//! Requests that are for the broker that runs the controller, above all changes of metadata: every other broker hands them on to it, and
//! answers a change once its own image has what was decided. Knows nothing of the rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::{Command, Reply as Decided};
use tidelog_protocol::api::Request;
use tidelog_protocol::messages::ForwardRequest;
use tidelog_protocol::{BrokerId, ErrorCode, Message, MetadataIndex, ProtocolVersion, WireError};
use tokio::time::timeout_at;

use crate::member::Member;
use crate::node::Node;
use crate::peer::{Lane, PeerError};
use crate::quorum::Role;

/// How long a change may wait for a controller where the client sets no limit.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a client waits for a controller where none is found: another broker may know of one, and nobody is to wait long to hear that
/// there is none. Most elections take less.
const LOST_PATIENCE: Duration = Duration::from_secs(2);
/// Pause before the controller is looked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// Before whoever asked stops waiting: an answer that comes later says nothing, and this much is left of a hop.
const ANSWER_ROOM: Duration = Duration::from_millis(200);

/// A request that only the leader of the metadata quorum can answer.
pub(crate) trait AtLeader: Request {
    /// Does it, where this broker leads.
    ///
    /// # Errors
    /// NotController where it does not, and then nothing was done; else what is wrong.
    fn decide(self, node: &Arc<Node>) -> impl Future<Output = Result<Self::Response, WireError>> + Send;
}

/// A request that only the broker that runs the controller can answer.
pub(crate) trait AtController: Request {
    /// Does it, where the controller runs here. Says as of which metadata the answer holds.
    ///
    /// # Errors
    /// What the rules say; NotController where the controller is elsewhere, and then nothing was done.
    fn decide(
        self,
        node: &Arc<Node>,
    ) -> impl Future<Output = Result<(Self::Response, MetadataIndex), WireError>> + Send;

    /// May this broker send it on? What a client asks, any broker may.
    ///
    /// # Errors
    /// WrongPeer.
    fn may_be_sent_by(&self, _: Member) -> Result<(), WireError> {
        Ok(())
    }
}

/// A request that changes metadata by one command.
pub(crate) trait Change: Request {
    /// What the controller is asked to do.
    fn command(self, node: &Node) -> Command;

    /// May this broker ask for it? Whoever sends on a request of a client may.
    ///
    /// # Errors
    /// WrongPeer.
    fn check_sender(&self, _: Member) -> Result<(), WireError> {
        Ok(())
    }

    /// Shall it only be said what would come of it?
    fn only_plans(&self) -> bool {
        false
    }

    /// What is told in the log of how it came out, beyond the answer. Not asked where another broker has the controller.
    fn witness(&self) -> Option<Witness> {
        None
    }

    /// What no command can be made of, or cannot be carried out here.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, _: &Node) -> Result<(), WireError> {
        Ok(())
    }

    /// The answer, from what it decided and the metadata as of which that holds.
    ///
    /// # Errors
    /// Where it decided something else, which is a bug.
    fn answer(decided: Decided, as_of: MetadataIndex) -> Result<Self::Response, WireError>;
}

/// Tells in the log what was decided.
pub(crate) type Witness = Box<dyn FnOnce(Result<&Decided, &WireError>) + Send>;

/// What a broker asks in its own name, no other may ask.
///
/// # Errors
/// WrongPeer.
pub(crate) fn speaks_for_itself(sender: Member, broker: BrokerId) -> Result<(), WireError> {
    if sender.broker == broker {
        return Ok(());
    }
    Err(WireError::new(ErrorCode::WrongPeer, format!("{sender} speaks for broker {broker}")))
}

impl<R: Change> AtController for R {
    fn may_be_sent_by(&self, sender: Member) -> Result<(), WireError> {
        self.check_sender(sender)
    }

    async fn decide(self, node: &Arc<Node>) -> Result<(R::Response, MetadataIndex), WireError> {
        self.check(node)?;
        let only_plans = self.only_plans();
        let witness = self.witness().filter(|_| !only_plans);
        let command = self.command(node);
        let decided =
            if only_plans { node.controllers.plan(&command).await } else { node.controllers.submit(command).await };
        let is_elsewhere = decided.as_ref().is_err_and(|error| error.code == ErrorCode::NotController);
        if let Some(witness) = witness.filter(|_| !is_elsewhere) {
            witness(decided.as_ref().map(|(reply, _)| reply));
        }
        let (decided, as_of) = decided?;
        Ok((R::answer(decided, as_of)?, as_of))
    }
}

/// Does it wherever the controller runs, and waits until it can be seen here.
///
/// # Errors
/// What the controller says; NoQuorum where there is none in time.
pub(crate) async fn change<R: AtController>(
    node: &Arc<Node>,
    request: R,
    deadline: Option<Instant>,
) -> Result<R::Response, WireError> {
    let search = Search::of_a_client(deadline.unwrap_or_else(|| Instant::now() + PATIENCE));
    let (response, as_of) = settle_by(node, request, search).await?;
    node.registry.applied(as_of).await;
    Ok(response)
}

/// Does it wherever the controller runs. Says as of which metadata it holds.
///
/// # Errors
/// As [`change`].
pub(crate) async fn settle<R: AtController>(
    node: &Arc<Node>,
    request: R,
    deadline: Instant,
) -> Result<(R::Response, MetadataIndex), WireError> {
    settle_by(node, request, Search::until(deadline)).await
}

async fn settle_by<R: AtController>(
    node: &Arc<Node>,
    request: R,
    search: Search,
) -> Result<(R::Response, MetadataIndex), WireError> {
    loop {
        let ask = async {
            match node.controllers.role() {
                // Where the quorum has stopped here, the controller says why.
                Role::Follower { .. } if node.controllers.failure().is_none() => {
                    hand_on(node, &request, search.answer_by).await
                }
                _ => request.clone().decide(node).await,
            }
        };
        match search.in_time(ask).await {
            Err(error) if error.code == ErrorCode::NotController => search.pause(node).await?,
            asked => return asked,
        }
    }
}

/// Asks the leader of the metadata quorum, wherever it is.
///
/// # Errors
/// What it says; NoQuorum where there is none in time.
pub(crate) async fn at_leader<R: AtLeader>(
    node: &Arc<Node>,
    request: R,
    deadline: Instant,
) -> Result<R::Response, WireError> {
    let search = Search::of_a_client(deadline);
    loop {
        let ask = async {
            match node.controllers.role() {
                Role::Follower { .. } => to_controller(node, request.clone(), search.answer_by).await,
                Role::Leader { .. } => request.clone().decide(node).await,
            }
        };
        match search.in_time(ask).await {
            Err(error) if error.code == ErrorCode::NotController => search.pause(node).await?,
            asked => return asked,
        }
    }
}

/// Looking for a controller, for as long as an answer can still be of use.
struct Search {
    answer_by: Instant,
    /// Until when a controller must be found.
    find_by: Instant,
}

impl Search {
    fn until(deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer_by = Instant::now() + left - ANSWER_ROOM.min(left / 4);
        Self { answer_by, find_by: answer_by }
    }

    fn of_a_client(deadline: Instant) -> Self {
        let search = Self::until(deadline);
        Self { find_by: search.find_by.min(Instant::now() + LOST_PATIENCE), ..search }
    }

    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
        timeout_at(self.answer_by.into(), asked).await.unwrap_or_else(|_| {
            let sentence = "the controller has not decided in time; it may still happen";
            Err(WireError::new(ErrorCode::DeadlineExceeded, sentence))
        })
    }

    /// Nothing was done; there will be another one soon.
    async fn pause(&self, node: &Node) -> Result<(), WireError> {
        if Instant::now() + PAUSE >= self.find_by {
            return Err(no_controller());
        }
        let mut roles = node.controllers.roles();
        roles.mark_unchanged();
        // Whatever comes first, it is asked for anew.
        let _ = timeout_at((Instant::now() + PAUSE).into(), roles.changed()).await;
        Ok(())
    }
}

async fn hand_on<R: AtController>(
    node: &Arc<Node>,
    request: &R,
    deadline: Instant,
) -> Result<(R::Response, MetadataIndex), WireError> {
    // In the newest form: the receiver reads it by the version of the connection that carries it.
    let (api, version) = (R::API as u16, ProtocolVersion::CURRENT);
    let forward = ForwardRequest { api, body: request.to_body(version).freeze() };
    let (as_of, body) = to_controller(node, forward, deadline).await.map(|answer| (answer.as_of, answer.body))?;
    let response = R::Response::from_body(&body, version).map_err(|error| {
        WireError::new(ErrorCode::Internal, format!("the controller's answer does not parse: {error}"))
    })?;
    Ok((response, as_of))
}

/// Asks the broker that runs the controller.
///
/// # Errors
/// What it says; NotController where it cannot be reached or is not known, and nothing was asked.
pub(crate) async fn to_controller<R: Request>(
    node: &Arc<Node>,
    request: R,
    deadline: Instant,
) -> Result<R::Response, WireError> {
    let Some((leader, address)) = node.controllers.leader_elsewhere() else { return Err(no_controller_yet()) };
    let patience = deadline.saturating_duration_since(Instant::now());
    let link = node.peers.link(leader, &address, Lane::Requests);
    let answer = link.request(request, Vec::new(), patience).await;
    // It may reach this broker all the same, and would not know.
    match &answer {
        Ok(_) | Err(PeerError::Refused(_)) => node.controllers.quorum().reaches(leader),
        Err(PeerError::Busy) => {}
        Err(PeerError::Unreachable(_) | PeerError::Lost(_) | PeerError::TimedOut) => {
            node.controllers.quorum().does_not_reach(leader);
        }
    }
    match answer {
        Ok((response, _)) => Ok(response),
        Err(PeerError::Refused(error)) if error.code == ErrorCode::WrongPeer => Err(no_controller_yet()),
        Err(PeerError::Refused(error)) => Err(error),
        Err(PeerError::Unreachable(_) | PeerError::Busy) => Err(no_controller_yet()),
        Err(error @ (PeerError::Lost(_) | PeerError::TimedOut)) => {
            let sentence = format!("{leader} was asked, which runs the controller: {error}; it may still happen");
            Err(WireError::new(ErrorCode::DeadlineExceeded, sentence))
        }
    }
}

fn no_controller_yet() -> WireError {
    WireError::new(ErrorCode::NotController, "the broker that runs the controller cannot be reached")
}

fn no_controller() -> WireError {
    let sentence = "no broker runs the controller: a majority of the metadata quorum is missing, or cannot be reached from here; nothing was changed";
    WireError::new(ErrorCode::NoQuorum, sentence)
}
