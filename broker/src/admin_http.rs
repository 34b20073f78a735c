//! The admin HTTP port: `/livez`, `/readyz`, `/metrics`. On a thread of its own: a disk that hangs may hold up all that serve the network, and
//! here is where an operator looks then. Knows nothing of the protocol port.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::error;

use crate::admin_port::AdminPort;
use crate::exposition::Exposition;
use crate::node::Node;
use crate::{process, readiness};

/// Serves on its own thread until the broker has drained.
///
/// # Errors
/// If the operating system gives no thread.
pub(crate) fn start(node: Arc<Node>, listener: std::net::TcpListener) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().thread_name("admin-blocking").build()?;
    let (ending, ended) = oneshot::channel::<()>();
    let serving = runtime.spawn(async move {
        // Dropped at the end, however that comes about.
        let _ending = ending;
        match TcpListener::from_std(listener) {
            Ok(listener) => serve(node, listener).await,
            Err(error) => error!(%error, "there is no admin port"),
        }
    });
    let run = move || {
        let _ = runtime.block_on(ended);
        // Whatever it still asks of a disk that hangs, nobody waits for.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("admin-port".into()).spawn(run)?;
    Ok(serving)
}

/// Serves until the broker has drained.
async fn serve(node: Arc<Node>, listener: TcpListener) {
    let stop = node.connections_close.clone();
    let timeout = Duration::from_millis(node.config.admin_timeout_ms);
    let port = AdminPort::new(listener, node.config.admin_connections_max, timeout, stop.clone());
    let routes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(map_response(close_after))
        .with_state(node);
    let served = axum::serve(port, routes).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = served.await {
        error!(%error, "the admin port stopped");
    }
}

/// A connection has the time of one request.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The process runs and its runtime answers.
async fn live() -> &'static str {
    "ok\n"
}

/// Everything that a client needs works: see `readiness`.
async fn ready(State(node): State<Arc<Node>>) -> Response {
    let checks = readiness::check(&node).await;
    let status =
        if checks.iter().all(|check| check.fault.is_none()) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    for check in &checks {
        match (&check.fault, &check.warning) {
            (Some(fault), _) => text.push_str(&format!("FAULT {}: {fault}\n", check.name)),
            (None, Some(warning)) => text.push_str(&format!("warn  {}: {warning}\n", check.name)),
            (None, None) => text.push_str(&format!("ok    {}\n", check.name)),
        }
    }
    (status, text).into_response()
}

async fn metrics(State(node): State<Arc<Node>>, headers: HeaderMap) -> Response {
    let metrics = &node.metrics;
    let memory = process::memory();
    metrics.process_resident_memory_bytes.set(memory.resident as i64);
    metrics.process_anonymous_memory_bytes.set(memory.anonymous as i64);
    let cpu = process::cpu_time().as_secs_f64();
    metrics.process_cpu_seconds.inc_by((cpu - metrics.process_cpu_seconds.get()).max(0.0));
    for (name, pool) in node.budget.pools() {
        metrics.note_pool(name, pool.lent_bytes(), pool.waiting());
    }
    match metrics.render() {
        Ok(text) => {
            let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let form = Exposition::accepted(accept);
            ([(header::CONTENT_TYPE, form.content_type())], form.of(text)).into_response()
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be formatted: {error}\n")).into_response()
        }
    }
}
