//! Who may depend on whom: the table of the architecture against the `[dependencies]` of a package. Knows nothing of sources.

/// A package, the packages of this workspace that it may depend on, and what it must not depend on at all.
struct Row {
    package: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

/// What belongs to the shell or to tests: it opens sockets, starts threads, reads clocks or files.
const SHELL: &[&str] = &["tokio", "openraft", "axum", "socket2", "mio"];

const ROWS: &[Row] = &[
    Row {
        package: "tidelog-protocol",
        may: &[],
        never: &["tokio", "openraft", "axum", "socket2", "mio", "rustix", "memmap2", "parking_lot"],
    },
    // The log keeps what the rules of a partition remember: producers.
    Row { package: "tidelog-log", may: &["tidelog-protocol", "tidelog-replication"], never: SHELL },
    // Pure: nothing but the protocol, so that every input is an argument.
    Row { package: "tidelog-replication", may: &["tidelog-protocol"], never: &[] },
    // Besides that the matcher of topic patterns, which is as pure.
    Row { package: "tidelog-coordination", may: &["tidelog-protocol", "regex-automata", "regex-syntax"], never: &[] },
    Row {
        package: "tidelog-broker",
        may: &["tidelog-protocol", "tidelog-log", "tidelog-replication", "tidelog-coordination"],
        never: &[],
    },
    Row { package: "tidelog-client", may: &["tidelog-protocol"], never: &["axum", "openraft", "memmap2"] },
    Row {
        package: "tidelog-tools",
        may: &["tidelog-protocol", "tidelog-client", "tidelog-log"],
        never: &["openraft", "axum"],
    },
    Row {
        package: "tidelog-tests",
        may: &[
            "tidelog-protocol",
            "tidelog-log",
            "tidelog-replication",
            "tidelog-coordination",
            "tidelog-broker",
            "tidelog-client",
            "tidelog-tools",
        ],
        never: &[],
    },
    Row {
        package: "tidelog-benches",
        may: &["tidelog-protocol", "tidelog-log", "tidelog-client", "tidelog-broker"],
        never: &[],
    },
    Row { package: "tidelog-fuzz", may: &["tidelog-protocol", "tidelog-log"], never: &["tokio"] },
];
const PURE: [&str; 2] = ["tidelog-replication", "tidelog-coordination"];
/// An oracle: another implementation that ours is compared with must not become part of ours.
const ORACLES: [&str; 1] = ["kafka-protocol"];

pub fn layering(manifest: &str) -> Vec<String> {
    let package = name(manifest);
    let Some(row) = ROWS.iter().find(|row| row.package == package) else {
        return vec![format!("the table of the architecture has no row for '{package}'")];
    };
    let mut complaints = Vec::new();
    for dependency in dependencies(manifest, "dependencies") {
        let named = dependency.as_str();
        let is_ours = named.starts_with("tidelog-");
        if (is_ours || PURE.contains(&row.package)) && !row.may.contains(&named) {
            complaints.push(format!("{package} must not depend on {named}"));
        }
        if row.never.contains(&named) || ORACLES.contains(&named) {
            complaints.push(format!("{package} must not depend on {named}, but for its tests"));
        }
    }
    complaints
}

pub fn lints(manifest: &str) -> Vec<String> {
    let inherits = section(manifest, "lints").any(|line| line.replace(' ', "") == "workspace=true");
    if inherits { Vec::new() } else { vec!["does not take over the lints of the workspace".into()] }
}

fn name(manifest: &str) -> String {
    let value = section(manifest, "package").find_map(|line| line.strip_prefix("name = "));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// The lines of the section `[name]`.
fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("[{name}]");
    let lines = manifest.lines().map(str::trim).skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('['))
}

/// The names in every table of this kind: for all targets, for one, or with a heading of its own for one dependency.
fn dependencies(manifest: &str, kind: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut within = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let is_table = head == kind || (head.starts_with("target.") && head.ends_with(&format!(".{kind}")));
            within = is_table;
            let alone = head.strip_prefix(&format!("{kind}."));
            names.extend(alone.map(ToOwned::to_owned));
        } else if within && line.contains('=') && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.push(renamed(line).unwrap_or(name).to_owned());
        }
    }
    names
}

/// The package behind `x = { package = "y" }`.
fn renamed(line: &str) -> Option<&str> {
    line.split_once("package = \"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(package: &str, rest: &str) -> String {
        format!("[package]\nname = \"{package}\"\nversion = \"1\"\n\n{rest}")
    }

    #[test]
    fn a_dependency_against_the_arrows_is_noticed() {
        for (package, rest) in [
            ("tidelog-protocol", "[dependencies]\ntokio.workspace = true\n"),
            ("tidelog-protocol", "[dependencies.tokio]\nversion = \"1\"\n"),
            ("tidelog-protocol", "[dependencies]\nt = { package = \"tokio\", version = \"1\" }\n"),
            ("tidelog-log", "[dependencies]\nbytes = \"1\"\ntokio = { workspace = true }\n"),
            ("tidelog-log", "[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n"),
            ("tidelog-replication", "[dependencies]\nbytes.workspace = true\n"),
            ("tidelog-coordination", "[dependencies]\ntidelog-log.workspace = true\n"),
            ("tidelog-client", "[dependencies]\ntidelog-broker.workspace = true\n"),
            ("tidelog-tools", "[dependencies]\nkafka-protocol.workspace = true\n"),
            ("tidelog-unheard-of", ""),
        ] {
            assert!(!layering(&manifest(package, rest)).is_empty(), "{package}\n{rest}");
        }
    }

    #[test]
    fn tests_may_depend_on_anything() {
        let rest = "[dependencies]\ntidelog-protocol.workspace = true\n# tokio = \"1\"\n\n\
            [dev-dependencies]\ntidelog-broker.workspace = true\nkafka-protocol.workspace = true\n";
        assert_eq!(layering(&manifest("tidelog-client", rest)), Vec::<String>::new());
    }

    #[test]
    fn a_package_with_lints_of_its_own_is_noticed() {
        assert!(lints("[lints]\nworkspace = true\n").is_empty());
        assert!(!lints("[lints.rust]\nunsafe_code = \"allow\"\n[dependencies]\nworkspace = true\n").is_empty());
    }
}
