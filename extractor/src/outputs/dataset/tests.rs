//! Units of work that are written, published, and broken off.

use std::path::Path;

use jiff::Timestamp;

use super::{
    super::columns::{DETECTED_CALLS, STATISTICS},
    *,
};

fn run(second: i64) -> RunName {
    let now = Timestamp::from_second(second).unwrap();
    RunName::new(b"host", Path::new("/out"), Some(&[]), now)
}

/// The rows of a call that began on a day, with one stream.
fn rows(day: u64) -> DatasetRows {
    DatasetRows {
        start_ns: day * 86_400_000_000_000,
        call: vec![Value::Missing; DETECTED_CALLS.all().len()],
        streams: vec![vec![Value::Missing; STATISTICS.all().len()]],
    }
}

/// The files below a directory: visible ones, and hidden ones.
fn files(dataset: &Dataset) -> [Vec<String>; 2] {
    let (mut visible, mut hidden) = (Vec::new(), Vec::new());
    dataset
        .for_each_file(&mut |path, name| {
            let below = path.strip_prefix(&dataset.path).unwrap();
            let below = below.to_string_lossy().into_owned();
            if name.starts_with('.') {
                hidden.push(below);
            } else {
                visible.push(below);
            }
            Ok(())
        })
        .unwrap();
    [visible, hidden]
}

#[test]
fn files_appear_when_they_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = Dataset::new(&folder.path().join("lake"), true);
    let mut progress = DatasetProgress::begin(run(1));
    dataset.cut_back(&progress).unwrap();
    for day in [0, 1, 0] {
        dataset.push(rows(day), &progress).unwrap();
    }
    dataset.prepare(&mut progress).unwrap();
    assert_eq!(files(&dataset).map(|files| files.len()), [0, 4]);
    // A process that was killed after the state was written, before or after a rename.
    let saved = progress.clone();
    let next = Dataset::new(&folder.path().join("lake"), true);
    next.cut_back(&saved).unwrap();
    let first = saved.complete[0].clone();
    fs::rename(next.part(&first), next.path.join(&first)).unwrap();
    next.publish(&mut saved.clone()).unwrap();
    next.publish(&mut saved.clone()).unwrap();
    assert_eq!(files(&next).map(|files| files.len()), [4, 0]);
    dataset.publish(&mut progress).unwrap();
    // A run that was killed before the next state was written.
    dataset.push(rows(2), &progress).unwrap();
    dataset.prepare(&mut progress).unwrap();
    drop(dataset);
    let mut restored = saved;
    next.publish(&mut restored).unwrap();
    assert_eq!(files(&next).map(|files| files.len()), [4, 2]);
    next.cut_back(&restored).unwrap();
    assert_eq!(files(&next).map(|files| files.len()), [4, 0]);
}

#[test]
fn a_run_over_the_same_files_replaces_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let foreign = path.join("calls/dt=1970-01-01/others.parquet");
    let mut dataset = Dataset::new(path, false);
    for second in [1, 2] {
        let mut progress = DatasetProgress::begin(run(second));
        dataset.push(rows(0), &progress).unwrap();
        dataset.prepare(&mut progress).unwrap();
        fs::write(&foreign, "").unwrap();
        dataset.replace_earlier(&mut progress).unwrap();
        assert_eq!(progress.obsolete.len(), if second == 1 { 0 } else { 2 });
        dataset.publish(&mut progress).unwrap();
        assert_eq!(files(&dataset).map(|files| files.len()), [3, 0]);
    }
}

#[test]
fn waiting_rows_and_open_files_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = Dataset::new(folder.path(), false);
    let mut progress = DatasetProgress::begin(run(1));
    for day in (0..20).chain([0]) {
        let mut long = rows(day);
        long.call[0] = Value::Sent(vec![b'x'; MAX_BYTES]);
        dataset.push(long, &progress).unwrap();
        assert!(dataset.calls.waiting_rows == 0 && dataset.calls.open.len() <= MAX_OPEN);
    }
    dataset.prepare(&mut progress).unwrap();
    dataset.publish(&mut progress).unwrap();
    let [visible, _] = files(&dataset);
    let calls = visible.iter().filter(|file| file.starts_with("calls/"));
    assert_eq!(calls.count(), 21);
    assert!(
        visible
            .iter()
            .any(|file| file.ends_with("-000000_2.parquet"))
    );
}
