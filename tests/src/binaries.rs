//! Where the binaries and demos under test are: beside the test executable, and never older than the sources. Knows nothing of what they do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with ready binaries. Where it is set nothing is built.
pub const BINARIES_VARIABLE: &str = "TEST_BINARIES";

/// The path of a binary of this workspace, such as `tidelog-broker`. The first call of a process lets cargo bring the binaries up to
/// date, which takes no time where they are.
///
/// # Panics
/// Where they cannot be built; the message holds what cargo said.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(folder).join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins` with the profile of the tests",
        path.display()
    );
    path
}

/// The path of a demo, an example of the client. As [`binary`].
///
/// # Panics
/// As [`binary`].
#[must_use]
pub fn demo(name: &str) -> PathBuf {
    let folder = binary("tidelog-broker").parent().expect("a binary lies in a folder").to_owned();
    if std::env::var_os(BINARIES_VARIABLE).is_none() {
        build(&folder, &["--example", name]);
    }
    let path = folder.join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --example {name}`", path.display());
    path
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(BINARIES_VARIABLE) {
        return folder.into();
    }
    let executable = std::env::current_exe().expect("a process knows its executable");
    // target/PROFILE/deps/NAME-HASH
    let profile_folder =
        executable.ancestors().nth(2).expect("a test executable lies in target/PROFILE/deps").to_owned();
    // An example beside them: only then does cargo choose the features that it chooses for tests, and builds nothing a second time.
    build(&profile_folder, &["--bins", "--example", "throughput"]);
    profile_folder
}

/// Stale binaries would test yesterday's broker, so cargo is always asked; it takes its own lock.
fn build(profile_folder: &Path, what: &[&str]) {
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = profile_folder.parent().expect("a profile's folder lies in the target folder");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--workspace", "--quiet", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .output();
    match built {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "what is under test cannot be built (`cargo build --workspace {}`):\n{}",
            what.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ),
        // No cargo where only the test executables were copied to: what lies beside them is used.
        Err(error) => eprintln!("cargo cannot be run ({error}): testing the binaries in {}", profile_folder.display()),
    }
}
