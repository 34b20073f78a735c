//! What test processes that were killed left behind: namespaces, brokers in them, mounted disks. Found by the name of the process that made
//! it; whatever belongs to a process that lives is left alone. Knows nothing of what it was for.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::private_network::PREFIX;
use crate::loop_disk::FOLDER_PREFIX;
use crate::patience::wait_for;

/// Removes it. Where something cannot be removed it stays, and the test goes on.
pub fn remove() {
    remove_namespaces();
    remove_disks();
}

fn remove_namespaces() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')) else { continue };
        if !is_ownerless(rest) {
            continue;
        }
        end_all_in(name);
        let _ = Command::new("ip").args(["netns", "del", name]).output();
    }
}

/// Brokers whose test is gone; nobody else is in a namespace of that name.
fn end_all_in(namespace: &str) {
    let pids = || {
        let output = Command::new("ip").args(["netns", "pids", namespace]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect::<Vec<_>>()
    };
    for pid in pids() {
        let _ = kill_process(pid, Signal::KILL);
    }
    wait_for("the brokers of a killed test to end", || pids().is_empty().then_some(()));
}

fn remove_disks() {
    let folders = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|folder| is_ownerless_disk(folder.as_path())) {
        let mount = folder.join("disk");
        let mounted = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let of_it = |line: &str| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (Path::new(words.next()?) == mount).then(|| device.to_string())
        };
        for device in mounted.lines().filter_map(of_it) {
            let _ = Command::new("umount").arg("-l").arg(&mount).output();
            let _ = Command::new("losetup").arg("-d").arg(device).output();
        }
        // Still mounted: what is in it is not ours to delete.
        if std::fs::read_dir(&mount).is_ok_and(|mut entries| entries.next().is_none()) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn is_ownerless_disk(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(FOLDER_PREFIX).is_some_and(is_ownerless)
}

/// True where `rest` begins with the number of a process that is gone, then `-`.
fn is_ownerless(rest: &str) -> bool {
    let Some((pid, _)) = rest.split_once('-') else { return false };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::system;
    use crate::requirements::{Need, requires};

    #[test]
    fn only_what_has_no_owner_goes() {
        assert!(is_ownerless("4294967295-0-bridge"));
        assert!(!is_ownerless(&format!("{}-0-bridge", std::process::id())));
        assert!(!is_ownerless("bridge"));
    }

    #[test]
    fn a_namespace_of_a_killed_test_goes_with_who_is_in_it() {
        if !requires("leftovers", &[Need::Namespaces]) {
            return;
        }
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let name = format!("{PREFIX}-{}-0-1", gone.id());
        system("ip", &["netns", "add", &name]);
        let [program, network] = super::super::private_network::inside(&name);
        let mut orphan = Command::new(program).args([&network, "sleep", "600"]).spawn().unwrap();
        wait_for("the orphan to be there", || {
            (system("ip", &["netns", "pids", &name]) == orphan.id().to_string()).then_some(())
        });
        // A zombie is in no namespace any more, so nobody waits for its parent.
        remove();
        assert!(!orphan.wait().unwrap().success());
        assert!(!system("ip", &["netns", "list"]).contains(&name));
    }
}
