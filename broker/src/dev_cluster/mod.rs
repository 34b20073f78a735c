//! `--dev-cluster N`: several real broker processes on one machine, for people who want to see a failover. Their folders lie side by side;
//! one that is killed is started again after a moment. In the order of a life:
//! - `seats`: which broker has which address and folder.
//! - `ports`: whether those addresses are to be had.
//! - `place`: whether they are those that the folders were made with.
//! - `keeper`: one broker as a process of its own, its log lines, its next start.
//! - `founding`: who serves, and who votes.
//!
//! Knows nothing of what a broker does.

mod founding;
mod keeper;
mod place;
mod ports;
mod seats;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tidelog_log::small_file::SmallFileError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::peer::PeerError;
use seats::Seat;

/// The most brokers: more is no use on one machine.
const BROKERS_MAX: u32 = 9;
/// Beyond what a broker takes for its own shutdown, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct DevClusterOptions {
    /// How many brokers.
    pub brokers: u32,
    /// As the first of them would be set; the others differ in ports, folder and id.
    pub config: Config,
    /// Arguments that every broker gets.
    pub arguments: Vec<OsString>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum DevClusterError {
    /// The arguments do not make sense.
    #[error("--dev-cluster {0}")]
    Usage(String),
    /// The folder belongs to a single broker.
    #[error("{} holds the data of a single broker, not of several: set data to another folder", .0.display())]
    OneBrokersFolder(PathBuf),
    /// The brokers know each other by other addresses.
    #[error(
        "the brokers in {} were made to listen from {made} on, and know each other by that: set listen={made}, or data to another folder", data.display()
    )]
    Elsewhere {
        /// Their folder.
        data: PathBuf,
        /// Where the first of them listens.
        made: String,
    },
    /// Their folder cannot be made.
    #[error("the folder for the brokers cannot be made: {0}")]
    Folder(std::io::Error),
    /// What is to be remembered of the folder cannot be read or written.
    #[error(transparent)]
    Place(#[from] SmallFileError),
    /// Another program has a port that a broker needs.
    #[error(
        "broker {broker} cannot listen on {address}: {error}; {}; the brokers' ports count up from there",
        crate::port_remedy::port_remedy(key, error)
    )]
    Port {
        /// Which.
        broker: u32,
        /// The config key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The system does not let a process start.
    #[error("cannot start a broker: {0}")]
    Spawn(std::io::Error),
    /// A broker ended before it ever served.
    #[error("broker {broker} ended before it served ({status}); its last lines say why")]
    Ended {
        /// Which.
        broker: u32,
        /// How.
        status: ExitStatus,
    },
    /// The cluster does not come about.
    #[error("the brokers do not become one cluster: {0}")]
    Founding(PeerError),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

/// Called by a broker that [`run`] started: it ends with its parent, however that ends.
///
/// # Errors
/// Where the parent is gone already, or the system refuses.
pub fn end_with(parent: u32) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended just before.
    let is_there = i32::try_from(parent).ok().and_then(Pid::from_raw).is_some_and(|pid| getppid() == Some(pid));
    if is_there { Ok(()) } else { Err(std::io::Error::other("the process that started this broker is gone")) }
}

/// Runs the cluster until `stop`, then ends every broker. To be called on the main thread of a current-thread runtime: brokers end with
/// the thread that started them.
///
/// # Errors
/// [`DevClusterError`]; every broker has ended by then.
pub async fn run(options: DevClusterOptions, stop: CancellationToken) -> Result<(), DevClusterError> {
    let DevClusterOptions { brokers, config, arguments } = options;
    if !(1..=BROKERS_MAX).contains(&brokers) {
        return Err(DevClusterError::Usage(format!("cannot be {brokers}: expected 1 to {BROKERS_MAX}")));
    }
    let seats = seats::assign(&config, brokers)?;
    ports::try_all(&seats)?;
    place::keep(&config.data.0, &seats)?;
    let executable = std::env::current_exe().map_err(DevClusterError::Spawn)?;
    let (ended, mut early_ends) = mpsc::channel(1);
    let serving = watch::Sender::new(false);
    let keeping = Arc::new(keeper::Keeping {
        seats: seats.clone(),
        executable,
        arguments,
        patience: Duration::from_millis(config.shutdown_timeout_ms) + GRACE,
        stop: stop.clone(),
        serving: serving.subscribe(),
        ended,
    });
    let mut keepers = JoinSet::new();
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        Some((broker, status)) = early_ends.recv() => Err(why_it_ended(&seats, broker, status)),
        outcome = found(&seats, &keeping, &mut keepers) => outcome,
    };
    if outcome.is_ok() && !stop.is_cancelled() {
        serving.send_replace(true);
        if let Err(error) = announce(&seats) {
            stop.cancel();
            end(&mut keepers).await;
            return Err(DevClusterError::Output(error));
        }
        stop.cancelled().await;
    }
    stop.cancel();
    end(&mut keepers).await;
    outcome
}

async fn end(keepers: &mut JoinSet<()>) {
    while keepers.join_next().await.is_some() {}
}

/// Somebody may have taken a port since it was tried; else only its log lines say.
fn why_it_ended(seats: &[Seat], broker: u32, status: ExitStatus) -> DevClusterError {
    let seat = seats.iter().find(|seat| seat.broker == broker);
    let tried = seat.map_or(Ok(()), |seat| ports::try_all(std::slice::from_ref(seat)));
    tried.err().unwrap_or(DevClusterError::Ended { broker, status })
}

/// The first alone, since the others join it; where it has been one of several before, it needs them to serve.
async fn found(
    seats: &[Seat],
    keeping: &Arc<keeper::Keeping>,
    keepers: &mut JoinSet<()>,
) -> Result<(), DevClusterError> {
    for (at, seat) in seats.iter().enumerate() {
        keepers.spawn_local(keeper::keep(seat.clone(), keeping.clone()));
        if at == 0 && seat.join.is_none() {
            founding::listens(seat).await;
        }
    }
    for seat in seats {
        founding::serves(seat).await;
    }
    founding::promote(seats).await.map_err(DevClusterError::Founding)
}

fn announce(seats: &[Seat]) -> std::io::Result<()> {
    let addresses: Vec<String> = seats.iter().map(|seat| seat.address.to_string()).collect();
    let addresses = addresses.join(",");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} brokers are ready: {addresses}; try: tidelog --server {addresses} cluster status", seats.len())?;
    out.flush()
}
