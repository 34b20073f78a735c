//! What of a disk's content would survive a loss of power. Knows nothing of which operations fail.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{DiskFile, read_full_at, write_all_at};

/// Bytes that reach the disk together or not at all.
const SECTOR: u64 = 512;
/// Bytes that the file system takes out of its reserve together: until the first write-back of them is durable they read as zeros.
const BLOCK: u64 = 4096;

#[derive(Debug)]
struct Inode {
    live: Arc<dyn DiskFile>,
    durable: Vec<u8>,
    /// Blocks that were written back at least once; the others are holes.
    written_back: BTreeSet<u64>,
    /// Sectors written since the last successful flush.
    dirty: BTreeSet<u64>,
    /// Sectors that a failed flush has dropped: only the page cache has them, and the next flush does not write them.
    forgotten: BTreeSet<u64>,
}

/// A change of a name that no fsync of the folder has made durable yet.
#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, u64),
    Remove(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Remove(path) => path,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Survivors {
    inodes: HashMap<u64, Inode>,
    names: HashMap<PathBuf, u64>,
    durable_names: HashMap<PathBuf, u64>,
    /// In the order they happened.
    unsynced: Vec<Vec<Change>>,
    next_inode: u64,
}

impl Survivors {
    pub(super) fn created(&mut self, path: &Path, live: &Arc<dyn DiskFile>) {
        let inode = self.add(live, Vec::new(), BTreeSet::new());
        self.names.insert(path.to_owned(), inode);
        self.unsynced.push(vec![Change::Set(path.to_owned(), inode)]);
    }

    /// The inode behind a name; a file that was there before this disk counts as durable.
    pub(super) fn inode(&mut self, path: &Path, live: &Arc<dyn DiskFile>) -> io::Result<u64> {
        if let Some(&inode) = self.names.get(path) {
            return Ok(inode);
        }
        let durable = read_all(&**live)?;
        let inode = self.add(live, durable, data_blocks(&**live)?);
        self.names.insert(path.to_owned(), inode);
        self.durable_names.insert(path.to_owned(), inode);
        Ok(inode)
    }

    fn add(&mut self, live: &Arc<dyn DiskFile>, durable: Vec<u8>, written_back: BTreeSet<u64>) -> u64 {
        self.next_inode += 1;
        let (dirty, forgotten) = (BTreeSet::new(), BTreeSet::new());
        let inode = Inode { live: Arc::clone(live), durable, written_back, dirty, forgotten };
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        let mut changes = Vec::new();
        // A folder takes everything in it along.
        let moved: Vec<_> = self.names.keys().filter(|name| name.starts_with(from)).cloned().collect();
        for name in moved {
            let Some(inode) = self.names.remove(&name) else { continue };
            let target = name.strip_prefix(from).map_or_else(|_| to.to_owned(), |rest| join(to, rest));
            changes.push(Change::Remove(name));
            changes.push(Change::Set(target.clone(), inode));
            self.names.insert(target, inode);
        }
        self.unsynced.push(changes);
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.names.remove(path);
        self.unsynced.push(vec![Change::Remove(path.to_owned())]);
    }

    pub(super) fn dir_synced(&mut self, dir: &Path) {
        let (here, elsewhere): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|changes| changes.iter().any(|change| change.path().parent() == Some(dir)));
        self.unsynced = elsewhere;
        for changes in here {
            self.apply(&changes);
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Set(path, inode) => self.durable_names.insert(path.clone(), *inode),
                Change::Remove(path) => self.durable_names.remove(path),
            };
        }
    }

    pub(super) fn written(&mut self, inode: u64, range: Range<u64>) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
                inode.dirty.insert(sector);
                inode.forgotten.remove(&sector);
            }
        }
    }

    pub(super) fn synced(&mut self, inode: u64, content: &[u8]) {
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        let kept: Vec<_> = inode.forgotten.iter().map(|&sector| (sector, bytes_of(&inode.durable, sector))).collect();
        inode.durable = content.to_vec();
        for (sector, bytes) in kept {
            put(&mut inode.durable, sector, &bytes);
        }
        inode.written_back.extend(inode.dirty.iter().map(|sector| block_of(*sector)));
        inode.dirty.clear();
    }

    pub(super) fn forgotten(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.forgotten.append(&mut inode.dirty);
        }
    }

    /// Clean pages are read from the disk again: what a failed flush forgot is gone.
    pub(super) fn evicted(&mut self, inode: u64, range: Range<u64>) -> io::Result<()> {
        let Some(inode) = self.inodes.get_mut(&inode) else { return Ok(()) };
        let length = inode.live.bytes()?;
        let sectors: Vec<_> =
            inode.forgotten.range(range.start / SECTOR..range.end.div_ceil(SECTOR)).copied().collect();
        for sector in sectors {
            inode.forgotten.remove(&sector);
            let mut bytes = bytes_of(&inode.durable, sector);
            bytes.truncate(length.saturating_sub(sector * SECTOR) as usize);
            write(&*inode.live, &bytes, sector * SECTOR)?;
        }
        Ok(())
    }

    /// Makes the real folder what a restart would find.
    pub(super) fn lose_power(&mut self, seed: u64) -> io::Result<()> {
        let mut dice = Dice(seed);
        let survived = dice.below(self.unsynced.len() as u64 + 1) as usize;
        for changes in std::mem::take(&mut self.unsynced).into_iter().take(survived) {
            self.apply(&changes);
        }
        let mut contents = HashMap::new();
        // Seeds must mean the same in every run.
        let mut ids: Vec<_> = self.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(inode) = self.inodes.get(&id) else { continue };
            let live = read_all(&*inode.live)?;
            let mut content = inode.durable.clone();
            let odds = dice.below(4);
            let (mut survives, mut is_torn) = (false, false);
            let mut written_back = inode.written_back.clone();
            let mut last_block = None;
            for &sector in &inode.dirty {
                let block = block_of(sector);
                let is_new = last_block.replace(block) != Some(block);
                // Few disks tear the block that a file system writes in place.
                is_torn = if is_new { inode.written_back.contains(&block) && dice.below(4) == 0 } else { is_torn };
                if is_new || is_torn {
                    survives = dice.below(4) < odds;
                }
                if survives {
                    put(&mut content, sector, &bytes_of(&live, sector));
                    written_back.insert(block);
                }
            }
            contents.insert(id, (content, written_back));
        }
        for path in self.names.keys() {
            std::fs::remove_file(path)?;
        }
        self.inodes.clear();
        self.names.clear();
        for (path, id) in std::mem::take(&mut self.durable_names) {
            let Some((content, written_back)) = contents.get(&id) else { continue };
            write_sparse(&path, content, written_back)?;
        }
        Ok(())
    }
}

