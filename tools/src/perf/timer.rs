//! A wait with the precision of the kernel's clock. tokio's own timer counts in whole milliseconds, which would be the largest
//! part of any latency measured here. Knows nothing of what is waited for. The one module of this package with `unsafe`.
#![allow(unsafe_code)] // tokio wants a promise about the life of the descriptor it watches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel that a task can wait for.
#[derive(Debug)]
pub struct Timer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Timer {
    /// A timer; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is open, owned by the `AsyncFd` alone until it is dropped, and no `&mut` to it is ever handed out.
        Ok(Self { descriptor: unsafe { AsyncFd::register(descriptor)? } })
    }

    /// Waits this long.
    ///
    /// # Errors
    /// Those of the kernel; none are expected.
    pub async fn sleep(&mut self, duration: Duration) -> io::Result<()> {
        // Zero would disarm the timer and never wake anyone.
        let duration = duration.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.descriptor.get_ref().as_fd(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.descriptor.readable().await?;
            let mut expirations = [0; 8];
            if ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?)).is_ok_and(|read| read.is_ok()) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn it_never_wakes_early_and_can_be_used_again() {
        let mut timer = Timer::new().unwrap();
        for micros in [0, 50, 300, 2_000] {
            let (start, wait) = (Instant::now(), Duration::from_micros(micros));
            timer.sleep(wait).await.unwrap();
            assert!(start.elapsed() >= wait);
        }
    }
}
