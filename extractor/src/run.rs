//! The whole job: open, index, correlate, write.

use std::{collections::VecDeque, path::PathBuf};

use anyhow::Result;
use bumpalo::Bump;
use shared::units::SipPorts;

use crate::{
    calls::{CallTable, Rules},
    moment::Moment,
    outputs::{Outputs, Records, Settings},
    packet::Decoder,
    progress::Progress,
    report::Report,
    source::{Inputs, Layouts},
    windows::{Sizes, Window, Windows},
};

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The captures.
    pub inputs: Vec<PathBuf>,
    /// How frames are taken apart.
    pub decoder: Decoder,
    /// Where SIP is looked for.
    pub sip_ports: SipPorts,
    /// The timers.
    pub rules: Rules,
    /// Where the results go.
    pub outputs: Settings,
    /// How much is worked on at once.
    pub sizes: Sizes,
}

/// Extracts every call of the inputs.
///
/// # Errors
/// No input can be used, or an output cannot be written.
pub fn run(config: &Config, progress: &Progress) -> Result<Report> {
    let mut report = Report::default();
    let mut outputs = Outputs::open(&config.outputs)?;
    let inputs = Inputs::open(&config.inputs, &config.outputs.directory, |path, error| {
        report.refused_inputs = report.refused_inputs.saturating_add(1);
        tracing::error!("{} is not used: {error:#}", path.display());
    })?;
    take_note_of_damage(&inputs, &mut report);
    progress.begin(inputs.total_bytes());

    let mut layouts = Layouts::of(&inputs);
    let mut windows = Windows::new(&inputs, config.sizes.clone(), &config.decoder, config.sip_ports);
    let mut calls = CallTable::new(config.rules);
    let mut end = Moment::default();
    let mut window_ends = VecDeque::new();
    let mut arena = Bump::new();
    let mut indexed = windows.index(&layouts, 0);
    while let Some(window) = windows.join(indexed, &mut layouts, &arena) {
        end = window.end;
        take_note(&window, &inputs, &mut report);
        // While one window is correlated, which one thread does alone, and written, the next is indexed.
        let open = calls.open();
        let (ahead, left_since) = rayon::join(
            || windows.index(&layouts, open),
            || {
                let settled = correlate(&mut calls, window, config.rules.lookback_ns);
                let records = Records { inputs: &inputs, layouts: &layouts, decoder: &config.decoder };
                write(&mut outputs, &mut calls, settled, end, config, records)
            },
        );
        let left_since = left_since?;
        indexed = ahead;
        arena.reset();
        window_ends.push_back(end);
        release(&inputs, &mut layouts, &mut window_ends, left_since);
        progress.advance(inputs.bytes_before(end.position), calls.opened());
    }
    calls.finish(end);
    let records = Records { inputs: &inputs, layouts: &layouts, decoder: &config.decoder };
    write(&mut outputs, &mut calls, Moment::NEVER, end, config, records)?;
    outputs.finish()?;

    report.input_bytes = inputs.total_bytes();
    report.stray_messages = calls.stray_messages();
    report.excess_endpoints = calls.excess_endpoints();
    report.fragments = windows.assembler().fragment_counts();
    report.streams = windows.assembler().stream_counts();
    report.calls = outputs.counts().clone();
    report.elapsed = progress.finish();
    Ok(report)
}

/// Finds out which call every packet of a window belongs to. Gives the moment before which that is
/// settled: a description that is still to come may claim later ones.
fn correlate(calls: &mut CallTable, window: Window<'_>, lookback_ns: u64) -> Moment {
    calls.begin_window(window.flows, window.start, window.end);
    let mut repetitions = window.repetitions.iter().peekable();
    for event in &window.sip {
        while let Some(repetition) = repetitions.next_if(|repetition| repetition.at < event.at) {
            calls.repeat(repetition);
        }
        calls.handle(event);
    }
    repetitions.for_each(|repetition| calls.repeat(repetition));
    calls.end_window(window.end);
    let looked_back_to = Moment::at(window.end.clock.saturating_sub(lookback_ns));
    let held_since = [window.held_since.map(Moment::at), calls.flows().earliest_frame_since(looked_back_to)];
    held_since.into_iter().flatten().fold(looked_back_to, Moment::min)
}

/// Writes what came before `settled`, and forgets it. Gives the moment since when something is left to be written.
fn write(
    outputs: &mut Outputs,
    calls: &mut CallTable,
    settled: Moment,
    now: Moment,
    config: &Config,
    records: Records<'_>,
) -> Result<Moment> {
    let (work, left_since) = calls.work(settled);
    outputs.write(work, calls, records, config.rules.lookback_ns, now.clock)?;
    calls.retire_window(settled, left_since);
    Ok(left_since)
}

/// Lets go of the input of windows of which nothing is left to be written.
fn release(inputs: &Inputs, layouts: &mut Layouts, window_ends: &mut VecDeque<Moment>, left_since: Moment) {
    while let Some(end) = window_ends.pop_front_if(|end| *end < left_since) {
        inputs.release_before(end.position);
        layouts.forget_before(end.position);
    }
}

/// Says what could not be decompressed.
fn take_note_of_damage(inputs: &Inputs, report: &mut Report) {
    for (name, damage) in inputs.damaged() {
        report.damaged_inputs = report.damaged_inputs.saturating_add(1);
        tracing::warn!("{name}: {damage}");
    }
}

/// A file that is broken all over does not fill the log.
const MAX_GAPS_NAMED: u64 = 100;

/// Counts what was seen in a window, and says what could not be read of it.
fn take_note(window: &Window<'_>, inputs: &Inputs, report: &mut Report) {
    report.counts.add(&window.counts);
    for (input, gap) in &window.gaps {
        let name = inputs.get(*input).map_or("", |input| input.name());
        match report.gaps {
            ..MAX_GAPS_NAMED => tracing::warn!("{name}: {gap}"),
            MAX_GAPS_NAMED => tracing::warn!("{name}: {gap}; further unreadable stretches are only counted"),
            _ => tracing::debug!("{name}: {gap}"),
        }
        report.gaps = report.gaps.saturating_add(1);
        report.gap_bytes = report.gap_bytes.saturating_add(gap.len as u64);
    }
}
