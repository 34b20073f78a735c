//! `tidelog outbox`: publishes the events of an application's outbox, and shows what waits there and what cannot be sent.

use std::convert::Infallible;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidelog_client::outbox::{
    Backlog, Column, DeadEvent, Outbox, Relay, RelayError, RelayFigures, Schema, Settling, Store,
};
use tidelog_client::sql::{DatabaseError, Name, open_existing_sqlite, open_postgres, open_sqlite};
use tidelog_client::{ConsumeError, Timestamp};

use super::{Context, topics::print};
use crate::byte_size::counted;
use crate::connect::{failure, send_failure, transaction_failure};
use crate::duration::{display_duration, parse_duration};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Columns};
use crate::start_position::display_time;
use crate::stop_signal::StopSignal;

/// What to do with an outbox.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Publish what is staged, until interrupted.
    #[command(after_help = "\
Run as many as you like: of each shard one is active, and another takes over where it ends. What passes (a database or cluster that is away, a
topic that does not exist yet) is waited for and said on standard error; it ends only where a person must act.

Examples:
  tidelog outbox relay --database sqlite:shop.db --migrate --create-topics 3
  tidelog outbox relay --database postgres://shop@db/shop --shards 4
  tidelog outbox relay --database postgres://shop@db/shop --table shop.events --column id=event_id --column type=kind
  tidelog outbox relay --database sqlite:shop.db --until-empty")]
    Relay(RelayArgs),
    /// Make the tables of the outbox, or bring them up to date.
    Migrate(DatabaseArgs),
    /// Show what waits, and for how long.
    Status(DatabaseArgs),
    /// List events that were set aside, as they cannot be sent, with the cause.
    DeadLetters {
        /// Which outbox.
        #[command(flatten)]
        database: DatabaseArgs,
        /// Show this many at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        max: u32,
    },
    /// Put events that were set aside behind all that waits, to be sent once more.
    Revive {
        /// Which outbox.
        #[command(flatten)]
        database: DatabaseArgs,
        /// The number of the event, as 'dead-letters' shows it; all of them if absent.
        #[arg(value_name = "SEQ")]
        seq: Option<i64>,
    },
    /// Divide the outbox among another number of shards. Stop its relays before, and start them with that number.
    Reshard {
        /// Which outbox.
        #[command(flatten)]
        database: DatabaseArgs,
        /// The relay's name.
        #[arg(long, default_value = "outbox")]
        name: String,
        /// How many.
        #[arg(value_name = "SHARDS", value_parser = clap::value_parser!(u32).range(1..=256))]
        shards: u32,
    },
}

/// Where the outbox is.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// The database: sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME.
    #[arg(long, value_name = "URL", env = "TIDELOG_DATABASE", hide_env_values = true)]
    database: String,
    /// The table of the outbox; others beside it have its name and an ending.
    #[arg(long, value_name = "NAME", default_value = "outboxevent", value_parser = parse_name)]
    table: Name,
    /// Another name for one of its columns (id, aggregatetype, aggregateid, type, payload); may be repeated.
    #[arg(long = "column", value_name = "COLUMN=NAME", value_parser = parse_column)]
    columns: Vec<(Column, Name)>,
}

