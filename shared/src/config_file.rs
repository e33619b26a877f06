//! A file of flags (`--config`): TOML with the names of flags as keys. The flags of the file are
//! put before those of the command line. A flag that the command line also gives is left out, and
//! so is one that conflicts with a flag of the command line.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the file that --config names"
)]

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, iter,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::{
    Arg, ArgAction, ArgGroup, Command, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use toml::{Table, Value};

use crate::words::{self, Word};

const CONFIG: &str = "config";

/// With one of these flags the program only prints something and ends.
const ASKS: [&str; 4] = ["--help", "-h", "--version", "-V"];

/// Parses a command line (the program's name comes first) and the file that it names.
///
/// # Errors
/// The command line or the file is wrong, the file cannot be read, or the user asks for help.
pub fn arguments<A: CommandFactory + FromArgMatches>(line: &[OsString]) -> Result<A, clap::Error> {
    let mut command = A::command();
    command.build();
    let program = line.first().cloned().unwrap_or_default();
    let typed = words::told_apart(line, &command)
        .into_iter()
        .map(Word::into_text);
    let line: Vec<OsString> = iter::once(program.clone()).chain(typed).collect();
    let mut whole = vec![program];
    let file = value(&line, CONFIG)
        .filter(|_| !line.iter().any(|word| ASKS.iter().any(|asks| word == asks)));
    if let Some(file) = &file {
        let flags = fs::read_to_string(file)
            .map_err(|error| format!("cannot read the file {}: {error}", file.display()));
        let flags = flags.and_then(|text| {
            let wrong = |why| format!("the file {} has an error: {why}", file.display());
            flags_of(&text, &command, &given(&line)).map_err(wrong)
        });
        whole.extend(flags.map_err(|why| command.error(ErrorKind::InvalidValue, why))?);
    }
    whole.extend(words::without_truth(
        line.get(1..).unwrap_or_default(),
        &command,
    ));
    command
        .try_get_matches_from_mut(whole)
        .and_then(|matches| A::from_arg_matches(&matches))
        .map_err(|mut error| {
            if let Some(file) = file {
                let tip = format!("the flags of the file {} count, too", file.display());
                error.insert(
                    ContextKind::Suggested,
                    ContextValue::StyledStrs(vec![tip.into()]),
                );
            }
            error
        })
}

/// Returns the flags of a file that the command line does not give and that do not conflict with
/// it.
fn flags_of(
    text: &str,
    command: &Command,
    given: &BTreeSet<&OsStr>,
) -> Result<Vec<OsString>, String> {
    let is_given = |argument: &&Arg| {
        argument
            .get_long()
            .is_some_and(|long| given.contains(OsStr::new(long)))
    };
    let given: Vec<&Arg> = command.get_arguments().filter(is_given).collect();
    let mut flags = Vec::new();
    for (key, value) in text.parse::<Table>().map_err(|error| error.to_string())? {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(&key));
        let Some(argument) = argument.filter(|_| key != CONFIG) else {
            return Err(format!(
                "`{key}` is not a flag for a file; --help lists the flags"
            ));
        };
        let gives_way = given.iter().any(|given| {
            given.get_id() == argument.get_id() || are_in_conflict(command, given, argument)
        });
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            let Value::Boolean(is_set) = value else {
                return Err(format!("`{key}` must be true or false"));
            };
            flags.extend((is_set && !gives_way).then(|| format!("--{key}").into()));
        } else {
            let values = values(&key, value)?;
            flags.extend(
                values
                    .iter()
                    .filter(|_| !gives_way)
                    .map(|value| OsString::from(format!("--{key}={value}"))),
            );
        }
    }
    Ok(flags)
}

/// True if two flags cannot be given together.
fn are_in_conflict(command: &Command, one: &Arg, other: &Arg) -> bool {
    let excludes = |one: &Arg, other: &Arg| {
        command
            .get_arg_conflicts_with(one)
            .iter()
            .any(|arg| arg.get_id() == other.get_id())
    };
    let is_choice = |group: &ArgGroup| {
        let has = |arg: &Arg| group.get_args().any(|id| id == arg.get_id());
        !group.clone().is_multiple() && has(one) && has(other)
    };
    excludes(one, other) || excludes(other, one) || command.get_groups().any(is_choice)
}

fn values(key: &str, value: Value) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::String(text) => vec![text],
        Value::Integer(number) => vec![number.to_string()],
        Value::Datetime(time) => vec![time.to_string()],
        Value::Array(items) => items
            .into_iter()
            .map(|item| values(key, item))
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        _ => {
            return Err(format!(
                "`{key}` must be a text, a number, a time, or a list of them"
            ));
        }
    })
}

