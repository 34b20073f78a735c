//! Being asked to stop: Ctrl-C, or SIGTERM as a supervisor sends it. From when it is listened for on, neither ends the process by itself, and
//! none is missed. Knows nothing of what is stopped.

use std::pin::pin;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// What asks to stop.
#[derive(Debug)]
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
    is_asked: bool,
}

impl StopSignal {
    /// Listens from now on. To be called within a runtime.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))
        };
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, is_asked: false })
    }

    /// Resolves once it is asked to stop, and from then on at once.
    pub async fn received(&mut self) {
        if !self.is_asked {
            self.next().await;
        }
    }

    /// What has to be done although it is asked to stop; `None` where it is asked a second time before that is done.
    pub async fn unless_again<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let was_asked = self.is_asked;
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.next() => {}
            }
            if was_asked {
                return None;
            }
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.is_asked = true;
    }
}
