//! Text in lines of a given width.

use std::fmt::Write;

use jiff::Timestamp;

use crate::{
    calls::{Link, TracedCall},
    outputs::printable,
};

/// The narrowest text that is tried.
const MIN_COLUMNS: usize = 60;
/// The widest first columns of a table; what is wider moves its own row only.
const MAX_CELL: usize = 48;

/// A text that grows.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    pub(super) columns: usize,
}

impl Page {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            text: String::new(),
            columns: columns.max(MIN_COLUMNS),
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Adds a line, which is not wrapped.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Adds a heading behind an empty line.
    pub(super) fn heading(&mut self, heading: &str) {
        self.blank();
        self.line(heading);
    }

    /// Adds text behind a prefix, under which its further lines begin.
    pub(super) fn wrapped(&mut self, prefix: &str, text: &str) {
        let indent = width(prefix);
        let room = self.columns.saturating_sub(indent).max(20);
        let mut line = String::new();
        let mut start = prefix.to_owned();
        for word in text.split(' ') {
            if !line.is_empty() && width(&line).saturating_add(1).saturating_add(width(word)) > room
            {
                self.line(&format!("{start}{line}"));
                start = " ".repeat(indent);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("{start}{line}"));
    }

    /// Adds rows; all columns but the last, which is wrapped, are aligned.
    pub(super) fn table<const N: usize>(&mut self, rows: &[[String; N]]) {
        let mut widths = [0; N];
        for row in rows {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = width(cell).min(MAX_CELL).max(*most);
            }
        }
        for row in rows {
            let mut prefix = "  ".to_owned();
            let Some((last, cells)) = row.split_last() else {
                continue;
            };
            for (cell, most) in cells.iter().zip(widths) {
                // Numbers are aligned at their end.
                let is_number = cell
                    .bytes()
                    .next()
                    .is_some_and(|byte| byte.is_ascii_digit())
                    && cell
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || byte == b',');
                let _ = if is_number {
                    write!(prefix, "{cell:>most$}  ")
                } else {
                    write!(prefix, "{cell:<most$}  ")
                };
            }
            self.wrapped(&prefix, last);
        }
    }
}

/// The number of columns of a text; [`printable`] text has no control characters.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text, or as much of it as fits in `columns`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = text.chars().take(columns.saturating_sub(2));
    kept.chain("..".chars()).collect()
}

/// The time since the start of a call, in seconds with three decimals.
pub(super) fn since(start_ns: u64, time_ns: u64) -> String {
    let sign = if time_ns < start_ns { "-" } else { "" };
    let ms = start_ns.abs_diff(time_ns) / 1_000_000;
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

/// `1 packet`, `2 packets`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {what}{end}", shared::units::grouped(count))
}

/// Writes who calls whom, when, and the end.
pub(super) fn head(page: &mut Page, call: &TracedCall) {
    page.line(&format!("Call {}", printable(&call.call_id)));
    page.wrapped("  from   ", &printable(&call.from));
    page.wrapped("  to     ", &printable(&call.to));
    let start = Timestamp::from_nanosecond(call.start_ns.into());
    let start = start.map_or_else(|_| call.start_ns.to_string(), |start| start.to_string());
    page.wrapped(
        "  start  ",
        &format!("{start}; all times below are seconds since then"),
    );
    let Some((at, end)) = call.end else {
        return;
    };
    let status = end.final_status.map(|status| format!(", status {status}"));
    let closed = if end.closed_at == u64::MAX {
        String::new()
    } else {
        format!(", closed at {}", since(call.first_frame.clock, at.clock))
    };
    let status = status.unwrap_or_default();
    page.wrapped("  end    ", &format!("{}{status}{closed}", end.state));
}

/// Writes the other legs of the conversation, with the reasons.
pub(super) fn legs(page: &mut Page, call: &TracedCall) {
    if call.links.is_empty() {
        return;
    }
    page.heading("Other legs of the conversation");
    let row = |link: &Link| {
        [
            since(call.start_ns, link.start_ns),
            link.reason.to_string(),
            printable(&link.call_id),
        ]
    };
    let rows: Vec<_> = call.links.iter().map(row).collect();
    page.table(&rows);
}
