//! The saga of an order: each service is asked in turn; what undoes that asks it, too. And the worker that drives such sagas.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::saga::{Call, Definition, DefinitionError, RetryPolicy, SagaError, Sagas, Step, StepError};
use tidelog_client::{Backoff, GroupError};

use super::demo::Failure;
use super::demo::arguments::Arguments;
use super::order::Order;
use super::service::{NO_KEY, SERVICES, ask};

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is not shipped by then is undone, also where a service is still at it.
const DEADLINE: Duration = Duration::from_secs(4);

/// How services are asked.
struct Asking {
    folder: PathBuf,
    /// The safety is switched off: no call is recognised where it comes again.
    without_keys: bool,
}

/// What an order means to its services.
pub fn fulfilment(folder: &Path, without_keys: bool) -> Result<Definition<Order>, DefinitionError> {
    let asking = Arc::new(Asking { folder: folder.into(), without_keys });
    let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
    let mut definition = Definition::named("order");
    for (service, _) in SERVICES {
        let (doing, undoing) = (Arc::clone(&asking), Arc::clone(&asking));
        let done = move |call| {
            let doing = asked(Arc::clone(&doing), "do", call);
            async { doing.await.map(|()| "") }
        };
        let step = Step::new(service, done)
            .compensation(move |call| asked(Arc::clone(&undoing), "undo", call))
            .retry(RetryPolicy { attempts: 8, backoff })
            .timeout(PATIENCE)
            .compensation_retry(RetryPolicy { attempts: 15, backoff })
            .compensation_timeout(PATIENCE);
        definition = definition.step(step);
    }
    definition.deadline(DEADLINE).build()
}

/// How much of what a service deals in an order takes.
pub fn amount(service: &str, order: &Order) -> i64 {
    match service {
        "inventory" => order.pieces,
        "payment" => order.cents,
        _ => 1,
    }
}

async fn asked(asking: Arc<Asking>, what: &str, call: Call<Order>) -> Result<(), StepError> {
    let (service, order) = (call.step(), call.input());
    let luck = match service {
        "payment" => order.card,
        "shipping" => order.street,
        _ => 100,
    };
    let key = if asking.without_keys { NO_KEY } else { call.action_key() };
    let line = format!("{what} {key} {} {} {luck}", call.saga(), amount(service, order));
    let answer = ask(&asking.folder, service, &line).await?;
    match answer.split_once(' ').unwrap_or((&answer, "")) {
        ("ok", _) => Ok(()),
        ("refused", why) => Err(StepError::refused(why)),
        (_, why) => Err(StepError::failed(if why.is_empty() { "the answer is torn" } else { why })),
    }
}

/// Drives sagas until it is killed.
pub async fn work(sagas: Sagas, mut arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.required("--folder")?;
    let definition = fulfilment(Path::new(&folder), arguments.switch("--without-keys"))?;
    loop {
        let worker = sagas.worker().drives(&definition).session_timeout(Duration::from_secs(3));
        match worker.run(std::future::pending()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retriable() || matches!(error, SagaError::Group(GroupError::Left)) => {
                eprintln!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
