//! In which of the two styles the shop works, and which safety is switched off. Knows nothing of how either works.

use super::demo::Failure;
use super::demo::arguments::Arguments;

/// The style.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A saga asks one service after the other.
    Orchestration(Safety),
    /// Each service reacts to what others tell.
    Choreography(Safety),
}

/// By which a service recognises what it has done before: the keys of a saga's calls, or the ids of events in its inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Safety {
    On,
    /// What comes again is done again: what must not be.
    Off,
}

impl Style {
    /// As the command line says.
    pub fn of(arguments: &mut Arguments) -> Result<Self, Failure> {
        let is_choreography = arguments.switch("--choreography");
        match (is_choreography, arguments.switch("--without-keys"), arguments.switch("--without-inbox")) {
            (true, true, _) => {
                Err("--without-keys is of sagas, and a choreography has none: it has --without-inbox".into())
            }
            (false, _, true) => {
                Err("--without-inbox goes with --choreography alone: without it there is --without-keys".into())
            }
            (true, false, without) => Ok(Self::Choreography(Safety::without(without))),
            (false, without, false) => Ok(Self::Orchestration(Safety::without(without))),
        }
    }

    /// As the command line of a process says it.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Orchestration(Safety::On) => &[],
            Self::Orchestration(Safety::Off) => &["--without-keys"],
            Self::Choreography(Safety::On) => &["--choreography"],
            Self::Choreography(Safety::Off) => &["--choreography", "--without-inbox"],
        }
    }

    /// As the first line of the demo says it.
    pub fn told(self) -> &'static str {
        match self {
            Self::Orchestration(_) => "A saga for each order asks them in turn (orchestration)",
            Self::Choreography(_) => "Each reacts to the events of the others, and nobody conducts them (choreography)",
        }
    }

    /// What is switched off.
    pub fn switched_off(self) -> &'static str {
        match self {
            Self::Orchestration(Safety::Off) => "idempotency keys",
            Self::Choreography(Safety::Off) => "inboxes",
            Self::Orchestration(Safety::On) | Self::Choreography(Safety::On) => "nothing",
        }
    }
}

impl Safety {
    const fn without(is_off: bool) -> Self {
        if is_off { Self::Off } else { Self::On }
    }
}
