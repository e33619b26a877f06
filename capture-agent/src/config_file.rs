//! A file of flags: TOML with the flags' names as keys. What it says is put before the command line, as if it stood there.
#![allow(clippy::disallowed_methods, reason = "a door: reads the file that --config names")]

use std::{fs, path::Path};

use anyhow::{Context, bail};
use clap::{ArgAction, ArgMatches, Command, parser::ValueSource};
use toml::{Table, Value};

/// The flags of this file that the command line does not give.
pub(crate) fn flags(file: &Path, command: &Command, given: &ArgMatches) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("the file {} cannot be read", file.display()))?;
    of_text(&text, command, given).with_context(|| format!("the file {} is not right", file.display()))
}

fn of_text(text: &str, command: &Command, given: &ArgMatches) -> anyhow::Result<Vec<String>> {
    let mut flags = Vec::new();
    for (key, value) in text.parse::<Table>()? {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(&key));
        let Some(argument) = argument.filter(|_| key != "config") else {
            bail!("`{key}` is no flag that a file can hold; --help lists them");
        };
        if given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            let Value::Boolean(is_set) = value else { bail!("`{key}` is either true or false") };
            flags.extend(is_set.then(|| format!("--{key}")));
        } else {
            for value in values(&key, value)? {
                flags.push(format!("--{key}={value}"));
            }
        }
    }
    Ok(flags)
}

fn values(key: &str, value: Value) -> anyhow::Result<Vec<String>> {
    Ok(match value {
        Value::String(text) => vec![text],
        Value::Integer(number) => vec![number.to_string()],
        Value::Array(items) => items.into_iter().map(|item| values(key, item)).collect::<anyhow::Result<Vec<_>>>()?.concat(),
        _ => bail!("`{key}` is a text, a number, or a list of them"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For tests of modules that are no doors.
    pub(crate) fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
    }
}
