//! When the commit of a try was asked for: noted by who asks, before the question leaves, in a file that outlives it. Knows nothing of what became
//! of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::time::{ClockId, clock_gettime};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Nanoseconds of a clock that never goes back and is the same for all processes of a machine.
#[must_use]
pub fn now() -> u64 {
    let at = clock_gettime(ClockId::Monotonic);
    at.tv_sec.cast_unsigned() * 1_000_000_000 + at.tv_nsec.cast_unsigned()
}

/// Behind what is no note.
const TORN: &str = " torn\n";

/// When the commit of each try was asked for, where it was.
pub type Asked = BTreeMap<String, u64>;

/// The file of who has this transactional id.
#[must_use]
pub fn file_of(folder: &Path, transactional_id: &str) -> PathBuf {
    folder.join(format!("{transactional_id}.asked"))
}

/// What a program has tried, and a file for when the commits of that were asked for. A try counts once; those of a transaction that was given up
/// before are noted with the next, and harm nobody.
#[derive(Debug)]
pub struct Notes {
    file: File,
    tries: Mutex<Vec<String>>,
}

impl Notes {
    /// Goes on with the file.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = File::options().create(true).append(true).open(path)?;
        if std::fs::read(path)?.last().is_some_and(|last| *last != b'\n') {
            // Whoever was killed within a write did not come to ask.
            file.write_all(TORN.as_bytes())?;
        }
        Ok(Self { file, tries: Mutex::default() })
    }

    /// This is tried now, within the transaction that is open.
    ///
    /// # Panics
    /// Where another thread did.
    pub fn tries(&self, attempt: &str) {
        self.tries.lock().unwrap().push(attempt.to_owned());
    }

    /// The commit of all that was tried is asked for.
    ///
    /// # Panics
    /// Where it cannot be noted.
    pub fn asks(&self) {
        let at = now();
        let tries = std::mem::take(&mut *self.tries.lock().unwrap());
        let lines: String = tries.iter().map(|attempt| format!("{attempt} {at}\n")).collect();
        // One write: whoever is killed behind it has noted all of it.
        (&self.file).write_all(lines.as_bytes()).unwrap();
    }
}

/// What all who noted anything in a folder did.
///
/// # Panics
/// Where a file cannot be read, or holds no notes.
#[must_use]
pub fn read(folder: &Path) -> Asked {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let notes = files.filter(|path| path.extension().is_some_and(|extension| extension == "asked"));
    let mut asked = Asked::new();
    for path in notes {
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().filter(|line| !line.ends_with(TORN.trim_end())) {
            let (attempt, at) = line.split_once(' ').unwrap_or_else(|| panic!("{}: {line:?}", path.display()));
            let twice = asked.insert(attempt.to_owned(), at.parse().unwrap());
            assert_eq!(twice, None, "the commit of {attempt} was asked for twice");
        }
    }
    asked
}

/// Hears from the client that it asks for a commit, which it does within its own loop.
#[derive(Clone, Copy, Debug)]
pub struct Listener(pub &'static Notes);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("tidelog_client::transactions")
    }

    fn event(&self, event: &Event<'_>) {
        let mut heard = Heard(false);
        event.record(&mut heard);
        if heard.0 {
            self.0.asks();
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Was it said?
struct Heard(bool);

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "asks for the commit of a transaction";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_noted_with_the_next_question_and_half_a_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let before = now();
        let notes = Notes::open(&file_of(folder.path(), "pipes-0")).unwrap();
        ["a.1", "a.2"].iter().for_each(|attempt| notes.tries(attempt));
        notes.asks();
        notes.tries("a.3");
        (&notes.file).write_all(b"a.3 17").unwrap();
        assert_eq!(read(folder.path()).len(), 2);
        drop(notes);
        let again = Notes::open(&file_of(folder.path(), "pipes-0")).unwrap();
        again.tries("b.1");
        again.asks();
        let asked = read(folder.path());
        assert_eq!(asked.keys().collect::<Vec<_>>(), ["a.1", "a.2", "b.1"]);
        assert!(before <= asked["a.1"] && asked["a.1"] == asked["a.2"] && asked["a.2"] <= asked["b.1"]);
    }
}
