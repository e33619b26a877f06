//! Replays the inputs that fuzzing has found: see `scripts/fuzz`.

use std::{fs, panic, path::Path};

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn found_bugs_stay_fixed() {
    for (target, check) in crate::fuzzed::TARGETS {
        let folder = corpus().join(target);
        let mut inputs: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            if panic::catch_unwind(|| check(&bytes)).is_err() {
                panic!("{} is a counterexample", input.display());
            }
        }
    }
}

/// A folder without a target is left from a target with another name.
#[test]
fn every_folder_has_a_target() {
    let mut folders: Vec<_> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, crate::fuzzed::TARGETS.map(|(target, _)| target));
}
