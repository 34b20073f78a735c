//! A broker of its own for each test, definitions whose steps note that they were called, and workers. Knows nothing of what is asserted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tidelog_broker::config::PathText;
use tidelog_broker::{Broker, Config};
use tidelog_client::saga::*;
use tidelog_client::{Backoff, Client};
use tidelog_tests::patience::within_limit;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A broker in this process.
pub struct Running {
    pub broker: Broker,
    _folder: TempDir,
}

impl Running {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            data: PathText(folder.path().join("data")),
            disk_free_min_bytes: 0,
            ..Config::default()
        };
        Self { broker: Broker::start(config).await.unwrap(), _folder: folder }
    }

    pub fn server(&self) -> String {
        self.broker.address().to_string()
    }

    /// Sagas over a client of their own, as another process has them.
    pub async fn sagas(&self, partitions: u32) -> Sagas {
        let client = Client::connect(&self.server()).await.unwrap();
        Sagas::of(client.event_store("sagas").create(partitions, None).await.unwrap())
    }
}

/// The calls of steps, in their order.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    pub fn note(&self, call: &Call<String>) {
        self.0.lock().unwrap().push(format!("{}#{}", call.key(), call.attempt()));
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.all().iter().filter(|call| call.contains(part)).count()
    }
}

/// Few tries, with little time in between.
pub const QUICK: RetryPolicy =
    RetryPolicy { attempts: 3, backoff: Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20) } };

/// A step that notes its calls and does what `action` says; what undoes it succeeds.
pub fn step<F, Fut>(calls: &Calls, name: &str, action: F) -> Step<String>
where
    F: Fn(Call<String>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, StepError>> + Send + 'static,
{
    let (doing, undoing) = (calls.clone(), calls.clone());
    let noted = move |call: Call<String>| {
        doing.note(&call);
        action(call)
    };
    let compensation = move |call: Call<String>| {
        undoing.note(&call);
        async { Ok(()) }
    };
    Step::new(name, noted).retry(QUICK).compensation(compensation).compensation_retry(QUICK)
}

/// A step that succeeds.
pub fn fine(calls: &Calls, name: &str) -> Step<String> {
    step(calls, name, async |call| Ok(format!("{} did", call.step())))
}

/// A step that is refused.
pub fn refused(calls: &Calls, name: &str) -> Step<String> {
    step(calls, name, async |_| Err(StepError::refused("no")))
}

/// A worker at work. Dropped, it is gone as if it were killed.
pub struct Working {
    pub figures: WorkerFigures,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), SagaError>>,
}

impl Working {
    pub fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = worker.session_timeout(Duration::from_secs(3));
        let figures = worker.figures();
        let task = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        Self { figures, stop: Some(stop), task }
    }

    /// Has it end what it has under way, and leave.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        within_limit("the worker to end", &mut self.task).await.unwrap().unwrap();
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}
