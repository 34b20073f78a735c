//! The admin HTTP port: `/livez`, `/readyz`, `/metrics`. Knows nothing of the protocol port.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

use crate::node::Node;
use crate::{process, readiness};

/// Serves until the broker has drained.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let stop = node.connections_close.clone();
    let routes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(node);
    let served = axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = served.await {
        error!(%error, "the admin port stopped");
    }
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
        match &check.fault {
            None => text.push_str(&format!("ok    {}\n", check.name)),
            Some(fault) => text.push_str(&format!("FAULT {}: {fault}\n", check.name)),
        }
    }
    (status, text).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let metrics = &node.metrics;
    let (anonymous, _) = process::resident_bytes();
    metrics.process_resident_memory_bytes.set(anonymous as i64);
    let cpu = process::cpu_time().as_secs_f64();
    metrics.process_cpu_seconds.inc_by((cpu - metrics.process_cpu_seconds.get()).max(0.0));
    metrics.budget_lent_bytes.set(node.budget.under_way.lent_bytes() as i64);
    match metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be formatted: {error}\n")).into_response()
        }
    }
}
