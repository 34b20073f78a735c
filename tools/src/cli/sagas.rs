//! `tidelog sagas`: what several services do together, how far it is, and what an operator does about what cannot go on.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tidelog_client::event_store::{AppendError, StoreError};
use tidelog_client::saga::{
    Course, History, Listed, Listing, Phase, Saga, SagaError, SagaEvent, Sagas, Side, Standing,
};
use tidelog_client::{ClientError, ConsumeError, Timestamp};

use super::{Context, topics::print};
use crate::byte_size::{counted, parse_small_byte_size};
use crate::connect::failure;
use crate::duration::display_duration;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::display_time;

/// What to do with sagas.
#[derive(Debug, Subcommand)]
pub enum SagasCommand {
    /// List sagas; those that have not ended, unless '--state' says otherwise.
    #[command(after_help = "\
Reads all that was ever stored of them. Those that a worker left alone, as it was not given
their definition, are 'unknown'. Those that ended long ago are forgotten, and not listed.

Example:
  tidelog sagas list --store trips --state parked")]
    List {
        /// Where they are.
        #[command(flatten)]
        store: StoreArgs,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// The most that are listed: those whose ids come first. How many more there are is said.
        #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
        limit: usize,
    },
    /// Show a saga: how it stands, its steps, and all that happened to it.
    Show {
        /// Where it is.
        #[command(flatten)]
        store: StoreArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Have a parked saga go on where it stood, with as many tries as at first.
    Retry {
        /// Where it is.
        #[command(flatten)]
        store: StoreArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Give a saga up as it is: nothing more is done or undone.
    #[command(after_help = "\
What it did and did not undo stays as it is: 'show' says what that may be.

Example:
  tidelog sagas abandon order-17 --reason 'paid back by hand'")]
    Abandon {
        /// Where it is.
        #[command(flatten)]
        store: StoreArgs,
        /// Its id.
        #[arg(value_name = "ID")]
        id: String,
        /// Why; it is kept with the saga.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Where sagas are.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The event store that they are in: the name of its topic.
    #[arg(long, value_name = "TOPIC", default_value = "sagas")]
    store: String,
    /// Memory for what is known of the sagas of a partition, and for the events of one saga: raise it where one of them does not fit.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_small_byte_size)]
    memory: u32,
}

/// How a saga stands, as an operator asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum State {
    /// Its steps are being done.
    Running,
    /// What was done is being undone.
    Compensating,
    /// It stands still until an operator acts.
    Parked,
    /// It goes on, but a worker that had it was not given its definition, and left it alone.
    Unknown,
    /// All its steps are done.
    Done,
    /// All that may have been done is undone.
    Compensated,
    /// An operator gave it up.
    Abandoned,
    /// Whatever it is.
    Any,
}

impl State {
    const fn of(saga: &Saga) -> Self {
        match (saga.phase, &saga.parked) {
            (Phase::Running | Phase::Compensating, Some(_)) => Self::Parked,
            (Phase::Running | Phase::Compensating, None) if saga.left_alone.is_some() => Self::Unknown,
            (Phase::Running, None) => Self::Running,
            (Phase::Compensating, None) => Self::Compensating,
            (Phase::Done, _) => Self::Done,
            (Phase::Compensated, _) => Self::Compensated,
            (Phase::Abandoned, _) => Self::Abandoned,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

pub(super) async fn run(command: SagasCommand, context: &Context) -> Result<Exit, Failure> {
    let (SagasCommand::List { store, .. }
    | SagasCommand::Show { store, .. }
    | SagasCommand::Retry { store, .. }
    | SagasCommand::Abandon { store, .. }) = &command;
    let client = context.connect.client_in_time("tidelog").await?;
    let (store_name, memory) = (store.store.clone(), store.memory as usize);
    let builder = client.event_store(&store_name).checkpoint_every(0);
    let store = builder.index_bytes_max(memory).load_bytes_max(memory).open().await;
    let store = store.map_err(|error| match error {
        // Whoever runs the first one makes its topics.
        StoreError::Client(ClientError::UnknownTopic { .. }) => {
            let name = &store_name;
            Failure::new(
                Exit::NotFound,
                format!("no saga has ever run under the name '{name}': there is no topic '{name}'"),
            )
            .hint("--store NAME names another one; the first service that runs a saga makes the topics")
        }
        error => saga_failure(error.into()),
    })?;
    let sagas = Sagas::of(store);
    match command {
        SagasCommand::List { state, limit, .. } => list(&sagas, state, limit, context).await?,
        SagasCommand::Show { id, .. } => {
            let history = sagas.history(&id).await.map_err(saga_failure)?;
            print(context, &shown(&history), || document(&history))?;
        }
        SagasCommand::Retry { id, .. } => {
            sagas.retry(&id).await.map_err(saga_failure)?;
            let text = format!("saga '{id}' goes on once a worker has it\n");
            print(context, &text, || json!({"id": id, "resumed": true}))?;
        }
        SagasCommand::Abandon { id, reason, .. } => {
            sagas.abandon(&id, &reason).await.map_err(saga_failure)?;
            let text = format!("saga '{id}' is given up as it is\n");
            print(context, &text, || json!({"id": id, "abandoned": true}))?;
        }
    }
    Ok(Exit::Done)
}

async fn list(sagas: &Sagas, state: Option<State>, limit: usize, context: &Context) -> Result<(), Failure> {
    let is_wanted = move |saga: &Saga| match state {
        None => !saga.phase.is_end(),
        Some(State::Any) => true,
        Some(state) => State::of(saga) == state,
    };
    let Listed { sagas: listed, left_out } = sagas.list_first(limit, is_wanted).await.map_err(saga_failure)?;
    let mut columns = Columns::new(&[
        ("SAGA", Align::Left),
        ("DEFINITION", Align::Left),
        ("STATE", Align::Left),
        ("STEPS", Align::Right),
        ("STARTED", Align::Left),
        ("CAUSE", Align::Left),
    ]);
    for Listing { id, saga } in &listed {
        columns.row([
            id.clone(),
            saga.definition.clone(),
            State::of(saga).name(),
            format!("{}/{}", done_count(saga), saga.steps.len()),
            display_time(saga.started_at),
            cause(saga).unwrap_or("-").to_owned(),
        ]);
    }
    let mut text = match (listed.is_empty(), left_out) {
        (true, 0) => "there are no such sagas\n".into(),
        (true, _) => String::new(),
        (false, _) => columns.to_string(),
    };
    if left_out > 0 {
        text.push_str(&format!("{} more left out: raise --limit, or ask for a --state\n", counted(left_out, "saga")));
    }
    print(
        context,
        &text,
        || json!({"sagas": listed.iter().map(listing_document).collect::<Vec<_>>(), "left_out": left_out}),
    )
}

/// Why a saga does not simply go on.
fn cause(saga: &Saga) -> Option<&str> {
    saga.parked.as_deref().or(saga.left_alone.as_deref()).or(saga.turned.as_deref())
}

fn done_count(saga: &Saga) -> usize {
    saga.steps.iter().filter(|step| step.action.standing == Standing::Succeeded).count()
}

fn listing_document(Listing { id, saga }: &Listing) -> Value {
    json!({
        "id": id,
        "definition": saga.definition,
        "state": State::of(saga).name(),
        "steps": saga.steps.len(),
        "steps_done": done_count(saga),
        "started_at": display_time(saga.started_at),
        "turned": saga.turned,
        "parked": saga.parked,
        "left_alone": saga.left_alone,
    })
}

fn shown(history: &History) -> String {
    let History { id, saga, version, events } = history;
    let mut text = format!(
        "saga '{id}' of '{}' is {}: {} of {} done, {}\n",
        saga.definition,
        State::of(saga).name(),
        done_count(saga),
        counted(saga.steps.len() as u64, "step"),
        counted(version.0, "event"),
    );
    if let Some(cause) = &saga.turned {
        text.push_str(&format!("it goes back: {cause}\n"));
    }
    if let Some(cause) = &saga.parked {
        text.push_str(&format!("it is parked: {cause}\n"));
    }
    if let Some(cause) = &saga.left_alone {
        text.push_str(&format!("it was left alone: {cause}\n"));
    }
    let mut steps = Columns::new(&[
        ("STEP", Align::Left),
        ("STAGE", Align::Right),
        ("ACTION", Align::Left),
        ("TRIES", Align::Right),
        ("COMPENSATION", Align::Left),
        ("TRIES", Align::Right),
    ]);
    for step in &saga.steps {
        let undone = match (step.is_compensated, step.may_have_happened) {
            (false, _) => "none".into(),
            (true, false) => "-".into(),
            (true, true) => standing_text(&step.compensation),
        };
        steps.row([
            step.name.clone(),
            step.stage.to_string(),
            standing_text(&step.action),
            step.action.attempts.to_string(),
            undone,
            step.compensation.attempts.to_string(),
        ]);
    }
    text.push_str(&steps.to_string());
    let mut happened = Columns::new(&[("TIME", Align::Left), ("EVENT", Align::Left), ("DETAIL", Align::Left)]);
    for (at, event) in events {
        let kind = event.kind().trim_start_matches("saga-");
        happened.row([display_time(*at), kind.to_owned(), detail(saga, event)]);
    }
    text.push('\n');
    text.push_str(&happened.to_string());
    text
}

fn standing_name(standing: &Standing) -> &'static str {
    match standing {
        Standing::Idle => "-",
        Standing::UnderWay { .. } => "under way",
        Standing::Waiting { .. } => "waits",
        Standing::Succeeded => "succeeded",
        Standing::Failed { .. } => "failed",
    }
}

fn standing_text(course: &Course) -> String {
    let name = standing_name(&course.standing);
    match &course.standing {
        Standing::UnderWay { since, .. } => format!("{name} since {}", display_time(*since)),
        Standing::Waiting { until, cause } => format!("{name} until {}: {cause}", display_time(*until)),
        Standing::Failed { cause } => format!("{name}: {cause}"),
        Standing::Idle | Standing::Succeeded => name.into(),
    }
}

fn detail(saga: &Saga, event: &SagaEvent) -> String {
    let attempt = |attempt: &tidelog_client::saga::Attempt| {
        let name = saga.steps.get(usize::from(attempt.step)).map_or("?", |step| step.name.as_str());
        let side = if attempt.side == Side::Action { "" } else { " undone" };
        format!("{name}{side}, try {}", attempt.number)
    };
    match event {
        SagaEvent::Started(started) => match started.deadline {
            Some(deadline) => {
                let ms = deadline.0.saturating_sub(started.at.0);
                let left = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                format!("'{}', to be done within {}", started.definition, display_duration(left))
            }
            None => format!("'{}'", started.definition),
        },
        SagaEvent::Began(began) => format!("{} by {}", attempt(&began.attempt), began.worker),
        SagaEvent::Succeeded(succeeded) => attempt(&succeeded.attempt),
        SagaEvent::Failed(failed) => format!("{}: {}", attempt(&failed.attempt), failed.cause),
        SagaEvent::Interrupted(interrupted) => attempt(&interrupted.attempt),
        SagaEvent::Turned(changed)
        | SagaEvent::Parked(changed)
        | SagaEvent::Resumed(changed)
        | SagaEvent::Done(changed)
        | SagaEvent::Compensated(changed)
        | SagaEvent::Abandoned(changed)
        | SagaEvent::Carried(changed) => changed.cause.clone(),
    }
}

fn document(history: &History) -> Value {
    let History { id, saga, version, events } = history;
    let course = |course: &Course| {
        let (until, cause) = match &course.standing {
            Standing::Waiting { until, cause } => (Some(*until), Some(cause)),
            Standing::Failed { cause } => (None, Some(cause)),
            _ => (None, None),
        };
        let state = match standing_name(&course.standing) {
            "-" => "idle",
            name => name,
        };
        json!({
            "state": state,
            "attempts": course.attempts,
            "failures": course.failures,
            "interruptions": course.interruptions,
            "until": until.map(display_time),
            "cause": cause,
        })
    };
    let step = |step: &tidelog_client::saga::StepState| {
        json!({
            "name": step.name,
            "stage": step.stage,
            "may_have_happened": step.may_have_happened,
            "is_compensated": step.is_compensated,
            "action": course(&step.action),
            "compensation": course(&step.compensation),
        })
    };
    let event = |(at, event): &(Timestamp, SagaEvent)| json!({"at": display_time(*at), "event": event.kind(), "detail": detail(saga, event)});
    json!({
        "id": id,
        "definition": saga.definition,
        "state": State::of(saga).name(),
        "version": version.0,
        "started_at": display_time(saga.started_at),
        "deadline": saga.deadline.map(display_time),
        "turned": saga.turned,
        "parked": saga.parked,
        "left_alone": saga.left_alone,
        "steps": saga.steps.iter().map(step).collect::<Vec<_>>(),
        "events": events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// What it means to a script.
fn saga_failure(error: SagaError) -> Failure {
    match error {
        SagaError::Store(StoreError::Client(error) | StoreError::Consume(ConsumeError::Client(error))) => {
            failure(error)
        }
        error @ SagaError::NotFound(_) => Failure::new(Exit::NotFound, error.to_string()),
        error @ SagaError::Store(StoreError::Argument(_)) => Failure::new(Exit::Usage, error.to_string()),
        error @ SagaError::Append(AppendError::InDoubt(_)) => Failure::new(Exit::Unavailable, error.to_string()),
        error @ SagaError::Refused { .. } => {
            Failure::new(Exit::Failed, error.to_string()).hint("'tidelog sagas show' says how it stands")
        }
        error => Failure::new(Exit::Failed, error.to_string()),
    }
}
