//! Lines to send: what a real system logged where it is at hand, else lines of the same kind. Knows nothing of topics.

use std::fmt::Write;
use std::path::Path;

use crate::binaries::workspace;

/// 5,307 lines that a Kafka controller wrote, beside the workspace.
const REAL: &str = "../shared/data/kafka-state-change.log";

/// The real input, byte for byte, or a generated one: a few thousand lines of differing length, some of them equal, some empty, the
/// last one closed by a newline.
#[must_use]
pub fn lines() -> Vec<u8> {
    std::fs::read(workspace().join(REAL)).unwrap_or_else(|_| generated().into_bytes())
}

/// Writes [`lines`] to a file in `folder`.
///
/// # Panics
/// Where the folder cannot be written to.
#[must_use]
pub fn lines_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("input.log");
    std::fs::write(&path, lines()).unwrap();
    path
}

/// The lines of a text, sorted, for comparing what several partitions gave.
#[must_use]
pub fn sorted(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn generated() -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut text = String::new();
    for number in 0..5_000 {
        let partition = rng.u32(..50);
        if number % 97 == 0 {
            text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[2015-11-{:02} 10:{:02}:{:02},{:03}] TRACE Controller {} epoch {} changed partition [topic-é,{partition}] from {} to Online{}",
            1 + number / 250,
            rng.u32(..60),
            rng.u32(..60),
            rng.u32(..1000),
            rng.u32(..3),
            number / 1000,
            if rng.bool() { "New" } else { "Offline" },
            "\t(state.change.logger)".repeat(rng.usize(..4)),
        );
    }
    text
}
