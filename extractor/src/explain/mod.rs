//! `explain`: for a few calls of a capture, what was decided and why, in words and a ladder.
//!
//! The same engine as in a run reads the capture, twice, with a [`Trace`] and without outputs. The
//! `Sightings` have what the calls do not look at: the content of packets.

mod findings;
mod flows;
mod ladder;
mod missing;
mod page;
mod sightings;

use std::path::PathBuf;

use anyhow::Result;
use bumpalo::Bump;
use shared::units::{ByteSize, SipPorts};

use self::{page::Page, sightings::Sightings};
use crate::{
    calls::{CallTable, LegGroup, LinkRules, Rules, Trace, TracedCall, Wanted},
    counts::Counts,
    moment::{Moment, Position},
    outputs::Records,
    packet::Decoder,
    progress::Progress,
    session::correlate,
    source::{Carried, Inputs, Layouts, Scratch, shown},
    survey::Survey,
    windows::{Sizes, Start, Windows},
};

/// The task of `explain`.
#[derive(Clone, Debug)]
pub struct Task {
    /// The files, which form one capture.
    pub files: Vec<PathBuf>,
    /// The calls that are asked for.
    pub wanted: Wanted,
    /// The timers and limits of calls.
    pub rules: Rules,
    /// The links between calls that the user adds.
    pub links: LinkRules,
    /// The decoder of frames.
    pub decoder: Decoder,
    /// The ports of SIP.
    pub sip_ports: SipPorts,
    /// The sizes of windows and chunks.
    pub sizes: Sizes,
    /// The directory of nameless temporary files for pipes and compressed captures.
    pub scratch: PathBuf,
    /// The most bytes that a capture may decompress to.
    pub max_decompressed: Option<ByteSize>,
}

/// The answer.
#[derive(Debug)]
pub struct Explained {
    /// The answer, in lines of a given width.
    pub text: String,
    /// True when a call was found.
    pub is_found: bool,
}

/// Explains the calls that are asked for, in lines of at most `columns`.
///
/// # Errors
/// No input can be used.
pub fn explain(task: &Task, columns: usize, progress: &Progress) -> Result<Explained> {
    let scratch = Scratch::new(&task.scratch, task.max_decompressed);
    let inputs = Inputs::open(&task.files, &scratch, |path, error| {
        tracing::error!("{} is not used: {error}", shown(path));
    })?;
    let inputs = Inputs::new(0, inputs, Carried::default());
    progress.begin(inputs.total_bytes().saturating_mul(2));
    let first = Reader::new(task, &inputs, progress);
    let (trace, counts, groups) = first.read(Trace::new(task.wanted.clone()), |_, _| {});
    let trace = trace.again(groups);
    let mut sightings = Sightings::of(&trace, task);
    let mut survey = Survey::default();
    let second = Reader {
        read_before: inputs.total_bytes(),
        ..first
    };
    let (trace, ..) = second.read(trace, |records, window| {
        records.for_each_between(window, |record| {
            let packet = task.decoder.decode(record.link, record.frame);
            sightings.add(&packet);
            if counts.sip == 0 && !survey.is_full() {
                survey.add_packet(&packet, &task.decoder);
            }
            true
        });
    });
    let _ = progress.finish();
    let mut page = Page::new(columns);
    let is_found = !trace.calls().is_empty();
    if is_found {
        for (index, call) in (1..).zip(trace.calls()) {
            describe(&mut page, index, call, &trace, &sightings, task);
        }
        missing::tell_of_more(&mut page, &trace);
    } else {
        missing::tell(&mut page, &trace, &sightings, &survey, &counts, task);
    }
    Ok(Explained {
        text: page.into_text(),
        is_found,
    })
}

/// Reads the capture.
#[derive(Clone, Copy)]
struct Reader<'i> {
    task: &'i Task,
    inputs: &'i Inputs,
    progress: &'i Progress,
    /// The bytes that were read before, for the progress.
    read_before: u64,
}

impl<'i> Reader<'i> {
    fn new(task: &'i Task, inputs: &'i Inputs, progress: &'i Progress) -> Self {
        Self {
            task,
            inputs,
            progress,
            read_before: 0,
        }
    }

    /// Reads all windows, and closes the open calls; `look` gets the records of each window. Also
    /// returns the conversations with a leg that is asked for.
    fn read(
        &self,
        trace: Trace,
        mut look: impl FnMut(Records<'_>, std::ops::Range<Position>),
    ) -> (Trace, Counts, Vec<LegGroup>) {
        let Self {
            task,
            inputs,
            progress,
            read_before,
        } = *self;
        let wanted = task.wanted.clone();
        let mut calls = CallTable::traced(task.rules, trace)
            .with_links(task.links.clone())
            .with_groups(true);
        let mut groups = Vec::new();
        let is_asked_for = |group: &LegGroup| group.legs.iter().any(|leg| wanted.may_be(leg));
        let mut layouts = Layouts::of(inputs);
        let mut windows = Windows::new(
            inputs,
            task.sizes.clone(),
            &task.decoder,
            task.sip_ports,
            Start::default(),
            true,
        );
        let mut counts = Counts::default();
        let mut arena = Bump::new();
        loop {
            let indexed = windows.index(&layouts, calls.open());
            let Some(window) = windows.join(indexed, &mut layouts, &arena) else {
                break;
            };
            counts.add_all(&window.counts);
            let range = window.start.position..window.end.position;
            let settled = correlate(&mut calls, window, task.rules.lookback_ns);
            settle(&mut calls, settled);
            let complete = calls.take_complete_conversations();
            groups.extend(complete.into_iter().filter(is_asked_for));
            arena.reset();
            let records = Records {
                inputs,
                layouts: &layouts,
                decoder: &task.decoder,
            };
            look(records, range);
            let read = inputs.bytes_before(windows.next().position);
            progress.advance(read_before.saturating_add(read), calls.open() as u64);
        }
        calls.finish(windows.next());
        settle(&mut calls, Moment::NEVER);
        let complete = calls.take_complete_conversations();
        groups.extend(complete.into_iter().filter(is_asked_for));
        let trace = calls.into_trace();
        let trace = trace.unwrap_or_else(|| Trace::new(wanted.clone()));
        (trace, counts, groups)
    }
}

/// Gives the packets before `settled` to their calls, and forgets them.
fn settle(calls: &mut CallTable, settled: Moment) {
    let (_, left_since) = calls.work(settled);
    calls.retire_window(settled, left_since, |_| false);
}

/// Writes all that is known of a call.
fn describe(
    page: &mut Page,
    index: usize,
    call: &TracedCall,
    trace: &Trace,
    sightings: &Sightings,
    task: &Task,
) {
    if index > 1 {
        page.blank();
    }
    page::head(page, call);
    page::legs(page, call);
    ladder::draw(page, call);
    ladder::draw_conversation(page, call, trace);
    flows::endpoints(page, call);
    flows::taken(page, call, sightings);
    flows::left(page, call, trace, sightings);
    findings::tell(page, call, trace, sightings, task);
}
