//! Sagas against a real broker: their courses, their workers, what operators do, and what is refused.

mod courses;
mod forgetting;
mod guide;
mod operators;
mod refusals;
mod running;
mod workers;
