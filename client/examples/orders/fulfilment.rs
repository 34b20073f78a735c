//! The saga of an order: each service is asked in turn; what undoes that asks it, too. And the worker that drives such sagas.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::saga::{
    Call, Definition, DefinitionError, RetryPolicy, SagaError, SagaInput, Sagas, Step, StepError,
};
use tidelog_client::{Backoff, GroupError};

use super::demo::Failure;
use super::order::Order;
use super::service::{NO_KEY, ask};
use super::services::SERVICES;
use super::style::Safety;

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is not shipped by then is undone, also where a service is still at it.
const DEADLINE: Duration = Duration::from_secs(4);

/// How services are asked.
struct Asking {
    folder: PathBuf,
    /// Whether a call is recognised where it comes again.
    keys: Safety,
}

/// What an order means to its services.
pub fn fulfilment(folder: &Path, keys: Safety) -> Result<Definition<Order>, DefinitionError> {
    let asking = Arc::new(Asking { folder: folder.into(), keys });
    let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
    let mut definition = Definition::named("order");
    for service in &SERVICES {
        let (doing, undoing) = (Arc::clone(&asking), Arc::clone(&asking));
        let done = move |call| {
            let doing = asked(Arc::clone(&doing), "do", call);
            async { doing.await.map(|()| "") }
        };
        let step = Step::new(service.name, done)
            .compensation(move |call| asked(Arc::clone(&undoing), "undo", call))
            .retry(RetryPolicy { attempts: 8, backoff })
            .timeout(PATIENCE)
            .compensation_retry(RetryPolicy { attempts: 15, backoff })
            .compensation_timeout(PATIENCE);
        definition = definition.step(step);
    }
    definition.deadline(DEADLINE).build()
}

async fn asked(asking: Arc<Asking>, what: &str, call: Call<Order>) -> Result<(), StepError> {
    let key = match asking.keys {
        Safety::On => call.action_key(),
        Safety::Off => NO_KEY,
    };
    let order = call.input().encode();
    let line = format!("{what} {key} {} {}", call.saga(), String::from_utf8_lossy(&order));
    let answer = ask(&asking.folder, call.step(), &line).await?;
    match answer.split_once(' ').unwrap_or((&answer, "")) {
        ("ok", _) => Ok(()),
        ("refused", why) => Err(StepError::refused(why)),
        (_, why) => Err(StepError::failed(if why.is_empty() { "the answer is torn" } else { why })),
    }
}

/// Drives sagas until it is killed.
pub async fn work(sagas: Sagas, definition: Definition<Order>) -> Result<(), Failure> {
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
