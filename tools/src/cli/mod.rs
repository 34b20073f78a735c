//! The grammar of `tidelog` and the way from a command to its file; one file per group of commands. Each file holds the
//! arguments with their help and what is done with them. Knows nothing of frames or files.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::connect::ConnectArgs;
use crate::exit::{EXIT_CODES_HELP, Exit, Failure, conclude};
use crate::output::OutputFormat;

mod ailing;
pub mod cluster;
mod cluster_view;
pub mod consume;
pub(crate) mod consume_group;
pub mod dead_letters;
mod dump_view;
pub mod figures;
mod group_lag;
mod groups;
mod incomplete;
mod leading;
pub mod log;
mod long_values;
pub mod offsets;
pub mod outbox;
pub mod partitions;
pub mod ping;
pub mod produce;
mod produce_transactions;
pub mod records;
pub mod sagas;
mod sources;
mod strays;
mod topic_view;
pub mod topics;
pub mod transactions;
pub mod verify;
mod voting;

/// Talks to a Tidelog broker: manages topics, writes lines as records, reads records as lines.
#[derive(Debug, Parser)]
#[command(name = "tidelog", version, after_help = AFTER_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Where the broker is.
    #[command(flatten)]
    pub connect: ConnectArgs,

    /// How results and failures are printed.
    #[arg(long, value_enum, default_value_t, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub output: OutputFormat,

    /// Say on standard error what is being done, also where that is no terminal.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Exit codes, examples and units: tidelog --help";

/// What stands below the long help; the exit codes follow.
const AFTER_LONG_HELP: &str = "\
Examples:
  tidelog ping --wait 10s
  tidelog topics create logs --partitions 3
  tidelog produce logs < app.log
  tidelog consume logs --from beginning --until-end
  tidelog cluster status
  TIDELOG_SERVER=10.0.0.5:9092 tidelog topics list --output json

Units:
  durations   a number and its unit: 250ms, 10s, 5m, '1m 30s'
  sizes       bytes, or with a unit: 256KiB, 1MiB (steps of 1024), 1MB (steps of 1000)
  times       RFC 3339: 2026-01-31T12:00:00Z

Results go to standard output, everything else to standard error. With --output json the result is one JSON document; where
records come one by one ('consume', 'log dump') it is one JSON object per line. A failure is then one line on standard error,
{\"error\":{\"exit_code\":3,\"message\":\"…\",\"hint\":\"…\"}}, but for a wrong command line (exit code 2), which is always text.
";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, list, describe, alter and delete topics.
    #[command(subcommand, visible_alias = "topic")]
    Topics(topics::TopicsCommand),
    /// Write lines as records.
    Produce(produce::ProduceArgs),
    /// Read records as lines.
    Consume(consume::ConsumeArgs),
    /// Show the offsets of a topic's partitions.
    Offsets(offsets::OffsetsArgs),
    /// Show how the cluster stands, move replicas, change voters, remove brokers.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show who holds and leads partitions.
    #[command(subcommand, visible_alias = "partition")]
    Partitions(partitions::PartitionsCommand),
    /// Show consumer groups and how far they are, set where they go on.
    #[command(subcommand, visible_alias = "group")]
    Groups(groups::GroupsCommand),
    /// Show transactional producers and what they have open, undo what they do not end.
    #[command(subcommand, visible_alias = "transaction")]
    Transactions(transactions::TransactionsCommand),
    /// Show records that consumers could not process, and send them back.
    #[command(subcommand, visible_alias = "dead-letter")]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Publish the events of an application's outbox, show what waits there.
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Show what several services do together, go on with what is parked, give it up.
    #[command(subcommand, visible_alias = "saga")]
    Sagas(sagas::SagasCommand),
    /// Run a workload against a live cluster and judge whether something was lost, doubled, reordered or made up.
    Verify(verify::VerifyArgs),
    /// Delete records.
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Ask the broker whether it is there.
    Ping(ping::PingArgs),
    /// Look into the files of a log, without a broker.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  tidelog completions bash > /etc/bash_completion.d/tidelog")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What every command needs to know besides its own arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the broker is.
    pub connect: ConnectArgs,
    /// How results are printed.
    pub output: OutputFormat,
    /// Whether to talk on standard error.
    pub verbosity: Verbosity,
}

/// Whether a command talks on standard error beside its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verbosity {
    /// Only errors.
    Quiet,
    /// Progress and a closing line.
    Talking,
}

impl Verbosity {
    /// Talking on a terminal or where it was asked for; quiet in a pipe.
    #[must_use]
    pub fn chosen(asked_for: bool) -> Self {
        if asked_for || std::io::IsTerminal::is_terminal(&std::io::stderr()) { Self::Talking } else { Self::Quiet }
    }

    /// Says a line, where talking.
    pub fn say(self, line: impl std::fmt::Display) {
        if self == Self::Talking {
            eprintln!("{line}");
        }
    }
}

/// The grammar as clap has it, with the exit codes below the help.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command().after_long_help(format!("{AFTER_LONG_HELP}\n{EXIT_CODES_HELP}"))
}

