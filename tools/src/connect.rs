//! The way to the broker, shared by all binaries: its arguments, the runtime, and what a failed request means to a script.

use std::pin::pin;
use std::time::{Duration, Instant};

use tidelog_client::{
    Addresses, Client, ClientBuilder, ClientError, ErrorCode, SendError, TransactionError, WireError,
};

use crate::duration::{display_duration, parse_timeout};
use crate::exit::{Exit, Failure};

/// How long a cluster may take to say why a command failed, at most.
const EXPLANATION_PATIENCE: Duration = Duration::from_secs(4);

/// How long a command may take that was not told.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a broker may take to be connected to, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the broker is and how long it may take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct ConnectArgs {
    // The variable is a default like any other: as clap's own, usage lines would show the flag as required wherever it is set.
    /// Broker to connect to, or several separated by commas: the first that answers leads to all [env: TIDELOG_SERVER] [default:
    /// 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT", hide_default_value = true)]
    #[arg(default_value_t = server_of(std::env::var("TIDELOG_SERVER").ok()), value_parser = parse_server)]
    pub server: String,

    // Whether it was said makes a difference: who follows a topic is patient unless told otherwise.
    /// How long the command may take, such as 500ms or 30s; of one that goes on by itself: how long it bears it that no broker answers any more,
    /// however long it waits for records (one that follows a topic bears that for ever, unless this is given) [default: 30s]
    #[arg(long = "timeout", global = true, value_name = "DURATION", value_parser = parse_timeout)]
    pub asked_timeout: Option<Duration>,
}

/// How much longer than its limit a command is waited for at most.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Where a broker is unless a flag says it: as the environment does, where it says something.
fn server_of(variable: Option<String>) -> String {
    variable.filter(|value| !value.trim().is_empty()).unwrap_or_else(|| "127.0.0.1:9092".into())
}

fn parse_server(text: &str) -> Result<String, String> {
    text.parse::<Addresses>().map(|_| text.to_string()).map_err(|error| error.to_string())
}

impl ConnectArgs {
    /// How long the command may take, or each answer to one that goes on by itself.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.asked_timeout.unwrap_or(TIMEOUT)
    }

    /// How long a command that reads on and on bears it that no broker answers; one that follows, for ever unless told otherwise.
    #[must_use]
    pub fn silence_max(&self, follows: bool) -> Option<Duration> {
        if follows { self.asked_timeout } else { Some(self.timeout()) }
    }

    /// Connects, under the name of the tool.
    ///
    /// # Errors
    /// As [`failure`].
    pub async fn client(&self, tool: &str) -> Result<Client, Failure> {
        self.builder(tool).connect(&self.server).await.map_err(nobody_there)
    }

    /// As [`ConnectArgs::client`], for a command that asks and ends: everything it asks together has the timeout, and after that every answer
    /// counts as late. So it is not for one that goes on by itself.
    ///
    /// # Errors
    /// As [`failure`].
    pub async fn client_in_time(&self, tool: &str) -> Result<Client, Failure> {
        // A little less: what it was that did not answer is to be told in time, too.
        let deadline = Instant::now() + self.timeout() - (self.timeout() / 20).min(Duration::from_millis(100));
        self.builder(tool).deadline(deadline).connect(&self.server).await.map_err(nobody_there)
    }

    /// Runs a command, and says of a failure that may pass by itself where it will not: while no broker runs the controller, nothing that has
    /// lost its leader gets another one, and no leader keeps its lease. Nobody waits longer for that than the command may take: where it takes
    /// its time, the cluster is asked before that is over.
    ///
    /// # Errors
    /// As the command.
    pub async fn explaining<T>(&self, command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let (began, mut command) = (Instant::now(), pin!(command));
        let mut look = pin!(async {
            tokio::time::sleep(self.timeout() * 3 / 4).await;
            self.has_controller(self.timeout() / 4).await
        });
        let mut seen = None;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut command => break ended,
                has_controller = &mut look, if seen.is_none() => seen = Some(has_controller),
            }
        };
        let Err(failure) = ended else { return ended };
        let is_said = failure.to_string().contains("majority");
        let may_pass = matches!(failure.exit(), Exit::Unavailable | Exit::Partial);
        if !may_pass || is_said || !failure.is_within_a_cluster() {
            return Err(failure);
        }
        let seen_now = match left_to_ask(began.elapsed(), self.timeout()) {
            Duration::ZERO => None,
            left => self.has_controller(left).await,
        };
        if seen_now.or(seen.flatten()) != Some(false) {
            return Err(failure);
        }
        let sentence = "no broker runs the controller: a majority of the brokers that vote on metadata is missing or cannot be reached";
        Err(failure.suffix(sentence).hint("who votes, and who is there: tidelog cluster status"))
    }

    /// Whether a broker runs the controller, as far as that can be found out in this time.
    async fn has_controller(&self, patience: Duration) -> Option<bool> {
        let deadline = Instant::now() + patience;
        let asked = async {
            let client = self.builder("tidelog").deadline(deadline).connect(&self.server).await?;
            client.admin().describe_cluster().await
        };
        let cluster = tokio::time::timeout(patience, asked).await.ok()?.ok()?;
        Some(cluster.controller.is_some())
    }

    fn builder(&self, tool: &str) -> ClientBuilder {
        // One address that does not answer leaves time for the others.
        let addresses = self.server.split(',').count().max(1) as u32;
        let connect_timeout = (self.timeout() / addresses).clamp(Duration::from_millis(1), CONNECT_TIMEOUT);
        Client::builder().client_id(tool).connect_timeout(connect_timeout).request_timeout(self.timeout())
    }

    /// What `command` gives, where it is done within the timeout.
    ///
    /// # Errors
    /// Those of the command; else that it is not.
    pub async fn in_time<T>(&self, command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        Self::within(self.timeout(), command).await
    }

    /// The same within `limit`.
    ///
    /// # Errors
    /// As [`ConnectArgs::in_time`].
    pub async fn within<T>(limit: Duration, command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        // A client's own limit began a moment later, once it was connected, and tells what it was that did not answer.
        let last_word = (limit / 10).min(LAST_WORD);
        tokio::time::timeout(limit + last_word, command).await.unwrap_or_else(|_| {
            let sentence = format!("not done within {}", display_duration(limit));
            Err(Failure::new(Exit::Unavailable, sentence).hint("a longer wait may help: --timeout 60s"))
        })
    }
}