/// Returns the names of the flags in a command line, without their hyphens.
#[must_use]
pub fn given(line: &[OsString]) -> BTreeSet<&OsStr> {
    let flags = line
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .filter_map(|word| word.as_bytes().strip_prefix(b"--"));
    flags
        .map(|flag| OsStr::from_bytes(flag.split(|byte| *byte == b'=').next().unwrap_or(flag)))
        .collect()
}

/// Returns the value of a flag in a command line: the next word, or the text after `=`.
#[must_use]
pub fn value(line: &[OsString], name: &str) -> Option<OsString> {
    let mut words = line.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        match word
            .as_bytes()
            .strip_prefix(b"--")
            .and_then(|flag| flag.strip_prefix(name.as_bytes()))
        {
            Some([]) => return words.next().cloned(),
            Some([b'=', value @ ..]) => return Some(OsString::from_vec(value.to_owned())),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Parser)]
    struct Arguments {
        #[arg(long, required = true)]
        interface: Vec<String>,
        #[arg(long, default_value_t = 9)]
        snaplen: u32,
        #[arg(long, conflicts_with = "any")]
        promiscuous: bool,
        #[arg(long)]
        any: bool,
        #[arg(long)]
        since: Option<String>,
        #[arg(long)]
        config: Option<std::path::PathBuf>,
    }

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        arguments(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn with_file(content: &str, words: &[&str]) -> Result<Arguments, clap::Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, content).unwrap();
        let apart = parse(&[&["agent", "--config", path.to_str().unwrap()], words].concat());
        let together =
            parse(&[&["agent", &format!("--config={}", path.display())], words].concat());
        assert_eq!(apart.as_ref().ok(), together.as_ref().ok());
        apart
    }

    #[test]
    fn a_file_says_what_the_command_line_does_not() {
        let content = "interface = [\"eth0\", \"eth1\"]\nsnaplen = 1600\npromiscuous = true\nsince = 2023-12-01T14:30:00Z\n";
        let arguments = with_file(content, &[]).unwrap();
        assert_eq!(arguments.interface, ["eth0", "eth1"]);
        assert_eq!((arguments.snaplen, arguments.promiscuous), (1600, true));
        assert_eq!(arguments.since.as_deref(), Some("2023-12-01T14:30:00Z"));
        let arguments = with_file(
            content,
            &["--interface", "any", "--promiscuous", "--snaplen=96"],
        )
        .unwrap();
        assert_eq!(
            (arguments.interface, arguments.snaplen),
            (vec!["any".to_owned()], 96)
        );
        let arguments = with_file(content, &["--any"]).unwrap();
        assert!(
            arguments.any && !arguments.promiscuous,
            "a conflicting flag of the file is left out"
        );
        let arguments = with_file("interface = 'eth0'\npromiscuous = false", &[]).unwrap();
        assert_eq!((arguments.promiscuous, arguments.snaplen), (false, 9));
    }

    #[test]
    fn without_a_file_the_command_line_is_all() {
        assert_eq!(
            parse(&["agent", "--interface", "eth0"]).unwrap().interface,
            ["eth0"]
        );
        assert_eq!(
            parse(&["agent"]).unwrap_err().kind(),
            ErrorKind::MissingRequiredArgument
        );
        assert_eq!(
            parse(&["agent", "--interface", "eth0", "--config"])
                .unwrap_err()
                .exit_code(),
            2
        );
    }

    #[test]
    fn an_error_in_a_file_is_explained() {
        for (content, words) in [
            ("snaplen = ", "agent.toml"),
            ("interface = \"eth0\"\nsnap-length = 96", "`snap-length`"),
            ("interface = \"eth0\"\nsnaplen = \"many\"", "many"),
            ("interface = \"eth0\"\npromiscuous = 1", "true or false"),
            ("interface = { name = \"eth0\" }", "`interface`"),
            ("config = \"other.toml\"", "`config`"),
        ] {
            let error = with_file(content, &[]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let error = error.to_string();
            assert!(
                error.contains(words) && error.contains("agent.toml"),
                "{content}: {error}"
            );
        }
        assert_eq!(
            with_file("snaplen = ", &["--help"]).unwrap_err().kind(),
            ErrorKind::DisplayHelp
        );
        assert!(
            parse(&["agent", "--config", "/no/such/file"])
                .unwrap_err()
                .to_string()
                .contains("/no/such/file")
        );
    }
}
