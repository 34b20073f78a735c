//! What becomes of the batches that wait once the leader has refused one as too large. Pure, as the lane.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::records::RawBatch;
use tidelog_protocol::{ErrorCode, WireError};

use super::{Batch, Content, Lane, Settled, Stamp};
use crate::ClientError;
use crate::producer::SendError;
use crate::producer::delivery::Fate;
use crate::producer::split::split;

impl Lane {
    /// Lets a batch wait again: whole where it fits into `limit` bytes, and else in parts; what cannot be cut further fails.
    pub(super) fn fit(&mut self, mut batch: Batch, limit: usize) -> Vec<Settled> {
        if let Content::Filling(builder) = &mut batch.content
            && builder.bytes() > limit
        {
            match builder.finish(self.rules.compression) {
                Ok(bytes) => batch.content = Content::Sealed(bytes),
                Err(error) => return vec![unfit(batch, argument(error))],
            }
        }
        let bytes = match &batch.content {
            Content::Oversized(bytes) => bytes.clone(),
            Content::Sealed(bytes) if bytes.len() > limit => bytes.clone(),
            _ => {
                self.waiting.push_back(batch);
                return Vec::new();
            }
        };
        // Refused although it keeps the limit that the cluster tells: some other one holds as well, which smaller parts may keep.
        let target = if bytes.len() > limit { limit } else { bytes.len() / 2 };
        match split(&bytes, target) {
            Err(error) => {
                self.numbering.dropped(&batch);
                vec![unfit(batch, argument(error))]
            }
            Ok(parts) => match &parts[..] {
                [alone] => {
                    let error = match &self.last_error {
                        Some(ClientError::Broker(refusal)) if alone.bytes.len() <= limit => {
                            SendError::Rejected(refusal.clone())
                        }
                        _ => SendError::TooLarge { bytes: alone.bytes.len(), limit },
                    };
                    self.numbering.dropped(&batch);
                    vec![unfit(batch, error)]
                }
                _ => self.go_on_in_parts(batch, parts, limit),
            },
        }
    }

    fn go_on_in_parts(
        &mut self,
        mut batch: Batch,
        parts: Vec<crate::producer::split::Part>,
        limit: usize,
    ) -> Vec<Settled> {
        let (mut settled, mut fates) = (Vec::new(), Vec::new());
        for part in parts {
            let completion = Arc::default();
            fates.push((part.first, Arc::clone(&completion)));
            let bytes = part.bytes.len();
            let part = Batch {
                id: self.next_id,
                completion,
                memory: batch.memory.split_off(bytes),
                opened: batch.opened,
                content: Content::Sealed(part.bytes),
                maybe_written: batch.maybe_written,
                stamp: match batch.stamp {
                    Stamp::Sequenced { first, .. } => {
                        let first = first.wrapping_add(part.first as i32) & i32::MAX;
                        Stamp::Sequenced { first, records: part.records }
                    }
                    stamp => stamp,
                },
                refused: None,
            };
            self.next_id += 1;
            if bytes > limit {
                self.numbering.dropped(&part);
                settled.push(unfit(part, SendError::TooLarge { bytes, limit }));
            } else {
                self.waiting.push_back(part);
            }
        }
        settled.push(Settled { batch, fate: Fate::Split(fates) });
        settled
    }
}

/// How many records a batch holds that was built here.
pub(super) fn records_of(bytes: &[u8]) -> u32 {
    RawBatch::parse(bytes).map_or(0, |batch| batch.header().record_count)
}

fn argument(error: impl ToString) -> SendError {
    SendError::Client(ClientError::Argument(error.to_string()))
}

/// A batch that no limit lets through; an earlier try may have written it under another one.
fn unfit(batch: Batch, error: SendError) -> Settled {
    let outcome = if batch.maybe_written {
        let cause = Box::new(ClientError::Broker(WireError::new(ErrorCode::TooLarge, error.to_string())));
        SendError::Unknown { after: Duration::ZERO, cause }
    } else {
        error
    };
    Settled::new(batch, Err(outcome))
}