impl DatabaseArgs {
    fn schema(&self) -> Schema {
        let named = |schema: Schema, (column, name): &(Column, Name)| schema.column(*column, name.clone());
        self.columns.iter().fold(Schema::default().table(self.table.clone()), named)
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn parse_column(text: &str) -> Result<(Column, Name), String> {
    let (column, name) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is no COLUMN=NAME, such as id=event_id"))?;
    let found = Column::ALL.into_iter().find(|known| known.usual_name() == column);
    let names = || Column::ALL.map(Column::usual_name).join(", ");
    let found = found.ok_or_else(|| format!("{column:?} is no column of an outbox: {}", names()))?;
    Ok((found, parse_name(name)?))
}

/// Arguments of `outbox relay`.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Which outbox.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Make the tables first, where they are missing.
    #[arg(long)]
    migrate: bool,
    /// The relay's name in the cluster: another for each outbox, and the same for all relays of one.
    #[arg(long, default_value = "outbox")]
    name: String,
    /// What stands before the aggregate type in the names of topics.
    #[arg(long, value_name = "PREFIX", default_value = "outbox.event.")]
    topic_prefix: String,
    /// Among how many shards aggregates are divided; all relays must say the same.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Events in one transaction at most.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_rows: u32,
    /// After how long another relay takes over from one that was killed.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    lease: Duration,
    /// Create topics that do not exist, with this many partitions; else events wait for them.
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    create_topics: Option<u32>,
    /// Replicas of topics that it creates; the cluster's default if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replication_factor: Option<u16>,
    /// Keep published rows, with the time in 'published_ms', instead of deleting them.
    #[arg(long)]
    keep: bool,
    /// End as nothing waits, also where another relay published it.
    #[arg(long)]
    until_empty: bool,
}

pub(super) async fn run(command: OutboxCommand, context: &Context) -> Result<Exit, Failure> {
    let database = match &command {
        OutboxCommand::Relay(RelayArgs { database, .. })
        | OutboxCommand::Migrate(database)
        | OutboxCommand::Status(database)
        | OutboxCommand::DeadLetters { database, .. }
        | OutboxCommand::Revive { database, .. }
        | OutboxCommand::Reshard { database, .. } => database,
    };
    let (schema, database) = (database.schema(), database.database.clone());
    if database.starts_with("sqlite:") {
        // A path that was mistyped makes no database, but for those that are to make the tables.
        let makes =
            matches!(command, OutboxCommand::Migrate(_) | OutboxCommand::Relay(RelayArgs { migrate: true, .. }));
        let pool = if makes { open_sqlite(&database).await } else { open_existing_sqlite(&database).await };
        let pool = pool.map_err(database_failure)?;
        run_on(Outbox::sqlite_with(pool, schema), command, context).await
    } else if database.starts_with("postgres:") || database.starts_with("postgresql:") {
        let pool = open_postgres(&database).await.map_err(database_failure)?;
        run_on(Outbox::postgres_with(pool, schema), command, context).await
    } else {
        Err(Failure::new(Exit::Usage, "the database is none that can be opened")
            .hint("--database sqlite:FILE or --database postgres://USER@HOST/NAME"))
    }
}

async fn run_on<S: Store>(outbox: Outbox<S>, command: OutboxCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        OutboxCommand::Relay(args) => return relay(outbox, args, context).await,
        OutboxCommand::Migrate(_) => {
            outbox.migrate().await.map_err(database_failure)?;
            print(context, "the tables of the outbox are there\n", || json!({"migrated": true}))?;
        }
        OutboxCommand::Status(_) => {
            let backlog = outbox.backlog().await.map_err(database_failure)?;
            print(context, &status_text(backlog), || status_json(backlog))?;
        }
        OutboxCommand::DeadLetters { max, .. } => {
            let dead = outbox.dead_events(max).await.map_err(database_failure)?;
            print(
                context,
                &dead_text(&dead),
                || json!({"dead_letters": dead.iter().map(dead_json).collect::<Vec<_>>()}),
            )?;
        }
        OutboxCommand::Revive { seq, .. } => {
            let revived = outbox.revive(seq).await.map_err(database_failure)?;
            if revived == 0 && seq.is_some() {
                return Err(Failure::new(Exit::NotFound, "no event of this number was set aside"));
            }
            let text = format!("{} put behind all that waits\n", counted(revived, "event"));
            print(context, &text, || json!({"revived": revived}))?;
        }
        OutboxCommand::Reshard { name, shards, .. } => {
            let client = context.connect.client("tidelog").await?;
            outbox.relay(client).name(name).reshard(shards).await.map_err(relay_failure)?;
            print(context, &format!("the outbox is divided among {shards} shards\n"), || json!({"shards": shards}))?;
        }
    }
    Ok(Exit::Done)
}

async fn relay<S: Store>(outbox: Outbox<S>, args: RelayArgs, context: &Context) -> Result<Exit, Failure> {
    let mut stop = StopSignal::listen()?;
    if args.migrate {
        outbox.migrate().await.map_err(database_failure)?;
    }
    let client = tokio::select! {
        client = context.connect.client("tidelog-outbox-relay") => client?,
        () = stop.received() => return Ok(Exit::Interrupted),
    };
    let mut relay = outbox
        .relay(client)
        .name(args.name)
        .topic_prefix(args.topic_prefix)
        .shards(args.shards)
        .batch_rows(args.batch_rows)
        .lease(args.lease)
        .settling(if args.keep { Settling::Mark } else { Settling::Delete });
    relay = args.create_topics.into_iter().fold(relay, Relay::create_topics);
    relay = args.replication_factor.into_iter().fold(relay, Relay::replication_factor);
    let figures = relay.figures();
    if args.until_empty {
        let drained = tokio::select! {
            drained = relay.drain() => drained,
            // What it has open is undone by the relay that comes next.
            () = stop.received() => return Ok(Exit::Interrupted),
            never = talk(&figures, context) => match never {},
        };
        let published = drained.map_err(relay_failure)?;
        print(context, &format!("{} published\n", counted(published, "event")), || json!({"published": published}))?;
        return Ok(Exit::Done);
    }
    let ended = tokio::select! {
        ended = relay.run(async move { stop.received().await }) => ended,
        never = talk(&figures, context) => match never {},
    };
    ended.map_err(relay_failure)?;
    let published = figures.now().published;
    print(
        context,
        &format!("stopped; {} published\n", counted(published, "event")),
        || json!({"published": published}),
    )?;
    Ok(Exit::Done)
}

