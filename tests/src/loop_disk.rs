//! A small ext4 file system in a file, on a loop device: it can lose power, run full, hang, and goes away with its value. Knows nothing of
//! brokers. Needs [`Need::LoopDisk`](crate::requirements::Need::LoopDisk).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

use crate::command::system;
use crate::power;

/// The first part of the name of every disk's folder; the process that made it comes next.
pub const FOLDER_PREFIX: &str = "tidelog-disk-";

/// A mounted file system of its own. Whoever has files open on it must be gone before it is remounted.
#[derive(Debug)]
pub struct LoopDisk {
    device: String,
    mount: PathBuf,
    // Dropped last: it holds the image and the mount point.
    _folder: TempDir,
}

impl LoopDisk {
    /// Makes and mounts a file system of this size.
    ///
    /// # Panics
    /// Where the machine does not let it.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let folder =
            tempfile::Builder::new().prefix(&format!("{FOLDER_PREFIX}{}-", std::process::id())).tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("disk"));
        File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let image = image.to_str().expect("a temporary path is text");
        system("mkfs.ext4", &["-q", "-F", "-m", "0", "-J", "size=4", image]);
        let device = system("losetup", &["--find", "--show", image]);
        let disk = Self { device, mount, _folder: folder };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Bytes that can still be written.
    ///
    /// # Panics
    /// Where the file system cannot be asked.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let figures = statvfs(&self.mount).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Takes space until `left` bytes or less are free, besides what was taken before.
    ///
    /// # Panics
    /// Where the disk refuses for another reason than being full.
    #[must_use]
    pub fn fill(&self, left: u64) -> Ballast {
        let mut paths = (0_u32..).map(|number| self.mount.join(format!("ballast-{number}")));
        let path = paths.find(|path| !path.exists()).unwrap();
        let file = File::create_new(&path).unwrap();
        let (mut position, mut step) = (0, 64 << 20);
        // Ever smaller pieces: a file system's own bookkeeping takes some of what is free.
        while step >= 1024 && self.free_bytes() > left {
            if self.free_bytes() >= left + step && fallocate(&file, FallocateFlags::empty(), position, step).is_ok() {
                position += step;
            } else {
                step /= 2;
            }
        }
        Ballast { path }
    }

    /// Power loss: nothing that was not flushed survives, and nothing is written any more.
    ///
    /// # Panics
    /// Where the kernel refuses.
    pub fn lose_power(&self) {
        power::cut(&self.mount).unwrap();
        let probe = File::create(self.mount.join("power-probe"));
        assert!(probe.is_err(), "the file system still takes files: the power was not lost");
    }

    /// From now on whoever writes waits, without an error, until the answer is dropped.
    ///
    /// # Panics
    /// Where the kernel refuses.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        system("fsfreeze", &["-f", self.mount.to_str().expect("a temporary path is text")]);
        Frozen { mount: self.mount.clone() }
    }

    /// Power is back: mounts anew, which replays the journal. Nobody may have files open on it.
    ///
    /// # Panics
    /// Where it cannot be unmounted or mounted.
    pub fn remount(&self) {
        system("umount", &[self.mount.to_str().expect("a temporary path is text")]);
        self.mount();
    }

    fn mount(&self) {
        system("mount", &["-t", "ext4", &self.device, self.mount.to_str().expect("a temporary path is text")]);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind must not keep the mount. Both may have been done already.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}

/// A file system on which writers wait until it is dropped.
#[derive(Debug)]
pub struct Frozen {
    mount: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Not to be missed after a failed test either: a process that waits there cannot even be killed.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mount).output();
    }
}

/// A file that takes space until it is dropped.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // The disk may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::{Need, requires};
    use std::io::Write;

    #[test]
    fn power_loss_takes_what_was_not_flushed_and_nothing_else() {
        if !requires("loop_disk", &[Need::LoopDisk]) {
            return;
        }
        let disk = LoopDisk::new(32 << 20);
        let mut kept = File::create(disk.path().join("kept")).unwrap();
        kept.write_all(b"kept").unwrap();
        kept.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        std::fs::write(disk.path().join("lost"), b"lost").unwrap();
        disk.lose_power();
        drop(kept);
        disk.remount();
        assert_eq!(std::fs::read(disk.path().join("kept")).unwrap(), b"kept");
        assert!(std::fs::read(disk.path().join("lost")).unwrap_or_default().is_empty());
    }

    #[test]
    fn a_frozen_disk_lets_writers_wait_and_refuses_nothing() {
        if !requires("loop_disk", &[Need::LoopDisk]) {
            return;
        }
        let disk = LoopDisk::new(32 << 20);
        let frozen = disk.freeze();
        let path = disk.path().join("waits");
        let (done, written) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || done.send(std::fs::write(path, b"late").is_ok()));
        assert!(written.recv_timeout(std::time::Duration::from_millis(200)).is_err());
        drop(frozen);
        assert!(written.recv().unwrap());
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_full_disk_refuses_and_heals() {
        if !requires("loop_disk", &[Need::LoopDisk]) {
            return;
        }
        let disk = LoopDisk::new(32 << 20);
        let ballast = disk.fill(0);
        assert!(std::fs::write(disk.path().join("more"), vec![1; 1 << 20]).is_err());
        drop(ballast);
        std::fs::write(disk.path().join("more"), vec![1; 1 << 20]).unwrap();
        assert!(disk.free_bytes() > 8 << 20);
    }
}
