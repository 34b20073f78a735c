//! Which records are read, as the command line says it. Knows nothing of transactions.

use tidelog_client::Isolation;

/// Which records are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum IsolationArg {
    /// Those of committed transactions and of none; a partition waits where one is open.
    #[default]
    #[value(alias = "read_committed")]
    Committed,
    /// All, at once: those of transactions that are open or were undone, too.
    #[value(alias = "read_uncommitted")]
    Uncommitted,
}

impl IsolationArg {
    /// The same to the client.
    #[must_use]
    pub const fn isolation(self) -> Isolation {
        match self {
            Self::Committed => Isolation::ReadCommitted,
            Self::Uncommitted => Isolation::ReadUncommitted,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Uncommitted => "uncommitted",
        }
    }
}
