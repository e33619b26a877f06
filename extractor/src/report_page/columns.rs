//! The rows of the list, column by column.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Without, blocks::put_block, made, record::Record};

/// Rows in a block.
const ROWS_A_BLOCK: usize = 4096;
/// The most characters of a text in a row; the details have more.
const MAX_TEXT: usize = 200;

/// A row.
pub(super) struct Row<'r> {
    pub(super) record: &'r Record<'r>,
    /// See [`super::rank::points`].
    pub(super) points: u32,
    /// The place of its details.
    pub(super) detail: Option<usize>,
    /// The number of the file of records.
    pub(super) source: usize,
}

/// The columns of the block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Columns {
    rows: usize,
    columns: Map<String, Value>,
}

impl Columns {
    /// Adds a row.
    pub(super) fn push(
        &mut self,
        to: &mut impl Write,
        row: &Row<'_>,
        without: &Without,
    ) -> io::Result<()> {
        if self.rows >= ROWS_A_BLOCK {
            self.flush(to)?;
        }
        for (name, value) in cells(row, without) {
            let column = self.columns.entry(name).or_insert_with(|| json!([]));
            if let Some(column) = column.as_array_mut() {
                column.push(value);
            }
        }
        self.rows = self.rows.saturating_add(1);
        Ok(())
    }

    /// Writes the block, if it has rows.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let json = serde_json::to_vec(&self.columns).map_err(made)?;
        put_block(to, "rows", &json)?;
        *self = Self::default();
        Ok(())
    }
}

/// The cells of a row, with the names that `page/data.js` has. Every row has all of them.
fn cells(row: &Row<'_>, without: &Without) -> [(&'static str, Value); 22] {
    let Row { record, .. } = row;
    let text = |text: &str| Value::from(short(&without.text(text)));
    let party = |text: &str| Value::from(short(&without.party(text)));
    let maybe = |value: Option<&str>| value.map_or(Value::Null, text);
    let number = |value: Option<f64>| value.map_or(Value::Null, Value::from);
    [
        ("start_us", (record.start_ns / 1000).into()),
        ("duration_s", record.duration_s.into()),
        ("call_id", short(&without.call_id(&record.call_id)).into()),
        ("from", party(&record.sip_from)),
        ("to", party(&record.sip_to)),
        ("source", text(&record.source)),
        ("destination", text(&record.destination)),
        ("state", text(&record.state)),
        (
            "status",
            record.final_status.map_or(Value::Null, Value::from),
        ),
        ("reason", maybe(record.reason.as_deref())),
        ("setup_ms", number(record.setup_ms())),
        ("caller_ua", maybe(record.caller_ua.as_deref())),
        ("callee_ua", maybe(record.callee_ua.as_deref())),
        ("codecs", text(&record.codecs.join(" "))),
        ("problems", text(&record.problems.join(" "))),
        ("drops", record.capture_drops.into()),
        ("mos", number(record.mos())),
        ("loss", number(record.loss_percent())),
        ("jitter", number(record.jitter_ms())),
        ("points", row.points.into()),
        ("detail", row.detail.map_or(Value::from(-1), Value::from)),
        ("source_file", row.source.into()),
    ]
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text.to_owned(),
    }
}
