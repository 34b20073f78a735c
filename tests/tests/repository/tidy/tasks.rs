//! Where the broker starts what runs beside it, each task is watched: one that panics unseen leaves a broker that only looks alive.

/// Tasks that are started and not watched, outside tests.
pub fn unwatched(text: &str) -> Vec<String> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = shipped.lines().zip(1..).filter(|(line, _)| line.contains("tokio::spawn("));
    lines.map(|(_, number)| format!("line {number}: start it by Vital::spawn, or nobody notices its panic")).collect()
}

#[test]
fn a_task_that_nobody_watches_is_noticed() {
    assert_eq!(unwatched("fn f() {\n    tokio::spawn(run());\n}\n").len(), 1);
    assert!(
        unwatched("fn f() {\n    vital.spawn(\"run\", run());\n}\n#[cfg(test)]\nfn g() { tokio::spawn(run()); }")
            .is_empty()
    );
}