/// Runs a command that talks to a broker. Tasks still waiting for input are abandoned at its end, not waited for.
///
/// # Errors
/// Those of the command; or where the system gives no threads.
pub fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    block_on_threads(None, command)
}

/// As [`block_on`], on this many threads; one for each core where there is no number.
///
/// # Errors
/// As [`block_on`].
pub fn block_on_threads(
    threads: Option<u16>,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.max(1).into());
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// How long a cluster may be asked about a command that failed after `took`. One that goes on by itself has no time that it may take; who
/// ran it waits a moment.
fn left_to_ask(took: Duration, timeout: Duration) -> Duration {
    match took >= timeout * 2 {
        true => timeout.min(EXPLANATION_PATIENCE),
        false => timeout.saturating_sub(took).min(EXPLANATION_PATIENCE),
    }
}

/// Nobody answered at all.
fn nobody_there(error: ClientError) -> Failure {
    match error {
        ClientError::Unreachable { .. } if error.is_turned_away() => {
            Failure::new(Exit::Unavailable, error.to_string()).outside_of_a_cluster().hint(
                "what listens there is no broker, or one that has as many connections as its connections_max allows: see its log",
            )
        }
        // What it said says what to do.
        ClientError::Unreachable { .. } if error.is_sent_away() => {
            Failure::new(Exit::Unavailable, error.to_string()).outside_of_a_cluster()
        }
        ClientError::Unreachable { .. } => Failure::new(Exit::Unavailable, error.to_string()).outside_of_a_cluster().hint(
            "is a broker running there? Start one with 'tidelog-broker', or name another with --server HOST:PORT or TIDELOG_SERVER",
        ),
        error => failure(error),
    }
}

/// What a failed request means to a script, and what a person can do about it.
#[must_use]
pub fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Broker(error) => refusal(&error),
        ClientError::UnknownTopic { topic } => unknown_topic(&topic),
        // Others of the cluster were there to name it.
        ClientError::Unreachable { .. } => {
            Failure::new(Exit::Unavailable, error.to_string()).hint("who is there: tidelog cluster status")
        }
        ClientError::TimedOut { .. } => {
            Failure::new(Exit::Unavailable, error.to_string()).hint("a longer wait may help: --timeout 60s")
        }
        ClientError::NoLeader { .. }
        | ClientError::LeaderSilent { .. }
        | ClientError::Disconnected { .. }
        | ClientError::GroupBehind(_) => Failure::new(Exit::Unavailable, error.to_string()),
        ClientError::UnknownPartition { .. } => Failure::new(Exit::NotFound, error.to_string()),
        ClientError::Address(_) | ClientError::Argument(_) => Failure::new(Exit::Usage, error.to_string()),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

