//! One broker as a process of its own: starts it, hands its log lines on under its name, starts it again where it ended by itself, and ends
//! it when told to. Knows nothing of the others.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::founding;
use super::seats::{Seat, Start};

/// Before a broker that ended is started again: long enough to be seen.
const PAUSE: Duration = Duration::from_secs(1);
/// At most, where it ends again and again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// One that served this long has not just failed to start.
const SERVED: Duration = Duration::from_secs(10);

/// What all brokers are kept by.
#[derive(Debug)]
pub(super) struct Keeping {
    /// All of them.
    pub(super) seats: Vec<Seat>,
    /// The program.
    pub(super) executable: PathBuf,
    /// Arguments that all get.
    pub(super) arguments: Vec<OsString>,
    /// How long a broker may take to end.
    pub(super) patience: Duration,
    /// Set when all shall end.
    pub(super) stop: CancellationToken,
    /// True once all have served together; before, one that ends is no accident.
    pub(super) serving: watch::Receiver<bool>,
    /// Those that ended before.
    pub(super) ended: mpsc::Sender<(u32, ExitStatus)>,
}

/// Keeps a broker running until all shall end.
pub(super) async fn keep(seat: Seat, keeping: Arc<Keeping>) {
    let (mut pause, mut which) = (PAUSE, Start::First);
    let mut voting = JoinSet::new();
    loop {
        let began = Instant::now();
        let ended = match start(&seat, &keeping, which) {
            Ok(child) => match until_it_ends(&seat, &keeping, child).await {
                Some(status) => status.to_string(),
                None => return,
            },
            Err(error) => format!("cannot be started: {error}"),
        };
        if keeping.stop.is_cancelled() {
            return;
        }
        pause = if began.elapsed() > SERVED { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        say(seat.broker, &format!("ended ({ended}); starting it again in {} s", pause.as_secs()));
        which = Start::Again;
        voting.abort_all();
        // Before it starts: a new life of its folder takes the vote of the old one away.
        let pause = async { tokio::join!(tokio::time::sleep(pause), founding::votes(&keeping.seats, seat.broker)).1 };
        let voted = tokio::select! {
            voted = pause => voted,
            () = keeping.stop.cancelled() => return,
        };
        if voted == Some(true) {
            voting.spawn_local(vote_again(seat.clone()));
        }
    }
}

async fn vote_again(seat: Seat) {
    if let Err(error) = founding::votes_again(&seat).await {
        say(seat.broker, &format!("does not vote any more: {error}"));
    }
}

fn start(seat: &Seat, keeping: &Keeping, which: Start) -> std::io::Result<Child> {
    let child = Command::new(&keeping.executable)
        .args(&keeping.arguments)
        .args(seat.settings(which))
        .arg(format!("--ends-with={}", std::process::id()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    say(seat.broker, &format!("started as process {}", child.id().unwrap_or_default()));
    Ok(child)
}

/// How it ended by itself; `None` where that was asked for, or ended the whole.
async fn until_it_ends(seat: &Seat, keeping: &Keeping, mut child: Child) -> Option<ExitStatus> {
    let lines = (child.stdout.take(), child.stderr.take());
    let broker = seat.broker;
    let handed_on = async move {
        tokio::join!(hand_on(broker, lines.0), hand_on(broker, lines.1));
    };
    let lines = tokio::task::spawn_local(handed_on);
    let status = tokio::select! {
        status = child.wait() => Some(status),
        () = keeping.stop.cancelled() => None,
    };
    let status = match status {
        Some(Ok(status)) => status,
        // It cannot be waited for: end it, and try again.
        Some(Err(error)) => {
            say(broker, &format!("cannot be waited for: {error}"));
            // Where that fails as well it has ended, and is started anew.
            let _ = child.kill().await;
            return None;
        }
        None => {
            end(broker, keeping, &mut child).await;
            let _ = lines.await;
            return None;
        }
    };
    // What it said last comes before what is said of it.
    let _ = lines.await;
    if !*keeping.serving.borrow() {
        let _ = keeping.ended.try_send((broker, status));
        return None;
    }
    Some(status)
}

async fn end(broker: u32, keeping: &Keeping, child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has ended already needs no word.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(keeping.patience, child.wait()).await.is_err() {
        say(broker, &format!("has not ended within {:?}; killed", keeping.patience));
        // One that ends just now needs no kill.
        let _ = child.kill().await;
    }
}

async fn hand_on(broker: u32, from: Option<impl AsyncRead + Unpin>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    // A line that is no text ends it: a broker writes none.
    while let Ok(Some(line)) = lines.next_line().await {
        say(broker, &line);
    }
}

/// Nobody may read it any more, which is no reason to end brokers.
fn say(broker: u32, line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "broker-{broker} | {line}");
}