/// Runs `tidelog` with the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = command().try_get_matches().unwrap_or_else(|error| long_values::cut(error).exit());
    let cli = match <Cli as clap::FromArgMatches>::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => long_values::cut(error.format(&mut command())).exit(),
    };
    let output = cli.output;
    conclude(run(cli), output)
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context { connect: cli.connect, output: cli.output, verbosity: Verbosity::chosen(cli.verbose) };
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "tidelog", &mut script);
            crate::output::print_text(&String::from_utf8_lossy(&script)).map_err(|error| Failure::stdout(&error))?;
            Ok(Exit::Done)
        }
        Command::Log(command) => log::run(command, &context),
        command => crate::connect::block_on(context.connect.explaining(async {
            match command {
                Command::Topics(command) => context.connect.in_time(topics::run(command, &context)).await,
                Command::Produce(args) => produce::run(args, &context).await,
                Command::Consume(args) => consume::run(args, &context).await,
                Command::Offsets(args) => context.connect.in_time(offsets::run(args, &context)).await,
                Command::Cluster(command) => cluster::run(command, &context).await,
                Command::Partitions(command) => context.connect.in_time(partitions::run(command, &context)).await,
                Command::Groups(command) => groups::run(command, &context).await,
                Command::Transactions(command) => context.connect.in_time(transactions::run(command, &context)).await,
                Command::DeadLetters(command) => dead_letters::run(command, &context).await,
                Command::Outbox(command) => outbox::run(command, &context).await,
                Command::Sagas(command) => context.connect.in_time(sagas::run(command, &context)).await,
                Command::Verify(args) => verify::run(args, &context).await,
                Command::Records(command) => context.connect.in_time(records::run(command, &context)).await,
                Command::Ping(args) => ping::run(args, &context).await,
                Command::Log(_) | Command::Completions { .. } => unreachable!("handled without a broker above"),
            }
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = [&["tidelog"], arguments].concat();
        command().try_get_matches_from(arguments).unwrap_err().to_string()
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_help_states_units_and_exit_codes() {
        let help = command().render_long_help().to_string();
        for part in [
            "250ms, 10s",
            "256KiB",
            "RFC 3339",
            "TIDELOG_SERVER",
            "130  interrupted",
            "one JSON object per line",
            "{\"error\":",
        ] {
            assert!(help.contains(part), "{part:?} is missing");
        }
    }

    #[test]
    fn a_wrong_command_line_is_told_what_would_be_right() {
        for (arguments, part) in [
            (&["produc", "x"][..], "'produce'"),
            (&["consume", "x", "--fomat", "json"], "'--format'"),
            (&["consume", "x", "--from", "earliest"], "beginning, end, offset:N"),
            (&["topics", "create", "../x"], "letters, digits"),
            (&["topics", "create", "x", "--partitions", "0"], "0 is not in 1.."),
            (&["topics", "create", "x", "--config", "novalue"], "is no KEY=VALUE"),
            (&["produce", "x", "--header", "novalue"], "is no NAME=VALUE"),
            (&["topics", "alter", "x"], "--config <KEY=VALUE>"),
            (&["produce", "x", "--acks", "most"], "none, leader, all"),
            (&["produce", "x", "--linger", "5"], "5ms or 5s"),
            (&["--server", "host:0", "ping"], "1 to 65535"),
            (&["cluster", "reassign"], "--topic <TOPIC>"),
            (&["cluster", "reassign", "--topic", "x", "--partition", "0"], "--replicas <BROKER,…>"),
            (&["cluster", "reassign", "--topic", "x", "--partition", "0", "--replicas", "1,a"], "'a'"),
            (&["cluster", "elect", "--topic", "x", "--partition", "0", "--unclean", "1"], "--accept-loss"),
            (&["cluster", "elect", "--topic", "x"], "--partition <N>"),
            (&["cluster", "drain", "1", "--cancel", "--dry-run"], "cannot be used with"),
            (&["cluster", "promote"], "<BROKER>"),
            (&["consume", "x", "--isolation", "dirty"], "committed, uncommitted"),
            (&["produce", "x", "--records-per-transaction", "5"], "--transactional-id <ID>"),
            (&["produce", "x", "--transactional-id", "i", "--records-per-transaction", "0"], "0 is not in 1.."),
            (&["transactions", "abort"], "<ID>"),
            (&["outbox", "relay", "--database", "sqlite:x", "--shards", "0"], "0 is not in 1..=256"),
            (&["outbox", "status"], "--database <URL>"),
            (&["outbox", "status", "--database", "sqlite:x", "--column", "key=k"], "aggregatetype, aggregateid"),
            (&["outbox", "status", "--database", "sqlite:x", "--column", "id"], "id=event_id"),
            (&["outbox", "status", "--database", "sqlite:x", "--table", "a b"], "letters, digits"),
            (&["sagas", "abandon", "x"], "--reason <TEXT>"),
            (&["sagas", "list", "--state", "odd"], "parked"),
            (&["records", "delete", "x", "--partition", "0"], "--before <OFFSET>"),
        ] {
            let refused = refusal(arguments);
            assert!(refused.contains(part), "{arguments:?}: {refused}");
        }
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for arguments in [
            ["tidelog", "--output", "json", "topics", "list"],
            ["tidelog", "topics", "--output", "json", "list"],
            ["tidelog", "topics", "list", "--output", "json"],
        ] {
            assert_eq!(Cli::try_parse_from(arguments).unwrap().output, OutputFormat::Json);
        }
    }
}
