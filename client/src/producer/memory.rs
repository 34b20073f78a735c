//! The memory that unacknowledged records may take, and the buffers they stand in. Knows nothing of batches.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// A bound on memory, in bytes. Those who wait are served in their order.
#[derive(Debug)]
pub(super) struct Memory {
    free: Semaphore,
    limit: usize,
}

/// Part of the memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Semaphore::new(limit), limit })
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn in_use(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    /// Takes `bytes` where they are free.
    pub(super) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let permit = self.free.try_acquire_many(u32::try_from(bytes).ok()?).ok()?;
        permit.forget();
        Some(Reservation { memory: Arc::clone(self), bytes })
    }

    /// Waits until `bytes` (at most the limit) are free and takes them.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let permit = self.free.acquire_many(u32::try_from(bytes).ok()?).await.ok()?;
        permit.forget();
        Some(Reservation { memory: Arc::clone(self), bytes })
    }
}

impl Reservation {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` of it, as far as there are any, for one who gives them back alone.
    pub(super) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { memory: Arc::clone(&self.memory), bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.free.add_permits(self.bytes);
    }
}

/// Buffers that were sent and acknowledged, for the batches to come.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Mutex<Vec<BytesMut>>,
    buffer_bytes: usize,
    count_max: usize,
}

impl Buffers {
    /// Keeps at most `total_bytes` of buffers of `buffer_bytes`.
    pub(super) fn new(buffer_bytes: usize, total_bytes: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), buffer_bytes, count_max: total_bytes / buffer_bytes }
    }

    /// An empty buffer; one that was never used grows with what is written.
    pub(super) fn take(&self) -> BytesMut {
        self.free.lock().pop().unwrap_or_default()
    }

    /// Takes the buffer of a sent batch back, unless somebody else still reads it.
    pub(super) fn give_back(&self, sent: Bytes) {
        if let Ok(buffer) = sent.try_into_mut() {
            self.give(buffer);
        }
    }

    /// Takes a buffer back, unless its size is unusual or there are enough.
    pub(super) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        if buffer.capacity() >= self.buffer_bytes / 2 && buffer.capacity() <= self.buffer_bytes * 2 {
            let mut free = self.free.lock();
            if free.len() < self.count_max {
                free.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_comes_back_with_the_reservation() {
        let memory = Memory::new(100);
        let first = memory.try_reserve(60).unwrap();
        assert!(memory.try_reserve(60).is_none());
        assert_eq!(memory.in_use(), 60);
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reserve(60).await.unwrap().bytes() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(waiting.await.unwrap(), 60);
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn an_acknowledged_buffer_is_used_again_and_a_shared_one_is_not() {
        let buffers = Buffers::new(1 << 10, 1 << 20);
        let mut buffer = BytesMut::with_capacity(1 << 10);
        buffer.extend_from_slice(&[1; 1 << 10]);
        let sent = buffer.freeze();
        let (address, other) = (sent.as_ptr(), sent.clone());
        buffers.give_back(sent);
        assert_eq!(buffers.take().capacity(), 0, "somebody still reads it");
        buffers.give_back(other);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }
}
