//! Log lines on standard error, as text or JSON. Knows nothing of what is logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Config, LogFormat};

/// The consensus library tells each of its steps at level info, and what it says of unreachable members the broker says once.
const QUIET: &str = "openraft=off";

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error(
        "config key 'log_level' cannot be '{value}': expected error, warn, info, debug, trace, or a list of target=level"
    )]
    Filter {
        /// As configured.
        value: String,
    },
}

/// Starts logging for the whole process, once; an application that has set up its own keeps it.
///
/// # Errors
/// [`LoggingError`].
pub fn start(config: &Config) -> Result<(), LoggingError> {
    // A lone word that is no level would be taken for a target, and silence everything else.
    let is_level = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if !config.log_level.split(',').all(is_level) {
        return Err(LoggingError::Filter { value: config.log_level.clone() });
    }
    // What a filter says about a target of its own comes last, so whoever asks for the library's lines gets them.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log_level))
        .map_err(|_| LoggingError::Filter { value: config.log_level.clone() })?;
    // Where nobody takes the lines any more (a closed pipe, a full disk), the broker goes on without them: the complaint about a line that
    // was not written would go the same way, and take down whatever was just logging.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    let started = match config.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was set up already");
    }
    Ok(())
}
