//! The flags of a program as Markdown, for `docs/flags.md`.

use std::{
    env,
    fmt::Write,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use clap::{Arg, Command};

/// The width that text is wrapped at.
const COLUMNS: usize = 100;

/// Compares the section of `docs/flags.md` that is named as the program with the program's flags;
/// with `DOCS=write` in the environment, replaces it.
///
/// # Panics
/// They differ.
#[track_caller]
pub fn compare(command: Command) {
    // Tests that run side by side write their sections of one page.
    static PAGE: Mutex<()> = Mutex::new(());
    let _page = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    let page = fs::read_to_string(&path).unwrap();
    let title = format!("## {}\n", command.get_name());
    let start = page.find(&title).expect("a section for the program");
    let rest = page[start + title.len()..].find("\n## ");
    let end = rest.map_or(page.len(), |len| start + title.len() + len + 1);
    let want = format!("{title}\n{}", section(command));
    let want = want.trim_end().to_owned() + if end == page.len() { "\n" } else { "\n\n" };
    if env::var_os("DOCS").is_some_and(|value| value == "write") {
        fs::write(path, [&page[..start], &want, &page[end..]].concat()).unwrap();
        return;
    }
    assert!(
        page[start..end] == want,
        "docs/flags.md does not have the flags of {0}: run `DOCS=write cargo test --workspace flags_md`, and commit the page",
        title.trim()
    );
}

/// A list for each help heading.
fn section(mut command: Command) -> String {
    command.build();
    let visible: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .collect();
    let heading = |argument: &&Arg| argument.get_help_heading().unwrap_or("General").to_owned();
    let mut headings: Vec<String> = Vec::new();
    for argument in &visible {
        if !headings.contains(&heading(argument)) {
            headings.push(heading(argument));
        }
    }
    let mut text = String::new();
    for name in headings {
        writeln!(text, "### {name}\n").unwrap();
        for argument in visible.iter().filter(|argument| heading(argument) == name) {
            text.push_str(&entry(argument));
        }
        text.push('\n');
    }
    text
}

/// A flag, its default, its help and its possible values.
fn entry(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let value = argument
        .get_value_names()
        .filter(|_| takes_value)
        .map_or_else(String::new, |names| format!(" {}", names.join(" ")));
    let short = argument
        .get_short()
        .map_or_else(String::new, |short| format!("-{short}, "));
    let aliases = argument.get_visible_aliases().unwrap_or_default();
    let aliases: String = aliases.iter().map(|name| format!(", --{name}")).collect();
    let long = argument.get_long().unwrap_or_default();
    let defaults = argument.get_default_values();
    let default = if takes_value && !argument.is_hide_default_value_set() && !defaults.is_empty() {
        let values: Vec<_> = defaults
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        format!(" (default `{}`)", values.join(" "))
    } else {
        String::new()
    };
    let help = argument
        .get_long_help()
        .or_else(|| argument.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut text = format!("* **`{short}--{long}{aliases}{value}`**{default}\\\n");
    for (number, paragraph) in help.split("\n\n").enumerate() {
        text.push_str(if number > 0 { "\n" } else { "" });
        text.push_str(&wrapped(&escaped(&sentence(paragraph)), "  "));
    }
    let values = argument.get_possible_values();
    let described = values.iter().filter(|value| value.get_help().is_some());
    for value in described.filter(|_| takes_value) {
        let help = value.get_help().unwrap_or_default();
        writeln!(
            text,
            "  * `{}`: {}",
            value.get_name(),
            sentence(&help.to_string())
        )
        .unwrap();
    }
    text
}

/// Text with a full stop: clap takes it from help of one paragraph.
fn sentence(text: &str) -> String {
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{text}{end}")
}

/// Text in which Markdown sees no HTML, outside of code.
fn escaped(text: &str) -> String {
    let mut is_code = false;
    text.chars().fold(String::new(), |mut out, char| {
        is_code ^= char == '`';
        out.push_str(if char == '<' && !is_code { "\\" } else { "" });
        out.push(char);
        out
    })
}

/// Lines of at most [`COLUMNS`], each with an indent.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > COLUMNS {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
        .iter()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}
