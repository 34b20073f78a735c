//! What the demos share: their command line, processes that can be killed and what kills them, a cluster of three brokers, and a timeline to look at. Knows nothing of what a demo shows.
#![allow(dead_code, reason = "each demo uses a part")]

pub mod arguments;
pub mod cast;
pub mod chaos;
pub mod cluster;
pub mod timeline;

use std::process::ExitCode;

/// What goes wrong in a demo, in a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How a process of a demo ends: well, with a bad verdict, or since it could not go on.
pub fn conclude(ended: Result<bool, Failure>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
