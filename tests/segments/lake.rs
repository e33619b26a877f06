//! The Parquet files that a run writes beside its other results. Their bytes depend on the units of
//! work, their rows do not.

#[cfg(feature = "parquet")]
use std::fs::File;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use support::{desk::Desk, ladder::extract_bytes};

use super::{cuts::ALL_FILES, everything::Packets};

/// The rows of all files, with the directories of their days, sorted.
pub type LakeRows = Vec<String>;

/// The directory of Parquet files beside a desk's results.
fn directory(desk: &Desk) -> PathBuf {
    desk.folder().join("lake")
}

/// The flags of a run that writes Parquet files, if it can.
pub fn flags(desk: &Desk) -> Vec<String> {
    if cfg!(feature = "parquet") {
        let directory = directory(desk).display().to_string();
        vec!["--parquet".to_owned(), directory]
    } else {
        Vec::new()
    }
}

/// The rows of a run over the whole capture.
pub fn rows_of_the_whole(packets: &Packets) -> LakeRows {
    let desk = Desk::new();
    let flags = flags(&desk);
    let lake: Vec<&str> = flags.iter().map(String::as_str).collect();
    let got = extract_bytes(&packets.whole(), &[&ALL_FILES, &lake[..]].concat());
    assert_eq!(got.status, Some(0), "{}", got.log);
    let rows = rows(&desk);
    assert!(!cfg!(feature = "parquet") || rows.len() > 20, "{rows:?}");
    rows
}

/// All files, hidden ones too: their paths below the directory, and their bytes.
fn files(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    let top = directory(desk);
    let mut files = BTreeMap::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&top).unwrap().display().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn is_hidden(name: &str) -> bool {
    name.rsplit('/').next().unwrap().starts_with('.')
}

/// The rows of all visible files.
pub fn rows(desk: &Desk) -> LakeRows {
    let visible = files(desk).into_keys().filter(|name| !is_hidden(name));
    let mut rows: LakeRows = visible
        .flat_map(|name| {
            let folder = name.rsplit_once('/').unwrap().0.to_owned();
            let rows = rows_of(&directory(desk).join(&name));
            rows.into_iter().map(move |row| format!("{folder} {row}"))
        })
        .collect();
    rows.sort();
    rows
}

#[cfg(feature = "parquet")]
fn rows_of(path: &Path) -> Vec<String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().to_string()).collect()
}

#[cfg(not(feature = "parquet"))]
fn rows_of(path: &Path) -> Vec<String> {
    unreachable!("{} was written without Parquet", path.display())
}

/// Checks that the visible rows are a part of these, each once, and that the files which were there
/// before have not changed. Returns the visible files.
#[track_caller]
pub fn shows_only(
    desk: &Desk,
    want: &LakeRows,
    before: &BTreeMap<String, Vec<u8>>,
    what: &str,
) -> BTreeMap<String, Vec<u8>> {
    let mut left = want.iter().peekable();
    for row in rows(desk) {
        while left.next_if(|next| **next < row).is_some() {}
        assert_eq!(left.next(), Some(&row), "{what}: a row too many");
    }
    let mut now = files(desk);
    now.retain(|name, _| !is_hidden(name));
    for (name, bytes) in before {
        assert_eq!(now.get(name), Some(bytes), "{what}: {name} has changed");
    }
    now
}

/// Checks that the rows are these, and that no hidden file is left.
#[track_caller]
pub fn has(desk: &Desk, want: &LakeRows, what: &str) {
    let hidden: Vec<String> = files(desk)
        .into_keys()
        .filter(|name| is_hidden(name))
        .collect();
    assert!(hidden.is_empty(), "{what}: {hidden:?} is left");
    let got = rows(desk);
    let missing: Vec<_> = want.iter().filter(|row| !got.contains(row)).collect();
    assert!(missing.is_empty(), "{what}: {missing:#?} is missing");
    assert_eq!(got.len(), want.len(), "{what}: rows are there twice");
}
