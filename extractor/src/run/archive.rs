//! A run over segments with indexes, of which a few calls are wanted.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};

use super::{complete, end, scratch, work};
use crate::{
    config::{Archive, Config},
    moment::Moment,
    outputs::{Directory, uploads::Uploads},
    progress::Progress,
    report::Report,
    session::Session,
    source::{
        Input, Scratch,
        merge::{Merge, MergePosition, Watermark},
    },
    stored,
    terms::Terms,
    timeline::Later,
    unit::Unit,
};

/// Records of several series have no order without the merged capture.
#[derive(Debug, thiserror::Error)]
#[error("the segments have to be merged, because their clocks go back, or run ahead")]
pub(super) struct HasNoOrder;

/// The calls that are wanted have not ended in the segments of an archive, and there are more.
#[derive(Debug, thiserror::Error)]
#[error("the calls go on in later segments")]
pub struct EndsTooEarly;

/// Reads segments with indexes, until the calls that are wanted have ended.
pub(super) fn run_archive(
    config: &Config,
    archive: &Archive,
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    match run_in_order(config, archive, uploads, progress) {
        Err(error) if error.is::<HasNoOrder>() => {
            tracing::warn!("{error}: all of them are read");
            run_merged(config, archive, uploads, progress)
        }
        result => result,
    }
}

/// Reads several series side by side.
fn run_in_order(
    config: &Config,
    archive: &Archive,
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    let (series, mut session) = open(config, archive, uploads, progress)?;
    let unit = Unit {
        series: series.iter().map(Vec::len).collect(),
        inputs: series.into_iter().flatten().collect(),
        is_final: true,
        ..Unit::default()
    };
    work(&mut session, unit, None)?;
    complete(end(session, None, None))
}

/// Merges several series into temporary captures, a unit of work at a time, and reads these.
fn run_merged(
    config: &Config,
    archive: &Archive,
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    let scratch = scratch(config);
    let (series, mut session) = open(config, archive, uploads, progress)?;
    let mut positions = vec![MergePosition::default(); series.len()];
    let all = series.iter().flatten();
    all.for_each(|input| input.fetch(0..input.bytes().len()));
    let drops = series.iter().flatten().filter_map(Input::drops);
    let mut drops = drops.cloned().collect();
    let mut is_all = false;
    while !is_all && !session.has_found_all(Moment::at(session.clock())) {
        let part;
        (part, is_all) = merged(&series, &mut positions, &scratch, config, &mut session)?;
        let unit = Unit {
            inputs: vec![part],
            drops: std::mem::take(&mut drops),
            ..Unit::default()
        };
        work(&mut session, unit, None)?;
    }
    work(&mut session, Unit::last(), None)?;
    complete(end(session, None, None))
}

/// The next records of several series from these positions on, as one capture. True comes with it
/// if these are all that are left.
fn merged(
    series: &[Vec<Input>],
    positions: &mut Vec<MergePosition>,
    scratch: &Scratch,
    config: &Config,
    session: &mut Session<'_>,
) -> Result<(Input, bool)> {
    let points = series.iter().zip(positions.iter());
    let points = points.map(|(inputs, position)| {
        let inputs: Vec<&Input> = inputs.iter().collect();
        (inputs, *position, Some(Later::END))
    });
    let mut merge = Merge::new(points);
    let file = scratch.file()?;
    let mut out = BufWriter::with_capacity(256 * 1024, &file);
    let note = |_, input: &Input, gap| session.report.note_gap(input.name(), &gap);
    let room = config.unit.wanted(0);
    let merged = merge
        .write(&mut out, Watermark::END, room, None, note)
        .and_then(|merged| out.flush().map(|()| merged));
    let directory = scratch.directory();
    let merged = merged
        .with_context(|| format!("the segments cannot be merged in {}", directory.display()))?;
    drop(out);
    *positions = merge.positions().collect();
    let name = "the packets of several series".to_owned();
    Ok((Input::of_written(name, directory, file)?, merged.is_all))
}

/// Opens the segments, series by series, and the output directory.
fn open<'c>(
    config: &'c Config,
    archive: &Archive,
    uploads: &'c Uploads,
    progress: &'c Progress,
) -> Result<(Vec<Vec<Input>>, Session<'c>)> {
    let directory = Directory::open(&config.outputs)?;
    let (series, refused) = stored::open(archive, config, &scratch(config))?;
    let terms = Terms::new(config, Some(Vec::new()));
    let (mut session, _) = Session::open(config, directory, terms, true, uploads, progress)?;
    session.report.refused_inputs = refused;
    Ok((series, session))
}
