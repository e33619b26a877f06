//! Captures that are given without a flag, and the flags of live capture.

use std::{
    ffi::{OsStr, OsString},
    iter,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use clap::{Command, error::ErrorKind};
use shared::{
    config_file,
    words::{Word, told_apart},
};

const FILE: &str = "input-file";
const DIRECTORY: &str = "input-dir";

/// The flags of live capture.
const CAPTURES: [&str; 2] = ["interface", "filter"];

/// Gives every capture of the line its flag: `--input-file` for a file, `--input-dir` for a
/// directory.
///
/// # Errors
/// Files and directories are named together, or a flag of live capture is there.
pub(super) fn with_flags(
    line: &[OsString],
    command: &Command,
) -> Result<Vec<OsString>, (ErrorKind, String)> {
    if let Some(advice) = live_capture(line) {
        return Err((ErrorKind::UnknownArgument, advice));
    }
    let words = told_apart(line, command);
    let program = line.first().cloned().unwrap_or_default();
    let typed: Vec<OsString> = iter::once(program.clone())
        .chain(words.iter().cloned().map(Word::into_text))
        .collect();
    let operands = || {
        words.iter().filter_map(|word| match word {
            Word::Operand(text) => Some(text),
            Word::Flag(_) => None,
        })
    };
    let given = config_file::given(&typed);
    let is_given = |flag: &str| given.contains(OsStr::new(flag));
    let directory = operands().find(|operand| is_directory(operand));
    let file = operands().find(|operand| !is_directory(operand));
    if let Some(words) = in_conflict(file, directory, is_given(FILE), is_given(DIRECTORY)) {
        return Err((ErrorKind::ArgumentConflict, words));
    }
    let with_flag = |word| match word {
        Word::Flag(text) => text,
        Word::Operand(text) => {
            let flag = if is_directory(&text) { DIRECTORY } else { FILE };
            let mut word = OsString::from(format!("--{flag}="));
            word.push(text);
            word
        }
    };
    Ok(iter::once(program)
        .chain(words.into_iter().map(with_flag))
        .collect())
}

fn is_directory(operand: &OsStr) -> bool {
    Path::new(operand).is_dir()
}

/// A run reads files as one capture, or the segments of directories, and never both.
fn in_conflict(
    file: Option<&OsString>,
    directory: Option<&OsString>,
    has_file: bool,
    has_directory: bool,
) -> Option<String> {
    let quoted = |path: &OsString| format!("`{}`", path.display());
    let (file, directory) = match (file, directory) {
        (Some(file), Some(directory)) => (quoted(file), quoted(directory)),
        (Some(file), None) if has_directory => {
            (quoted(file), "the value of --input-dir".to_owned())
        }
        (None, Some(directory)) if has_file => {
            ("the value of --input-file".to_owned(), quoted(directory))
        }
        _ => return None,
    };
    Some(format!(
        "{directory} is a directory, and {file} is none: a run reads either files or directories; give the directory alone to have all \
         of its segments read, or name its files (DIR/*.pcap)"
    ))
}

/// The command to type instead, if the line has a flag of live capture, with one hyphen or two.
fn live_capture(line: &[OsString]) -> Option<String> {
    let with_two_hyphens = |word: &OsString| match word.as_bytes() {
        [b'-', name @ ..]
            if CAPTURES
                .iter()
                .any(|flag| name.split(|byte| *byte == b'=').next() == Some(flag.as_bytes())) =>
        {
            OsString::from_vec([b"-", word.as_bytes()].concat())
        }
        _ => word.clone(),
    };
    let line: Vec<OsString> = line.iter().map(with_two_hyphens).collect();
    let [interface, filter] = CAPTURES.map(|flag| config_file::value(&line, flag));
    if interface.is_none() && filter.is_none() {
        return None;
    }
    let interface = interface.map_or_else(|| "eth0".to_owned(), |interface| quoted(&interface));
    let filter = filter
        .map(|filter| format!(" --filter {}", quoted(&filter)))
        .unwrap_or_default();
    Some(format!(
        "sip-capture-agent captures live traffic; run, at the same time,\n\n    \
         sip-capture-agent --interface {interface}{filter} --output-dir segments\n    \
         sip-call-extractor --watch --input-dir segments --output-dir calls\n\n\
         The first command captures, the second extracts the calls meanwhile."
    ))
}

/// Quotes a word for a shell.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/,@%+=".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        for (word, want) in [
            ("eth0", "eth0"),
            ("udp port 5060", "'udp port 5060'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), want);
        }
    }
}