/// What an undelivered record means to a script.
#[must_use]
pub fn send_failure(error: SendError) -> Failure {
    match error {
        SendError::Client(error) => failure(error),
        SendError::Rejected(error) => refusal(&error),
        error @ SendError::TooLarge { .. } => Failure::new(Exit::Failed, error.to_string()).hint(
            "send smaller records, or raise the topic's max.message.bytes: 'tidelog topics alter --help' says how",
        ),
        error if error.is_retriable() => Failure::new(Exit::Unavailable, error.to_string()),
        error => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// What a transaction that does not hold, or is not known to, means to a script.
#[must_use]
pub fn transaction_failure(error: TransactionError) -> Failure {
    match error {
        TransactionError::NotWritten { cause } => send_failure(cause).prefix("the transaction is undone"),
        TransactionError::Client(error) => failure(error),
        error @ TransactionError::Fenced { .. } => Failure::new(Exit::Failed, error.to_string())
            .hint("two producers under one transactional id end each other: give each one of its own"),
        error @ TransactionError::InDoubt { .. } => Failure::new(Exit::Unavailable, error.to_string())
            .hint("'tidelog transactions describe ID' tells how the last one ended"),
        error @ TransactionError::FateUnknown { .. } => {
            Failure::new(Exit::Failed, error.to_string()).hint("'tidelog consume TOPIC' shows what is committed")
        }
        error => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// What the broker's refusal means to a script. It is never [`Exit::Usage`]: that is found before anything is asked.
#[must_use]
pub fn refusal(error: &WireError) -> Failure {
    use ErrorCode as Code;
    let exit = match error.code {
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownBroker
        | Code::OffsetOutOfRange
        | Code::UnknownGroup
        | Code::UnknownTransaction => Exit::NotFound,
        Code::TopicExists => Exit::Exists,
        Code::CorruptLog => Exit::Damaged,
        Code::Internal => Exit::Failed,
        code if code.is_retriable() => Exit::Unavailable,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("{} ({})", error.message, error.code));
    match error.code {
        Code::UnknownGroup => failure.hint("see which there are with 'tidelog groups list'"),
        Code::UnknownTransaction => failure.hint("see which ids there are with 'tidelog transactions list'"),
        _ => failure,
    }
}

/// The topic is not there.
#[must_use]
pub fn unknown_topic(topic: &str) -> Failure {
    let hint = if topic.starts_with("__") {
        "names that begin with '__' belong to the broker, which makes and deletes such topics by itself".into()
    } else {
        format!("create it with 'tidelog topics create {topic}', or see what there is with 'tidelog topics list'")
    };
    Failure::new(Exit::NotFound, format!("there is no topic '{topic}'")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_the_cases_apart() {
        for (code, exit) in [
            (ErrorCode::UnknownTopic, Exit::NotFound),
            (ErrorCode::TopicExists, Exit::Exists),
            (ErrorCode::InvalidConfig, Exit::Failed),
            (ErrorCode::Overloaded, Exit::Unavailable),
            (ErrorCode::StorageFull, Exit::Unavailable),
            (ErrorCode::CorruptLog, Exit::Damaged),
            (ErrorCode::Internal, Exit::Failed),
            (ErrorCode::InternalTopic, Exit::Failed),
            (ErrorCode::UnknownBroker, Exit::NotFound),
            (ErrorCode::InvalidVoters, Exit::Failed),
            (ErrorCode::NoQuorum, Exit::Unavailable),
        ] {
            assert_eq!(refusal(&WireError::new(code, "x")).exit(), exit, "{code}");
        }
    }

    #[test]
    fn what_the_broker_refuses_is_no_error_of_the_command_line() {
        for code in ErrorCode::ALL {
            let exit = refusal(&WireError::new(*code, "x")).exit();
            assert!(!matches!(exit, Exit::Usage | Exit::Done), "{code}: {exit:?}");
        }
        assert_eq!(failure(ClientError::Argument("x".into())).exit(), Exit::Usage);
    }

    #[test]
    fn an_unknown_topic_names_the_command_that_creates_it() {
        let failure = failure(ClientError::UnknownTopic { topic: "logs".into() });
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.to_string().contains("tidelog topics create logs"));
    }

    #[test]
    fn nobody_is_told_to_create_a_topic_that_only_the_broker_may_create() {
        let failure = failure(ClientError::UnknownTopic { topic: "__x".into() });
        assert!(!failure.to_string().contains("topics create") && failure.to_string().contains("belong to the broker"));
    }

    #[test]
    fn a_variable_that_says_nothing_is_none() {
        assert_eq!(server_of(Some("b1:9".into())), "b1:9");
        for nothing in [None, Some(String::new()), Some(" ".into())] {
            assert_eq!(server_of(nothing), "127.0.0.1:9092");
        }
    }

    #[test]
    fn a_group_or_id_that_is_not_there_names_the_command_that_lists_them() {
        for (code, command) in [
            (ErrorCode::UnknownGroup, "tidelog groups list"),
            (ErrorCode::UnknownTransaction, "tidelog transactions list"),
        ] {
            assert!(refusal(&WireError::new(code, "x")).to_string().contains(command), "{code}");
        }
    }

    #[test]
    fn a_hint_holds_nothing_that_has_to_be_filled_in() {
        let failure = send_failure(SendError::TooLarge { bytes: 9, limit: 8 }).to_string();
        assert!(failure.contains("max.message.bytes") && !failure.contains("NAME"), "{failure}");
    }

    #[test]
    fn a_server_without_host_is_refused_on_the_command_line() {
        assert!(parse_server(":9092").is_err());
        assert!(parse_server("a:x").unwrap_err().contains("the port must be a number"));
        assert_eq!(parse_server("b1:9092,b2").as_deref(), Ok("b1:9092,b2"));
    }
}
