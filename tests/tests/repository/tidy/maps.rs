//! Pages that name files and folders: a map without a test drifts. Knows which words of a page claim to be paths.

/// What the page at `path` names that `exists` does not find: in code marks and as targets of links.
pub fn missing(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    // Pages of a package speak of its sources by their path within.
    let bases = [String::new(), format!("{folder}/"), format!("{folder}/src/")];
    let found = |claim: &str| bases.iter().any(|base| exists(format!("{base}{claim}").trim_start_matches('/')));
    let marked = code_marks(text).into_iter().filter(|mark| is_claim(mark)).filter(|mark| !found(mark));
    let linked = link_targets(text).into_iter().filter(|target| !exists(&join(folder, target)));
    marked.chain(linked).map(|claim| format!("names {claim}, which does not exist")).collect()
}

fn join(folder: &str, target: &str) -> String {
    format!("{folder}/{target}").trim_start_matches('/').to_owned()
}

/// Text between single backticks, outside fenced blocks.
fn code_marks(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut marks = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            marks.extend(line.split('`').skip(1).step_by(2));
        }
    }
    marks
}

/// Targets of links that stay within the repository.
fn link_targets(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = |target: &&str| !target.contains("://") && !target.starts_with('#') && !target.is_empty();
    targets.filter(local).map(|target| target.split('#').next().unwrap_or_default()).collect()
}

/// True where the mark must be a path of ours: it starts in one of our folders, or ends as a source or a folder does.
fn is_claim(mark: &str) -> bool {
    let tops = ["broker/", "client/", "protocol/", "tools/", "tests/", "benches/", ".ci/"];
    let plain = !mark.contains([' ', '*', '<', '>', '{', '$', '…', '(', ':', '=']) && !mark.starts_with(['.', '/']);
    let fleeting = mark.starts_with("tidelog-data") || mark.starts_with("target/");
    let ours = tops.iter().any(|top| mark.starts_with(top));
    (plain || mark.starts_with(".ci/")) && !fleeting && (ours || mark.ends_with(".rs") || mark.ends_with('/'))
}

#[test]
fn a_path_that_does_not_exist_is_noticed() {
    let exists = |path: &str| ["broker/src/net/mod.rs", "broker/src/net/", "broker/log", "a.md"].contains(&path);
    let page = |text: &str| missing("broker/ARCHITECTURE.md", text, &exists);
    for text in ["see `net/gone.rs`", "`broker/gone/`", "[x](gone.md)", "`gone/`", "`.ci/gone`"] {
        assert_eq!(page(text).len(), 1, "{text}");
    }
    for text in [
        "`net/mod.rs` and `net/` and `broker/log`",
        "`max.message.bytes`, `/metrics`, `<topic>-<index>/`, `Handle::append`, `text/plain`, `net → api`",
        "[x](https://example.org/x) [y](#words)",
        "```\ncat gone.rs `gone.rs`\n```",
        "`tidelog-data/`",
    ] {
        assert_eq!(page(text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(missing("README.md", "[a](a.md#part) `broker/src/net/mod.rs`", &exists), Vec::<String>::new());
}
