//! Sagas against a real broker: their courses, their workers, what operators do, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

mod courses;
mod guide;
mod operators;
mod refusals;
mod running;
mod workers;
