//! A wall clock that jumps for one process: the unmodified binary is started with a library in front of it that adds to what the system says.
//! The monotonic clock stays as it is, as it does when an operator or NTP sets the time. Knows nothing of brokers. Needs
//! [`Need::Compiler`](crate::requirements::Need::Compiler).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::command::system;

/// The file with the shift, 8 bytes of nanoseconds.
const SHIFT_VARIABLE: &str = "CLOCK_SHIFT_FILE";

/// In C, since it stands in for a function of the C library. It reads the shift from a mapped file, so that a jump takes one write of the test
/// and none here.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    shift = map;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *shift;
        now->tv_sec = nanos / 1000000000;
        now->tv_nsec = nanos % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// The clock of those who are started with [`ShiftedClock::variables`].
#[derive(Debug)]
pub struct ShiftedClock {
    folder: TempDir,
    shift: File,
}

impl ShiftedClock {
    /// A clock that is right until it is shifted.
    ///
    /// # Panics
    /// Where the library cannot be built.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tidelog-clock-").tempdir().unwrap();
        let source = folder.path().join("clock.c");
        std::fs::write(&source, SOURCE).unwrap();
        let shift = File::create(folder.path().join("shift")).unwrap();
        let clock = Self { folder, shift };
        clock.shift_nanos(0);
        let path = |path: &PathBuf| path.to_str().expect("a temporary path is text").to_string();
        system("cc", &["-O1", "-shared", "-fPIC", "-o", &path(&clock.library()), &path(&source)]);
        clock
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let shift = self.folder.path().join("shift");
        vec![("LD_PRELOAD".into(), text(self.library())), (SHIFT_VARIABLE.into(), text(shift))]
    }

    /// From now on the clock is so much ahead.
    pub fn ahead(&self, by: Duration) {
        self.shift_nanos(i64::try_from(by.as_nanos()).expect("within centuries"));
    }

    /// From now on the clock is so much behind.
    pub fn behind(&self, by: Duration) {
        self.shift_nanos(-i64::try_from(by.as_nanos()).expect("within centuries"));
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }

    fn shift_nanos(&self, nanos: i64) {
        self.shift.write_all_at(&nanos.to_ne_bytes(), 0).unwrap();
    }
}

impl Default for ShiftedClock {
    fn default() -> Self {
        Self::new()
    }
}
