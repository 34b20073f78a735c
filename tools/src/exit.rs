//! How a command ends: the table of exit codes, and the failure that carries one. Knows nothing of commands.
//! Every binary of this package ends through [`Exit`], so that scripts can tell the cases apart.

use std::fmt;
use std::process::ExitCode;

use crate::output::OutputFormat;

/// The exit codes. They are part of the interface: scripts rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed, or the broker refused it; the message says why.
    Failed = 1,
    /// The command line is wrong: nothing was asked.
    Usage = 2,
    /// The topic, partition, broker, offset or file does not exist.
    NotFound = 3,
    /// The broker could not be reached, did not answer in time, or is overloaded: the same command may succeed later.
    Unavailable = 4,
    /// It exists already.
    Exists = 5,
    /// Stored bytes are damaged.
    Damaged = 6,
    /// The cluster is not settled: something of it is away, behind or on the move.
    Unsettled = 7,
    /// Done in part: what could be found out, or done, was, and what could not is named.
    Partial = 8,
    /// There was nothing to judge.
    NoVerdict = 9,
    /// Interrupted (Ctrl-C, or SIGTERM) before it was done.
    Interrupted = 130,
}

/// The table of exit codes as `--help` shows it.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  failed, or refused by the broker; the message says why
    2  the command line is wrong; nothing was asked
    3  the topic, partition, broker, offset or file does not exist
    4  the broker is unreachable, too slow or overloaded; the same command may succeed later
    5  exists already
    6  stored bytes are damaged
    7  the cluster is not settled ('cluster status', 'partitions describe')
    8  done in part; what is missing, or left, is named on standard error
    9  nothing was acknowledged, so there was nothing to judge ('verify')
  130  interrupted (Ctrl-C or SIGTERM) before it was done";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked: an exit code for scripts, a sentence for people, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    /// False where no broker was reached at all.
    is_within_a_cluster: bool,
}

impl Failure {
    /// A failure that ends with `exit`. The message starts in lower case and names what it is about.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_within_a_cluster: true }
    }

    /// No broker was reached at all, so none can say more.
    #[must_use]
    pub fn outside_of_a_cluster(mut self) -> Self {
        self.is_within_a_cluster = false;
        self
    }

    /// Something was done all the same, and shown.
    #[must_use]
    pub const fn in_part(mut self) -> Self {
        self.exit = Exit::Partial;
        self
    }

    /// Whether a broker may say more.
    #[must_use]
    pub const fn is_within_a_cluster(&self) -> bool {
        self.is_within_a_cluster
    }

    /// Adds what to do about it: a command, a flag, or a place to look.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says before the message what it is about.
    #[must_use]
    pub fn prefix(mut self, about: impl fmt::Display) -> Self {
        self.message = format!("{about}: {}", self.message);
        self
    }

    /// Says behind the message what was done all the same.
    #[must_use]
    pub fn suffix(mut self, done: impl fmt::Display) -> Self {
        self.message = format!("{}; {done}", self.message);
        self
    }

    /// The failure for programs; its keys are part of the interface.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"error": {"exit_code": self.exit as u8, "message": self.message, "hint": self.hint}})
    }

    /// How the process ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Standard output cannot be written to.
    #[must_use]
    pub fn stdout(error: &std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot write to standard output: {error}"))
    }

    /// A failed operation on a file.
    pub fn file(path: impl fmt::Display, error: &std::io::Error) -> Self {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Self::new(exit, format!("{path}: {error}"))
    }
}

impl fmt::Display for Failure {
    /// `error: …`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Reports the end of a command on standard error, as a sentence or as one line of JSON, and turns it into the exit code of the
/// process.
#[must_use]
pub fn conclude(result: Result<Exit, Failure>, format: OutputFormat) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            match format {
                OutputFormat::Table => eprintln!("{failure}"),
                OutputFormat::Json => eprintln!("{}", failure.json()),
            }
            failure.exit().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unavailable,
            Exit::Exists,
            Exit::Damaged,
            Exit::Unsettled,
            Exit::Partial,
            Exit::NoVerdict,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> = EXIT_CODES_HELP
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(listed, codes.map(|exit| exit as u8));
    }

    #[test]
    fn a_missing_file_is_told_from_a_refused_one() {
        let missing = Failure::file("x", &std::io::ErrorKind::NotFound.into());
        assert_eq!(missing.exit(), Exit::NotFound);
        assert_eq!(Failure::file("x", &std::io::ErrorKind::PermissionDenied.into()).exit(), Exit::Failed);
    }

    #[test]
    fn the_hint_stands_on_its_own_line() {
        let failure = Failure::new(Exit::NotFound, "no topic 'logs'").hint("create it: tidelog topics create logs");
        assert_eq!(failure.to_string(), "error: no topic 'logs'\n  hint: create it: tidelog topics create logs");
    }
}