fn join(folder: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { folder.to_owned() } else { folder.join(rest) }
}

fn block_of(sector: u64) -> u64 {
    sector * SECTOR / BLOCK
}

/// The blocks of a file that are no holes.
fn data_blocks(file: &dyn DiskFile) -> io::Result<BTreeSet<u64>> {
    let mut blocks = BTreeSet::new();
    let mut at = 0;
    while let Some(data) = file.next_data(at)? {
        let hole = file.next_hole(data)?;
        blocks.extend(data / BLOCK..hole.div_ceil(BLOCK));
        at = hole;
    }
    Ok(blocks)
}

/// A new file with holes where nothing was written back.
fn write_sparse(path: &Path, content: &[u8], written_back: &BTreeSet<u64>) -> io::Result<()> {
    let file = std::fs::File::create(path)?;
    file.set_len(content.len() as u64)?;
    for &block in written_back {
        let start = content.len().min((block * BLOCK) as usize);
        let end = content.len().min(start + BLOCK as usize);
        file.write_all_at(&content[start..end], start as u64)?;
    }
    Ok(())
}

fn bytes_of(content: &[u8], sector: u64) -> Vec<u8> {
    let start = (sector * SECTOR) as usize;
    let mut bytes = content.get(start..).unwrap_or_default().to_vec();
    bytes.resize(SECTOR as usize, 0);
    bytes
}

fn put(content: &mut Vec<u8>, sector: u64, bytes: &[u8]) {
    let start = (sector * SECTOR) as usize;
    if content.len() < start + bytes.len() {
        content.resize(start + bytes.len(), 0);
    }
    content[start..start + bytes.len()].copy_from_slice(bytes);
}

fn write(file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
    write_all_at(file, &mut [IoSlice::new(bytes)], position).map_err(|partial| partial.error)
}

/// The whole of a file.
pub(super) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut content = vec![0; file.bytes()? as usize];
    let filled = read_full_at(file, &mut content, 0)?;
    content.truncate(filled);
    Ok(content)
}

/// A small generator (splitmix64), so that a seed repeats a run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
