//! Small files that are replaced as a whole: identity, checkpoint, leader epochs, format.
//!
//! Layout, big-endian: 4 bytes magic · u16 version · u32 body length · u32 CRC32C of version, length and body · body. Replaced by
//! temp name → fdatasync → rename → fsync of the folder, so that a crash leaves the old or the new file, never a mix. Knows nothing
//! of what the bodies mean.

use std::io::{self, IoSlice};
use std::path::Path;

use crate::disk::{Disk, read_full_at, read_whole, write_all_at};
use crate::storage_error::{Context, StorageError};

/// Suffix of files that are being written; leftovers are removed at open.
pub const TEMP_SUFFIX: &str = ".tmp";
const HEADER_BYTES: usize = 14;
/// Far above any checkpoint; keeps a damaged file from being read into memory.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Which kind of file, and the newest version of it that this code reads. It writes that version.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its first four bytes.
    pub magic: [u8; 4],
    /// The newest version.
    pub version: u16,
}

/// Why a small file gave no body.
#[derive(Debug, thiserror::Error)]
pub enum SmallFileError {
    /// There is no such file.
    #[error("the file is missing")]
    Missing,
    /// It is short, garbage, or a bit is wrong.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// A later release wrote it.
    #[error("the file has version {found}, this release reads up to {newest}")]
    Newer {
        /// Its version.
        found: u16,
        /// The newest that this release reads.
        newest: u16,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Replaces the file durably.
///
/// # Errors
/// [`StorageError`]; the old file or the new one is there, never a mix.
pub fn replace(disk: &dyn Disk, path: &Path, kind: Kind, body: &[u8]) -> Result<(), StorageError> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(TEMP_SUFFIX);
    let temp = Path::new(&temp);
    match disk.remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("remove", temp),
        _ => {}
    }
    let file = disk.create(temp).context("create", temp)?;
    let header = header(kind, body);
    write_all_at(&*file, &mut [IoSlice::new(&header), IoSlice::new(body)], 0)
        .map_err(|partial| partial.error)
        .context("write", temp)?;
    file.sync_data().context("flush", temp)?;
    disk.rename(temp, path).context("rename", temp)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).context("flush", dir)
}

/// Removes the file durably; one that is not there is fine.
///
/// # Errors
/// [`StorageError`]; the file may still be there after a crash.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("remove", path),
        _ => {}
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).context("flush", dir)
}

/// The body and its version.
///
/// # Errors
/// [`SmallFileError`].
pub fn read(disk: &dyn Disk, path: &Path, kind: Kind) -> Result<(u16, Vec<u8>), SmallFileError> {
    let content = match read_whole(disk, path, FILE_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SmallFileError::Missing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(SmallFileError::Damaged("too long")),
        Err(error) => return Err(error).context("read", path).map_err(Into::into),
    };
    decode(&content, kind)
}

/// The version of the file, where a later release wrote it. Reads no more than that takes.
pub(crate) fn later_version(disk: &dyn Disk, path: &Path, kind: Kind) -> Result<Option<u16>, StorageError> {
    let mut start = [0; 6];
    let looked = disk.open_read_only(path).and_then(|file| read_full_at(&*file, &mut start, 0));
    match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        looked => looked.context("read", path)?,
    };
    if start[..4] != kind.magic || u16::from_be_bytes([start[4], start[5]]) <= kind.version {
        return Ok(None);
    }
    match read(disk, path, kind) {
        Err(SmallFileError::Newer { found, .. }) => Ok(Some(found)),
        Err(SmallFileError::Storage(error)) => Err(error),
        _ => Ok(None),
    }
}

/// As [`read`], for bytes already in memory.
pub(crate) fn decode(content: &[u8], kind: Kind) -> Result<(u16, Vec<u8>), SmallFileError> {
    let Some((header, body)) = content.split_first_chunk::<HEADER_BYTES>() else {
        return Err(SmallFileError::Damaged("too short"));
    };
    if header[..4] != kind.magic {
        return Err(SmallFileError::Damaged("not this kind of file"));
    }
    let version = u16::from_be_bytes([header[4], header[5]]);
    let length = u32::from_be_bytes([header[6], header[7], header[8], header[9]]);
    let stored = u32::from_be_bytes([header[10], header[11], header[12], header[13]]);
    if length as usize != body.len() {
        return Err(SmallFileError::Damaged("its length field and its length differ"));
    }
    if crc32c::crc32c_append(crc32c::crc32c(&header[4..10]), body) != stored {
        return Err(SmallFileError::Damaged("its checksum does not match"));
    }
    // After the checksum: a flipped bit in the version is damage, not the future.
    if version > kind.version {
        return Err(SmallFileError::Newer { found: version, newest: kind.version });
    }
    Ok((version, body.to_vec()))
}

fn header(kind: Kind, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&kind.magic);
    header[4..6].copy_from_slice(&kind.version.to_be_bytes());
    header[6..10].copy_from_slice(&(body.len() as u32).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[4..10]), body);
    header[10..].copy_from_slice(&crc.to_be_bytes());
    header
}

/// Reads the fields of a body one after the other; `None` past its end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;

    const KIND: Kind = Kind { magic: *b"TEST", version: 3 };

    #[test]
    fn a_replaced_file_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&OsDisk, &path, KIND, b"one").unwrap();
        replace(&OsDisk, &path, KIND, b"two and more").unwrap();
        assert_eq!(read(&OsDisk, &path, KIND).unwrap(), (3, b"two and more".to_vec()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let whole = [&header(KIND, b"body")[..], b"body"].concat();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bad, KIND), Err(SmallFileError::Damaged(_))), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(matches!(decode(&whole[..length], KIND), Err(SmallFileError::Damaged(_))), "cut at {length}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let newer = Kind { version: 4, ..KIND };
        let bytes = [&header(newer, b"")[..], b""].concat();
        assert!(matches!(decode(&bytes, KIND), Err(SmallFileError::Newer { found: 4, newest: 3 })));
    }
}
