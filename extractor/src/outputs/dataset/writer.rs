//! Writes a Parquet file: rows of values, a group of rows at a time.

use std::{fmt, fs::File, sync::Arc};

use anyhow::{Context, Result};
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use super::{
    super::{
        columns::{Column, Kind, Table},
        value::Value,
    },
    Row,
};

/// A Parquet file that is being written.
pub(super) struct FileWriter {
    to: SerializedFileWriter<File>,
    columns: &'static [Column],
}

impl fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter").finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Begins a file with the columns of a table.
    pub(super) fn begin(file: File, table: &Table) -> Result<Self> {
        let columns = table.all();
        let fields = columns.iter().map(|column| Ok(Arc::new(field(column)?)));
        let schema = Type::group_type_builder("schema")
            .with_fields(fields.collect::<Result<_>>()?)
            .build()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        Ok(Self {
            to: SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?,
            columns,
        })
    }

    /// Writes a group of rows.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<()> {
        let mut group = self.to.next_row_group()?;
        for (place, (_, kind)) in self.columns.iter().enumerate() {
            let to = group.next_column()?.context("a column is missing")?;
            let values = rows.iter().map(|row| row.get(place));
            match kind {
                Kind::Text => write_column::<ByteArrayType>(to, values, text),
                Kind::Integer => write_column::<Int64Type>(to, values, integer),
                Kind::Decimal => write_column::<DoubleType>(to, values, double),
                Kind::Time => write_column::<Int64Type>(to, values, microseconds),
                Kind::Flag => write_column::<BoolType>(to, values, flag),
            }?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes the end of the file.
    pub(super) fn end(self) -> Result<()> {
        self.to.close()?;
        Ok(())
    }
}

/// A column of the schema.
fn field(&(name, kind): &Column) -> Result<Type> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Decimal => (Physical::DOUBLE, None),
        Kind::Time => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        ),
        Kind::Flag => (Physical::BOOLEAN, None),
    };
    let field = Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL);
    Ok(field.build()?)
}

/// Writes a column: the values that exist, and which do.
fn write_column<'v, T: DataType>(
    mut to: SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<&'v Value>>,
    of: impl Fn(&Value) -> Option<T::T>,
) -> Result<()> {
    let values: Vec<Option<T::T>> = values.map(|value| value.and_then(&of)).collect();
    let exist: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    to.typed::<T>().write_batch(&values, Some(&exist), None)?;
    to.close()?;
    Ok(())
}

/// Text, as it was sent, with U+FFFD for what is no UTF-8. Empty text is no value, as in CSV.
fn text(value: &Value) -> Option<ByteArray> {
    let text = match value {
        Value::Sent(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Word(text) => text.clone(),
        _ => return None,
    };
    (!text.is_empty()).then(|| text.into_bytes().into())
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(i64::try_from(*number).unwrap_or(i64::MAX)),
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Decimal(text) => text.parse().ok(),
        _ => None,
    }
}

/// Microseconds since 1970, truncated as in CSV.
fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Time(ns) => i64::try_from(ns / 1_000).ok(),
        _ => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Flag(is_so) => Some(*is_so),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };

    use super::*;
    use crate::outputs::columns::DETECTED_CALLS;

    #[test]
    fn values_keep_their_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let mut writer = FileWriter::begin(File::create(&path).unwrap(), DETECTED_CALLS).unwrap();
        let mut row = vec![Value::Missing; DETECTED_CALLS.all().len()];
        for (place, value) in [
            (0, Value::Sent(b"+1\xff".to_vec())),
            (1, Value::Time(1_701_441_022_123_456_789)),
            (2, Value::Word(String::new())),
            (7, Value::Decimal("2.500000".to_owned())),
            (9, Value::Integer(u64::MAX)),
            (21, Value::Flag(true)),
        ] {
            row[place] = value;
        }
        writer.write(&[row.clone(), row.clone()]).unwrap();
        writer.write(&[row]).unwrap();
        writer.end().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().collect();
        assert_eq!(rows.len(), 3);
        for row in rows {
            let row = row.unwrap();
            let there: Vec<(String, Field)> = row
                .get_column_iter()
                .filter(|(_, value)| **value != Field::Null)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let want = [
                ("call_id", Field::Str("+1\u{fffd}".to_owned())),
                (
                    "start_timestamp",
                    Field::TimestampMicros(1_701_441_022_123_456),
                ),
                ("duration_s", Field::Double(2.5)),
                ("final_status", Field::Long(i64::MAX)),
                ("one_way", Field::Bool(true)),
            ];
            assert_eq!(there, want.map(|(name, value)| (name.to_owned(), value)));
        }
        assert!(fs::metadata(&path).unwrap().len() > 0);
    }
}
