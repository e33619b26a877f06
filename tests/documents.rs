//! The documents: their links lead somewhere, their flags are those of the programs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use clap::CommandFactory;
use sip_call_extractor::cli::{
    Arguments, ExplainArguments, FindArguments, IndexArguments, ReportArguments,
};
use support::flags;

/// Lines that a reader of the README has to scroll through, at most.
const README_LINES: usize = 150;

/// Columns of a line, outside of code, tables and what cannot be broken.
const COLUMNS: usize = 120;

/// Lines of a paragraph.
const PARAGRAPH_LINES: usize = 5;

#[test]
fn flags_md_has_the_flags_of_the_extractor() {
    flags::compare(Arguments::command());
}

#[test]
fn flags_md_has_the_flags_of_explain() {
    flags::compare(ExplainArguments::command());
}

#[test]
fn flags_md_has_the_flags_of_index() {
    flags::compare(IndexArguments::command());
}

#[test]
fn flags_md_has_the_flags_of_find() {
    flags::compare(FindArguments::command());
}

#[test]
fn flags_md_has_the_flags_of_report() {
    flags::compare(ReportArguments::command());
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<&Path, Vec<String>> = pages
        .iter()
        .map(|(path, text)| (path.as_path(), anchors(text)))
        .collect();
    let mut count = 0;
    for (path, text) in &pages {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                whole(&path.with_file_name(file))
            };
            assert!(to.exists(), "{}: no {link}", path.display());
            let has_anchor = || anchors[to.as_path()].iter().any(|name| name == anchor);
            assert!(
                anchor.is_empty() || has_anchor(),
                "{}: no heading for {link}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 40, "{count} links");
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "{lines} lines");
}

#[test]
fn the_recipes_of_the_readme_are_tested() {
    let page = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (readme, recipes) = (page("README.md"), page("docs/recipes.md"));
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).collect();
    assert!(blocks.len() >= 4, "{} blocks", blocks.len());
    for block in blocks {
        let block = block.split("```").next().unwrap();
        assert!(recipes.contains(block), "not in docs/recipes.md: {block}");
    }
}

#[test]
fn paragraphs_are_short() {
    for (path, text) in pages() {
        let mut lines = 0;
        for (number, line) in prose(&text).enumerate() {
            let is_item = line.trim_start().starts_with(['*', '-', '#', '|'])
                || line
                    .trim_start()
                    .split_once(". ")
                    .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
            lines = match line.trim() {
                "" => 0,
                _ if is_item => 1,
                _ => lines + 1,
            };
            let place = format!("{}:{}", path.display(), number + 1);
            assert!(lines <= PARAGRAPH_LINES, "{place}: a long paragraph");
            let is_long = line.chars().count() > COLUMNS && !line.starts_with('|');
            assert!(!is_long, "{place}: a long line");
        }
    }
}

/// The directory of the workspace.
fn root() -> PathBuf {
    whole(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

/// The pages of the repository, in its first two levels.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for directory in [root(), root().join("docs")] {
        let entries = fs::read_dir(directory).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// A path without `.` and `..`.
fn whole(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// The lines of a page; those of code are empty.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().map(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence { "" } else { line }
    })
}

/// The targets of the links in a page.
fn links(text: &str) -> Vec<&str> {
    prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .map(|rest| rest.split(')').next().unwrap())
        .collect()
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let slug: String = heading
            .chars()
            .filter(|char| char.is_alphanumeric() || " -_".contains(*char))
            .map(|char| if char == ' ' { '-' } else { char })
            .collect();
        let again = anchors.iter().filter(|anchor| **anchor == slug).count();
        anchors.push(if again > 0 {
            format!("{slug}-{again}")
        } else {
            slug
        });
    }
    anchors
}
