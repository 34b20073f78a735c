//! The files of the repository, as text. Knows nothing of rules.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what tools left behind, and bytes that are no text.
const SKIPPED: [&str; 7] = [".git", "target", "tidelog-data", "corpus", "artifacts", "coverage", "golden"];
/// Endings of what people write.
const TEXT: [&str; 5] = ["rs", "md", "toml", "css", "sh"];

/// One file; the path is relative to the repository.
pub struct File {
    pub path: String,
    pub text: String,
}

pub struct Tree {
    files: Vec<File>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Tree {
    pub fn read() -> Self {
        let mut files = Vec::new();
        walk(&root(), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    pub fn top_level() -> Vec<String> {
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn files(&self) -> &[File] {
        &self.files
    }

    pub fn file(&self, path: &str) -> &str {
        &self.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")).text
    }

    pub fn exists(&self, path: &str) -> bool {
        root().join(path).exists()
    }

    /// Folders that have a manifest.
    pub fn packages(&self) -> Vec<&str> {
        self.files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml")).collect()
    }

    /// The innermost package that a file lies in.
    pub fn package_of(&self, path: &str) -> &str {
        let holds = |package: &&str| path.strip_prefix(package).is_some_and(|rest| rest.starts_with('/'));
        self.packages().into_iter().filter(holds).max_by_key(|package| package.len()).unwrap_or_default()
    }
}

fn walk(dir: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(&entry.path(), &format!("{path}/"), files);
            }
        } else if is_text(&entry.path(), prefix) {
            files.push(File { path, text: fs::read_to_string(entry.path()).unwrap() });
        }
    }
}

fn is_text(path: &Path, prefix: &str) -> bool {
    let by_ending = path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| TEXT.contains(&ending));
    by_ending || prefix == ".ci/"
}
