//! The words of a command line before `clap` reads them. Users of the original program type one
//! hyphen and `--debug=false`; these become the flags that `clap` knows. Both programs use this.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::{Arg, ArgAction, Command};

/// A word of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A flag, its value, or a word that `clap` will refuse.
    Flag(OsString),
    /// A word that is not part of a flag, such as the name of a file.
    Operand(OsString),
}

impl Word {
    /// Returns the text.
    #[must_use]
    pub fn into_text(self) -> OsString {
        match self {
            Self::Flag(text) | Self::Operand(text) => text,
        }
    }
}

/// Separates flags from operands, without the program's name. Flags get their long names: `-debug`
/// and `-v` become `--debug`. The `command` must be built.
#[must_use]
pub fn told_apart(line: &[OsString], command: &Command) -> Vec<Word> {
    let mut words = Vec::new();
    let mut line = line.iter().skip(1);
    while let Some(word) = line.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            words.extend(line.map(|word| Word::Operand(word.clone())));
            break;
        }
        if bytes == b"-" || !bytes.starts_with(b"-") {
            words.push(Word::Operand(word.clone()));
            continue;
        }
        let (flags, wants_value) = long(bytes, command);
        words.extend(flags.into_iter().map(Word::Flag));
        if wants_value && let Some(value) = line.next() {
            words.push(Word::Flag(value.clone()));
        }
    }
    words
}

/// Returns the flags of a word under their long names, and true if the next word is the value of
/// the last flag. A word that names no flag is returned unchanged.
fn long(word: &[u8], command: &Command) -> (Vec<OsString>, bool) {
    let name = word
        .strip_prefix(b"--")
        .or_else(|| word.strip_prefix(b"-"))
        .unwrap_or(word);
    let plain = name.split(|byte| *byte == b'=').next().unwrap_or(name);
    let as_it_is = vec![OsString::from_vec(word.to_owned())];
    if let Some(argument) = command
        .get_arguments()
        .find(|argument| has_long(argument, plain))
    {
        let wants_value = takes_value(argument) && plain.len() == name.len();
        return (
            vec![OsString::from_vec([b"--", name].concat())],
            wants_value,
        );
    }
    if word.starts_with(b"--") {
        return (as_it_is, false);
    }
    // `-output DIR` does not mean `-o utput`: behind two hyphens `clap` knows which flag is meant.
    if plain.len() > 2
        && command
            .get_arguments()
            .any(|argument| begins_like(argument, plain))
    {
        return (vec![OsString::from_vec([b"--", name].concat())], false);
    }
    short(name, command).unwrap_or((as_it_is, false))
}

/// Returns the same for flags of one letter, several in a word; the rest of the word may be the
/// value of the last one.
fn short(letters: &[u8], command: &Command) -> Option<(Vec<OsString>, bool)> {
    let mut flags = Vec::new();
    let mut rest = letters;
    while let Some((letter, behind)) = rest.split_first() {
        let has_letter = |argument: &&Arg| argument.get_short() == Some(char::from(*letter));
        let argument = command.get_arguments().find(has_letter)?;
        // `-h` prints a shorter help than `--help`.
        let long = argument
            .get_long()
            .filter(|_| !matches!(argument.get_action(), ArgAction::Help | ArgAction::Version))?;
        let mut flag = OsString::from(format!("--{long}"));
        if takes_value(argument) {
            if !behind.is_empty() {
                flag.push("=");
                flag.push(OsStr::from_bytes(
                    behind.strip_prefix(b"=").unwrap_or(behind),
                ));
            }
            flags.push(flag);
            return Some((flags, behind.is_empty()));
        }
        flags.push(flag);
        rest = behind;
    }
    Some((flags, false))
}

fn has_long(argument: &Arg, name: &[u8]) -> bool {
    let aliases = argument.get_all_aliases().unwrap_or_default();
    argument
        .get_long()
        .into_iter()
        .chain(aliases)
        .any(|long| long.as_bytes() == name)
}

fn begins_like(argument: &Arg, name: &[u8]) -> bool {
    argument
        .get_long()
        .is_some_and(|long| long.as_bytes().starts_with(name))
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// Writes switches as `clap` knows them: `--debug=true` becomes `--debug`, and `--debug=false` is
/// left out. (Go's other spellings of true and false count, too.)
#[must_use]
pub fn without_truth(words: &[OsString], command: &Command) -> Vec<OsString> {
    words
        .iter()
        .filter_map(|word| switch(word, command).unwrap_or_else(|| Some(word.clone())))
        .collect()
}

/// Parses a switch with a value; `None` if it is not one.
#[expect(
    clippy::option_option,
    reason = "no switch, one that is off, one that is on"
)]
fn switch(word: &OsStr, command: &Command) -> Option<Option<OsString>> {
    let (name, value) = word.to_str()?.strip_prefix("--")?.split_once('=')?;
    let argument = command
        .get_arguments()
        .find(|argument| has_long(argument, name.as_bytes()))?;
    if !matches!(argument.get_action(), ArgAction::SetTrue) {
        return None;
    }
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Some(format!("--{name}").into())),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(version)]
    struct Arguments {
        #[arg(long, short)]
        input_file: Vec<String>,
        #[arg(long, short = 'v', alias = "verbose")]
        debug: bool,
        #[arg(long, short)]
        quiet: bool,
        #[arg(long)]
        since: Option<String>,
    }

    fn command() -> Command {
        let mut command = Arguments::command();
        command.build();
        command
    }

    fn apart(line: &str) -> String {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text = |word: Word| match word {
            Word::Flag(text) => text.into_string().unwrap(),
            Word::Operand(text) => format!("<{}>", text.into_string().unwrap()),
        };
        told_apart(&line, &command())
            .into_iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn flags_get_their_long_names() {
        for (typed, want) in [
            (
                "p -input-file a -debug=false b",
                "--input-file a --debug=false <b>",
            ),
            ("p --input-file=a - -debug", "--input-file=a <-> --debug"),
            (
                "p -i a -ib -i=c -qv d",
                "--input-file a --input-file=b --input-file=c --quiet --debug <d>",
            ),
            ("p -qi a b", "--quiet --input-file a <b>"),
            ("p --since -2h -since=-2h a", "--since -2h --since=-2h <a>"),
            ("p -verbose -h -V -help", "--verbose -h -V --help"),
            (
                "p -input a -inputs -deb",
                "--input <a> --input-file=nputs --deb",
            ),
            (
                "p -x -unknown --unknown=1 -é a",
                "-x -unknown --unknown=1 -é <a>",
            ),
            ("p a -- -i -q", "<a> <-i> <-q>"),
            ("p -i", "--input-file"),
        ] {
            assert_eq!(apart(typed), want, "{typed}");
            let again = format!("p {}", apart(typed)).replace(['<', '>'], "");
            assert!(
                typed.contains(" -- ") || apart(&again) == want,
                "once is enough: {typed}"
            );
        }
    }

    #[test]
    fn switches_may_say_true_or_false() {
        let words = [
            "--debug=true",
            "--quiet=false",
            "--input-file=true",
            "--debug=maybe",
            "--debug",
            "true",
        ]
        .map(OsString::from);
        assert_eq!(
            without_truth(&words, &command()),
            [
                "--debug",
                "--input-file=true",
                "--debug=maybe",
                "--debug",
                "true"
            ]
        );
    }
}
