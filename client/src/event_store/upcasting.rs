//! Events of earlier schemas become those of today as they are read: what is stored never changes. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{BoxError, StoreError};

type Upcast = Arc<dyn Fn(&Bytes) -> Result<Bytes, BoxError> + Send + Sync>;

/// The schemas of events, by kind: which is today's, and how each becomes the next.
///
/// ```
/// use tidelog_client::event_store::Upcasters;
///
/// // An amount of euros became one of cents.
/// let upcasters = Upcasters::new().upcast("deposited", 1, |euros| {
///     let euros: u64 = std::str::from_utf8(euros)?.parse()?;
///     Ok((euros * 100).to_string().into())
/// });
/// # let _ = upcasters;
/// ```
#[derive(Clone, Default)]
pub struct Upcasters {
    steps: BTreeMap<String, BTreeMap<u16, Upcast>>,
}

impl std::fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = self.steps.iter().map(|(kind, steps)| (kind, steps.keys().collect::<Vec<_>>()));
        f.debug_map().entries(kinds).finish()
    }
}

impl Upcasters {
    /// None: every kind has its first schema.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns payloads of `kind` in the schema `from` into the schema `from + 1`. Today's schema of a kind is the one that its last
    /// step leads to.
    #[must_use]
    pub fn upcast(
        mut self,
        kind: impl Into<String>,
        from: u16,
        step: impl Fn(&Bytes) -> Result<Bytes, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.steps.entry(kind.into()).or_default().insert(from, Arc::new(step));
        self
    }

    /// Today's schema of a kind.
    #[must_use]
    pub fn current(&self, kind: &str) -> u16 {
        let last = self.steps.get(kind).and_then(|steps| steps.last_key_value());
        last.map_or(1, |(from, _)| from.saturating_add(1))
    }

    /// Refuses steps that lead from nowhere: there is one from each schema to the next, from 1 on.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (kind, steps) in &self.steps {
            let missing = (1..self.current(kind)).find(|from| !steps.contains_key(from));
            if let Some(missing) = missing.or_else(|| steps.contains_key(&0).then_some(0)) {
                let sentence = if missing == 0 {
                    format!("schemas of {kind:?} are numbered from 1, and an upcaster is given from 0")
                } else {
                    let current = self.current(kind);
                    format!(
                        "events {kind:?} have schemas up to {current}, and no upcaster leads from {missing} to the next"
                    )
                };
                return Err(StoreError::Argument(sentence));
            }
        }
        Ok(())
    }

    /// A payload in today's schema, and which that is.
    pub(super) fn apply(&self, kind: &str, schema: u16, payload: Bytes) -> Result<(u16, Bytes), StoreError> {
        let current = self.current(kind);
        if schema > current || schema == 0 {
            return Err(StoreError::UnknownSchema { kind: kind.into(), schema, current });
        }
        let mut payload = payload;
        for (from, step) in self.steps.get(kind).into_iter().flatten().filter(|(from, _)| **from >= schema) {
            payload = step(&payload).map_err(|source| StoreError::Upcast {
                kind: kind.into(),
                from: *from,
                reason: source.to_string(),
            })?;
        }
        Ok((current, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adding(text: &'static str) -> impl Fn(&Bytes) -> Result<Bytes, BoxError> + Send + Sync + 'static {
        move |payload| match &payload[..] {
            b"bad" => Err("it is bad".into()),
            payload => Ok([payload, text.as_bytes()].concat().into()),
        }
    }

    #[test]
    fn each_schema_takes_the_steps_from_it_to_todays() {
        let upcasters = Upcasters::new().upcast("k", 2, adding("-3")).upcast("k", 1, adding("-2"));
        upcasters.check().unwrap();
        let apply = |schema| upcasters.apply("k", schema, Bytes::from_static(b"x")).unwrap();
        assert_eq!(apply(1), (3, "x-2-3".into()));
        assert_eq!(apply(2), (3, "x-3".into()));
        assert_eq!(apply(3), (3, "x".into()));
        assert_eq!(upcasters.apply("other", 1, Bytes::from_static(b"x")).unwrap(), (1, "x".into()));
    }

    #[test]
    fn an_unknown_schema_is_named_and_so_is_a_step_that_fails() {
        let upcasters = Upcasters::new().upcast("k", 1, adding("-2"));
        for (kind, schema) in [("k", 3), ("k", 0), ("other", 2)] {
            let error = upcasters.apply(kind, schema, Bytes::new()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(kind) && text.contains(&schema.to_string()), "{text}");
        }
        let error = upcasters.apply("k", 1, Bytes::from_static(b"bad")).unwrap_err().to_string();
        assert!(error.contains("it is bad") && error.contains('k'), "{error}");
    }

    #[test]
    fn steps_with_a_gap_are_refused_at_once() {
        let gap = Upcasters::new().upcast("k", 3, adding("")).upcast("k", 1, adding(""));
        assert!(gap.check().unwrap_err().to_string().contains("from 2"), "{gap:?}");
        assert!(Upcasters::new().upcast("k", 0, adding("")).check().is_err());
    }
}
