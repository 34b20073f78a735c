//! Files that have lost their name, and whose blocks go back to the file system a piece at a time.
//!
//! Where the file system passes on to the disk what is free (`discard`), and on disks that take their time over it, a whole segment at once
//! keeps the flushes of everybody else waiting for tens of milliseconds. So a large file is cut from its end, in small steps with rests
//! between them, before it is closed. One thread does that for the process, as the disk is one. Knows nothing of what was in the files.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::map;

/// What is given back at once, in bytes. A file that is no larger is not worth the trouble.
const STEP_BYTES: u64 = 4 << 20;
/// The shortest rest between two steps: some file systems tell the disk only later what is free.
const REST_MIN: Duration = Duration::from_millis(10);
/// The longest: space is wanted back.
const REST_MAX: Duration = Duration::from_millis(200);
/// Of the disk's time no more than one part in so many is taken.
const SHARE: u32 = 10;
/// Files that wait at a time, each with a descriptor. What comes beyond goes at once.
const FILES_MAX: usize = 64;
/// How often a file is looked at that somebody still reads.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Removes a name, and gives the blocks of its file back little by little, unless somebody has another name for it. Whoever has it open or
/// mapped keeps all of it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    // Before the name goes: afterwards nobody finds the file.
    let file = large_file(path);
    fs::remove_file(path)?;
    if let Some(file) = file {
        give_back(file);
    }
    Ok(())
}

/// `None` also where it cannot be opened: then it goes at once, as any file does.
fn large_file(path: &Path) -> Option<File> {
    // To open anything but a plain file might block.
    let found = fs::symlink_metadata(path).ok()?;
    let is_large = found.is_file() && found.len() > STEP_BYTES;
    OpenOptions::new().read(true).write(true).open(path).ok().filter(|_| is_large)
}

fn give_back(file: File) {
    static WAITING: OnceLock<Option<Arc<Waiting>>> = OnceLock::new();
    if let Some(waiting) = WAITING.get_or_init(|| Waiting::start().ok()) {
        waiting.push(file);
    }
}

/// Nameless files, and the thread that cuts them down.
#[derive(Debug, Default)]
struct Waiting {
    files: Mutex<VecDeque<File>>,
    came: Condvar,
}

impl Waiting {
    fn start() -> io::Result<Arc<Self>> {
        let waiting = Arc::new(Self::default());
        let thread = Arc::clone(&waiting);
        thread::Builder::new().name("log-reclaim".into()).spawn(move || thread.run())?;
        Ok(waiting)
    }

    fn push(&self, file: File) {
        let mut files = self.files.lock();
        if files.len() < FILES_MAX {
            files.push_back(file);
            self.came.notify_one();
        }
    }

    fn run(&self) {
        // How many in a row are in somebody's hands.
        let mut held = 0;
        loop {
            let file = {
                let mut files = self.files.lock();
                if !files.is_empty() && held >= files.len() {
                    self.came.wait_for(&mut files, LOOK_AGAIN);
                    held = 0;
                }
                while files.is_empty() {
                    self.came.wait(&mut files);
                }
                files.pop_front()
            };
            let Some(file) = file else { continue };
            // One that has another name stays as it is, and whoever opens it by that is not to hear of us.
            if has_name(&file) {
                continue;
            }
            match map::is_ours_alone(&file) {
                Ok(true) => {
                    held = 0;
                    // What goes wrong leaves the rest to its closing.
                    let _ = cut_down(&file, thread::sleep);
                }
                Ok(false) => {
                    held += 1;
                    self.files.lock().push_back(file);
                }
                // A file system that cannot tell.
                Err(_) => {}
            }
        }
    }
}

fn has_name(file: &File) -> bool {
    file.metadata().map_or(true, |found| found.nlink() > 0)
}

/// Cuts a file that nobody else has down to nothing, and calls `rest` between the steps. One that has a name is left as it is.
fn cut_down(file: &File, mut rest: impl FnMut(Duration)) -> io::Result<()> {
    let found = file.metadata()?;
    if found.nlink() > 0 {
        return Ok(());
    }
    let mut length = found.len();
    while length > 0 {
        length = length.saturating_sub(1) / STEP_BYTES * STEP_BYTES;
        let began = Instant::now();
        file.set_len(length)?;
        rest(rest_after(began.elapsed()));
    }
    Ok(())
}

fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(SHARE - 1).clamp(REST_MIN, REST_MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::map::Map;

    const BYTES: u64 = 3 * STEP_BYTES + 1;

    fn named(dir: &Path, name: &str) -> (std::path::PathBuf, Arc<File>) {
        let path = dir.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(BYTES).unwrap();
        file.write_all_at(b"tail", BYTES - 4).unwrap();
        (path, Arc::new(file))
    }

    #[test]
    fn no_more_than_one_step_is_given_back_between_two_rests() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        fs::remove_file(&path).unwrap();
        let mut lengths = vec![BYTES];
        cut_down(&file, |_| lengths.push(file.metadata().unwrap().len())).unwrap();
        assert!(lengths.is_sorted_by(|before, after| before > after && before - after <= STEP_BYTES), "{lengths:?}");
        assert_eq!(lengths.last(), Some(&0));
    }

    #[test]
    fn whoever_opens_a_file_while_we_ask_for_it_ends_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let is_stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
        let broken = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_stopped() {
                        // Not to wait for the lease.
                        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
                        drop(rustix::fs::open(&path, flags, rustix::fs::Mode::empty()));
                    }
                });
            }
            let mut broken = 0;
            let began = Instant::now();
            while broken < 1_000 && began.elapsed() < Duration::from_secs(60) {
                broken += u32::from(!map::is_ours_alone(&file).unwrap_or(false));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            broken
        });
        assert!(broken > 0, "nobody opened it meanwhile");
    }

    #[test]
    fn what_has_another_name_keeps_its_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        fs::hard_link(&path, temp.path().join("backup")).unwrap();
        fs::remove_file(&path).unwrap();
        cut_down(&file, |_| panic!("nothing was to be done")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), BYTES);
    }

    #[test]
    fn a_file_is_ours_alone_once_the_last_slice_of_its_map_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        let ours = large_file(&path).expect("it is large");
        fs::remove_file(&path).unwrap();
        let map = Arc::new(Map::new(Arc::clone(&file), BYTES).unwrap());
        let slice = map.slice(BYTES - 4..BYTES);
        drop((map, file));
        assert!(!map::is_ours_alone(&ours).unwrap(), "whoever reads the slice would be killed by a cut");
        assert_eq!(&*slice, b"tail");
        drop(slice);
        assert!(map::is_ours_alone(&ours).unwrap());
    }

    #[test]
    fn what_was_removed_is_free_in_the_end_but_not_before_its_last_reader_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        let ours = large_file(&path).expect("it is large");
        // The same opening, by which what becomes of the file can be seen.
        let seen = ours.try_clone().unwrap();
        fs::remove_file(&path).unwrap();
        let waiting = Waiting::start().unwrap();
        waiting.push(ours);
        let length = || seen.metadata().unwrap().len();
        thread::sleep(2 * LOOK_AGAIN);
        assert_eq!(length(), BYTES, "somebody has it open");
        drop(file);
        let until = Instant::now() + Duration::from_secs(60);
        while length() > 0 {
            assert!(Instant::now() < until, "{} bytes are still taken", length());
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_disk_rests_for_most_of_the_time() {
        for took in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5), Duration::from_secs(1)] {
            let rest = rest_after(took);
            assert!(
                (REST_MIN..=REST_MAX).contains(&rest) && (rest == REST_MAX || rest >= took * (SHARE - 1)),
                "{rest:?}"
            );
        }
    }

    #[test]
    fn a_name_goes_at_once_and_only_large_files_are_kept_for_later() {
        let temp = tempfile::tempdir().unwrap();
        let (path, file) = named(temp.path(), "segment");
        drop(file);
        remove(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let small = temp.path().join("index");
        fs::write(&small, b"small").unwrap();
        assert!(large_file(&small).is_none() && large_file(temp.path()).is_none());
    }
}
