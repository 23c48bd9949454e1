//! Journals that earlier versions wrote, kept as they were: each later version reads them, so that what was done can be taken back.
#![expect(clippy::disallowed_methods, reason = "the journals lie beside the tests")]

use std::{collections::BTreeSet, fs, path::Path};

use vprov::host::journal::{Ending, Inverse, Saved, Story};

/// Reads one of the journals, whose first line names its run.
fn story(name: &str) -> Story {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal").join(name);
    let text = fs::read(&path).expect("it is kept");
    let begun: serde_json::Value =
        serde_json::from_slice(text.split(|byte| *byte == b'\n').next().unwrap_or_default()).expect("it is JSON");
    let run = begun["begun"]["run"].as_str().and_then(|run| run.parse().ok()).expect("it names its run");
    Story::decode(&run, &text).unwrap_or_else(|error| panic!("{name}{error}"))
}

#[test]
fn journals_of_format_1_are_read() {
    let mut seen = BTreeSet::new();
    for (name, operations, ending) in [
        ("1-host-apply.jsonl", 11, Ending::Failed),
        ("1-root-apply.jsonl", 19, Ending::Done),
        ("1-root-rollback.jsonl", 19, Ending::Done),
    ] {
        let story = story(name);
        assert_eq!((story.by.as_str(), story.intents.len()), ("root@vm", operations), "{name}");
        assert_eq!(story.ended.map(|(_, how)| how), Some(ending), "{name}");
        assert_eq!(story.takes_back.is_some(), name.ends_with("rollback.jsonl"), "{name}");
        assert!(story.intents.iter().all(|intent| intent.outcome.is_some()), "{name}");
        for (_, inverse) in story.inverses() {
            seen.insert(match inverse {
                Inverse::Restore { before: Saved::Absent, .. } => "restore absence",
                Inverse::Restore { before: Saved::File { xattrs, .. }, .. } if !xattrs.is_empty() => {
                    "restore attributes"
                }
                Inverse::Restore { before: Saved::File { .. }, .. } => "restore a file",
                Inverse::Restore { before: Saved::Link { .. }, .. } => "restore a link",
                Inverse::Restore { before: Saved::Directory { .. }, .. } => "restore a directory",
                Inverse::Value { .. } => "write a value",
                Inverse::Program { .. } => "run a program",
                Inverse::Derive { .. } => "generate again",
                Inverse::Irreversible => "nothing",
            });
        }
    }
    let expected = [
        "generate again",
        "nothing",
        "restore a directory",
        "restore a file",
        "restore a link",
        "restore absence",
        "run a program",
    ];
    assert!(expected.iter().all(|what| seen.contains(what)), "{seen:?}");
}
