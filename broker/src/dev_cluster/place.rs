//! Where the brokers of a folder listen, as noted when they were made: they know each other by their addresses, and with all of these changed
//! at once none would find another. Knows nothing of what they hold.

use std::path::Path;

use tidelog_log::OsDisk;
use tidelog_log::small_file::{self, Kind, SmallFileError};

use super::DevClusterError;
use super::seats::Seat;

const FILE: &str = "dev-cluster";
const KIND: Kind = Kind { magic: *b"TLdc", version: 1 };

/// Refuses other addresses than those that the folder was made with, and notes them in a new one.
///
/// # Errors
/// [`DevClusterError::Elsewhere`]; [`DevClusterError::Place`] where the disk refuses.
pub(super) fn keep(folder: &Path, seats: &[Seat]) -> Result<(), DevClusterError> {
    let Some(first) = seats.first() else { return Ok(()) };
    let (disk, path, listen) = (OsDisk::shared(), folder.join(FILE), first.listen.to_string());
    match small_file::read(&*disk, &path, KIND) {
        Ok((_, made)) if made == listen.as_bytes() => Ok(()),
        Ok((_, made)) => {
            let (data, made) = (folder.to_owned(), String::from_utf8_lossy(&made).into_owned());
            Err(DevClusterError::Elsewhere { data, made })
        }
        // An earlier release did not note it.
        Err(SmallFileError::Missing) => {
            std::fs::create_dir_all(folder).map_err(DevClusterError::Folder)?;
            small_file::replace(&*disk, &path, KIND, listen.as_bytes()).map_err(SmallFileError::from)?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, PathText};
    use crate::dev_cluster::seats;

    #[test]
    fn a_folder_stays_with_the_addresses_that_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        let seats = |port: u16, brokers| {
            let listen = ([127, 0, 0, 1], port).into();
            let data = PathText(folder.path().join("data"));
            seats::assign(&Config { data, listen, ..Config::default() }, brokers).unwrap()
        };
        let data = folder.path().join("data");
        keep(&data, &seats(9092, 3)).unwrap();
        keep(&data, &seats(9092, 5)).unwrap();
        let refused = keep(&data, &seats(9192, 3)).unwrap_err().to_string();
        assert!(refused.contains("listen=127.0.0.1:9092"), "{refused}");
    }
}
