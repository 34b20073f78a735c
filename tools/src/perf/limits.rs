//! What this machine can do without any broker, measured in the same run: loopback TCP, memcpy, CRC32C, sequential write with
//! fdatasync. A throughput means little without its limit beside it. Knows nothing of Tidelog.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long each measurement runs.
const MEASURE: Duration = Duration::from_millis(400);

/// Bytes of the file that is written.
const FILE_BYTES: u64 = 256 << 20;

/// Small appends, each with its own fdatasync.
const SMALL_APPENDS: usize = 50;

/// What the machine can do. Rates in MB (10⁶ bytes) per second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Limits {
    /// Bytes moved at a time: the batch size of the run.
    pub block_bytes: usize,
    /// One loopback TCP connection, sender and receiver threads on this machine.
    pub loopback_tcp_mb_per_second: f64,
    /// Copying within memory that does not fit the caches.
    pub memcpy_mb_per_second: f64,
    /// CRC32C over one block, in cache.
    pub crc32c_mb_per_second: f64,
    /// Writing into preallocated file space that was written once before, with one fdatasync at the end.
    pub sequential_write_mb_per_second: f64,
    /// Median of a 4 KiB append with its fdatasync, in milliseconds.
    pub fdatasync_ms: f64,
}

impl Limits {
    /// Measures, for about three seconds; the file goes to `folder` and is removed again.
    ///
    /// # Errors
    /// Where the loopback or the folder cannot be used.
    pub fn measure(block_bytes: usize, folder: &Path) -> io::Result<Self> {
        let (sequential_write_mb_per_second, fdatasync_ms) = disk(block_bytes, folder)?;
        Ok(Self {
            block_bytes,
            loopback_tcp_mb_per_second: loopback_tcp(block_bytes)?,
            memcpy_mb_per_second: memcpy(block_bytes),
            crc32c_mb_per_second: crc32c_rate(block_bytes),
            sequential_write_mb_per_second,
            fdatasync_ms,
        })
    }
}

fn loopback_tcp(block_bytes: usize) -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let sending = std::thread::spawn(move || {
        let block = vec![7; block_bytes];
        // Ends when the receiver has seen enough and closes.
        while sender.write_all(&block).is_ok() {}
    });
    let mut block = vec![0; block_bytes];
    let mut receive_for = |duration: Duration| -> io::Result<f64> {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < duration {
            bytes += receiver.read(&mut block)? as u64;
        }
        Ok(mb_per_second(bytes, start.elapsed()))
    };
    receive_for(MEASURE / 4)?;
    let rate = receive_for(MEASURE)?;
    drop(receiver);
    // The sender has no way to fail but by our close.
    let _ = sending.join();
    Ok(rate)
}

fn memcpy(block_bytes: usize) -> f64 {
    let blocks = ((64 << 20) / block_bytes).max(1);
    let source = vec![7u8; blocks * block_bytes];
    let mut target = vec![1u8; blocks * block_bytes];
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < MEASURE {
        for (to, from) in target.chunks_mut(block_bytes).zip(source.chunks(block_bytes)) {
            to.copy_from_slice(from);
            black_box(&to);
        }
        bytes += source.len() as u64;
    }
    mb_per_second(bytes, start.elapsed())
}

fn crc32c_rate(block_bytes: usize) -> f64 {
    let block = vec![7u8; block_bytes];
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < MEASURE {
        for _ in 0..(1 << 20) / block_bytes.min(1 << 20) {
            black_box(crc32c::crc32c(black_box(&block)));
            bytes += block_bytes as u64;
        }
    }
    mb_per_second(bytes, start.elapsed())
}

/// MB/s of sequential writes, and the median fdatasync of a small append in milliseconds.
fn disk(block_bytes: usize, folder: &Path) -> io::Result<(f64, f64)> {
    let path = folder.join(format!(".perf-limits-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // Unlinked at once: nothing is left behind, however the run ends.
    std::fs::remove_file(&path)?;
    let block = vec![7; block_bytes];
    let write_all = |file: &File| -> io::Result<Duration> {
        let start = Instant::now();
        let mut at = 0;
        while at + block_bytes as u64 <= FILE_BYTES {
            file.write_all_at(&block, at)?;
            at += block_bytes as u64;
        }
        file.sync_data()?;
        Ok(start.elapsed())
    };
    // The first pass allocates blocks and pages, which is not what is asked.
    write_all(&file)?;
    let elapsed = write_all(&file)?;
    let written = FILE_BYTES / block_bytes as u64 * block_bytes as u64;

    let mut appends = Vec::with_capacity(SMALL_APPENDS);
    for append in 0..SMALL_APPENDS {
        let start = Instant::now();
        file.write_all_at(&[9; 4096], append as u64 * 4096)?;
        file.sync_data()?;
        appends.push(start.elapsed());
    }
    appends.sort_unstable();
    let median = appends[SMALL_APPENDS / 2].as_secs_f64() * 1e3;
    Ok((mb_per_second(written, elapsed), (median * 1e4).round() / 1e4))
}

fn mb_per_second(bytes: u64, elapsed: Duration) -> f64 {
    (bytes as f64 / 1e5 / elapsed.as_secs_f64()).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_measured_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits::measure(256 << 10, folder.path()).unwrap();
        for rate in [
            limits.loopback_tcp_mb_per_second,
            limits.memcpy_mb_per_second,
            limits.crc32c_mb_per_second,
            limits.sequential_write_mb_per_second,
        ] {
            assert!(rate > 0.0, "{limits:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Limits::measure(4096, Path::new("/nonexistent/folder")).is_err());
    }
}
