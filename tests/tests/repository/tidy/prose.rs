//! Rules about one file's text and name. Knows nothing of other files.

/// A file this long is asked whether it is one concept.
const QUESTIONABLE_LINES: usize = 500;
/// A file this long is not.
const LINES_MAX: usize = 800;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 11] =
    ["util", "utils", "common", "helper", "helpers", "misc", "manager", "impl", "inner", "wrapper", "stuff"];

pub fn opening(text: &str) -> Vec<String> {
    match text.lines().next() {
        Some(line) if line.starts_with("//! ") && line.len() > 16 => Vec::new(),
        _ => vec!["does not begin with '//! ' and what it is".into()],
    }
}

pub fn length(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES_MAX { vec![format!("has {lines} lines, over the limit of {LINES_MAX}")] } else { Vec::new() }
}

pub fn is_questionable_length(text: &str) -> bool {
    text.lines().count() > QUESTIONABLE_LINES
}

/// Folders count as much as the file: `util/mod.rs` says no more than `util.rs`.
pub fn name(path: &str) -> Vec<String> {
    let words = path.trim_end_matches(".rs").split(['/', '_', '-']);
    words.filter(|word| EMPTY_NAMES.contains(word)).map(|word| format!("'{word}' in a name says nothing")).collect()
}

pub fn leftovers(text: &str) -> Vec<String> {
    // Put together, so that this file does not hold what it looks for.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!"]].map(|parts| parts.concat());
    let folders = ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wordlike = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        for word in &words {
            let stands_alone = line.match_indices(word.as_str()).any(|(at, _)| {
                let bytes = line.as_bytes();
                !wordlike(at.checked_sub(1).and_then(|before| bytes.get(before)))
                    && !wordlike(bytes.get(at + word.len()))
            });
            if stands_alone {
                found.push(format!("line {} says {word}", number + 1));
            }
        }
        for folder in &folders {
            let is_path = line.match_indices(folder.as_str()).any(|(at, _)| {
                // Within a longer path, such as a crate's module, it is nobody's folder.
                !wordlike(at.checked_sub(1).and_then(|before| line.as_bytes().get(before)))
            });
            if is_path {
                found.push(format!("line {} names the folder {folder} of some machine", number + 1));
            }
        }
    }
    found
}

pub fn opens_unsafe_door(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("#![") && line.contains("unsafe_code") && !line.contains("deny") && !line.contains("forbid")
    })
}

#[test]
fn a_file_without_an_opening_is_noticed() {
    assert!(opening("//! The frame: what stands around every message.\nuse x;").is_empty());
    for text in ["", "use x;\n//! Too late to say what it is.", "//! Short.", "// The frame, but not as documentation."]
    {
        assert!(!opening(text).is_empty(), "{text}");
    }
}

#[test]
fn a_file_that_is_too_long_is_noticed() {
    assert!(length(&"x\n".repeat(800)).is_empty() && !length(&"x\n".repeat(801)).is_empty());
    assert!(is_questionable_length(&"x\n".repeat(501)) && !is_questionable_length(&"x\n".repeat(500)));
}

#[test]
fn a_name_that_says_nothing_is_noticed() {
    for path in ["a/util.rs", "a/util/mod.rs", "a/test_helper.rs", "a/common/x.rs", "a/segment-manager.rs"] {
        assert!(!name(path).is_empty(), "{path}");
    }
    assert!(name("a/utility_function_of_reads.rs").is_empty());
}

#[test]
fn leftovers_are_noticed_where_they_stand_alone() {
    let word = ["TO", "DO"].concat();
    let folder = ["/ho", "me/"].concat();
    for text in
        [format!("// {word}: later"), format!("x({word})"), format!("path = \"{folder}me/x\""), format!("{folder}x")]
    {
        assert!(!leftovers(&text).is_empty(), "{text}");
    }
    for text in [format!("mktemp -d name.{}", "X".repeat(6)), format!("MASTO{word}N"), format!("a{folder}b")] {
        assert!(leftovers(&text).is_empty(), "{text}");
    }
}

#[test]
fn a_door_for_unsafe_code_is_noticed() {
    assert!(opens_unsafe_door("//! x\n#![allow(unsafe_code, reason = \"mapping\")]"));
    assert!(opens_unsafe_door("#![expect(unsafe_code)]"));
    assert!(!opens_unsafe_door("#![deny(unsafe_code)]\n// unsafe_code"));
}