/// Says on standard error what stands in the way, and every so often how it stands; for as long as it is asked to.
async fn talk(figures: &RelayFigures, context: &Context) -> Infallible {
    let mut said = None;
    let mut is_standing_by = false;
    let mut before = 0;
    let mut second = 0_u64;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second += 1;
        let now = figures.now();
        if now.trouble != said {
            match &now.trouble {
                // What stands in the way is said also in a pipe: it is all that a log will show.
                Some(trouble) => eprintln!("waiting: {trouble}"),
                None => eprintln!("going on"),
            }
            said.clone_from(&now.trouble);
        }
        if is_standing_by == now.stands_by.is_empty() {
            is_standing_by = !is_standing_by;
            if is_standing_by {
                let shards: Vec<_> = now.stands_by.iter().map(u32::to_string).collect();
                eprintln!("standing by: another relay has shard {}", shards.join(", "));
            }
        }
        if second.is_multiple_of(10) && now.published != before {
            let lag = display_duration(Duration::from_millis(u64::try_from(now.lag.as_millis()).unwrap_or(u64::MAX)));
            context.verbosity.say(format!("{} published, lag {lag}, {} set aside", now.published, now.dead));
            before = now.published;
        }
    }
}

fn status_text(backlog: Backlog) -> String {
    let waiting = counted(backlog.rows, "event");
    let oldest =
        if backlog.rows > 0 { format!(", the oldest for {}", display_duration(backlog.age)) } else { String::new() };
    let aside = counted(backlog.dead, "event");
    format!("{waiting} to be published{oldest}\n{aside} set aside, as they cannot be sent\n")
}

fn status_json(backlog: Backlog) -> Value {
    json!({"waiting": backlog.rows, "oldest_ms": backlog.age.as_millis() as u64, "dead": backlog.dead})
}

fn dead_text(dead: &[DeadEvent]) -> String {
    let columns = [
        ("SEQ", Align::Right),
        ("SINCE", Align::Left),
        ("AGGREGATE", Align::Left),
        ("TYPE", Align::Left),
        ("BYTES", Align::Right),
        ("CAUSE", Align::Left),
    ];
    let mut table = Columns::new(&columns);
    for event in dead {
        table.row([
            event.seq.to_string(),
            display_time(Timestamp(event.dead_ms)),
            format!("{} {}", event.aggregate_type, event.aggregate_id),
            event.event_type.clone(),
            event.payload_bytes.to_string(),
            event.cause.clone(),
        ]);
    }
    table.to_string()
}

fn dead_json(event: &DeadEvent) -> Value {
    json!({
        "seq": event.seq,
        "id": event.id,
        "aggregate_type": event.aggregate_type,
        "aggregate_id": event.aggregate_id,
        "type": event.event_type,
        "payload_bytes": event.payload_bytes,
        "cause": event.cause,
        "dead_ms": event.dead_ms,
    })
}

/// What the database's refusal means to a script.
fn database_failure(error: DatabaseError) -> Failure {
    match error {
        error @ (DatabaseError::Missing(_) | DatabaseError::Absent { .. }) => {
            Failure::new(Exit::NotFound, error.to_string()).hint("'tidelog outbox migrate' makes the tables")
        }
        error @ DatabaseError::Passing(_) => Failure::new(Exit::Unavailable, error.to_string()),
        error => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// What the end of a relay means to a script.
fn relay_failure(error: RelayError) -> Failure {
    match error {
        RelayError::Database(error) => database_failure(error),
        RelayError::Client(error) | RelayError::Consume(ConsumeError::Client(error)) => failure(error),
        RelayError::Send(error) => send_failure(error),
        RelayError::Transaction(error) => transaction_failure(error),
        error @ RelayError::Active { .. } => Failure::new(Exit::Unavailable, error.to_string()),
        error @ RelayError::Argument(_) => Failure::new(Exit::Usage, error.to_string()),
        error => Failure::new(Exit::Failed, error.to_string()),
    }
}
