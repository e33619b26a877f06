//! The index of a capture is the same when the capture is cut in two anywhere.

use shared::{pcap::Layout, units::SipPorts};
use sip_call_extractor::{
    calls::FlowTable,
    counts::Counts,
    index::{Behind, Chunk, ChunkIndex, Timing},
    moment::{Moment, Pace},
    packet::Decoder,
    timeline::Timeline,
};

use super::{Input, made};

/// The packets between two marks: fewer than usual, so that a small input has some marks.
const MARKED: u64 = 3;

pub fn check(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    let cut = usize::from(input.u16());
    let file = made::capture(input);
    let Ok((layout, start)) = Layout::detect(&file) else {
        return;
    };
    let ports = if kind & 1 == 0 {
        SipPorts::Range(5060, 5061)
    } else {
        SipPorts::Any
    };
    let cut = start + cut % (file.len() - start + 1);

    let decoder = Decoder::default();
    let index = |layout: &Layout, start: usize, end: usize, timing: Timing| {
        let chunk = Chunk {
            input: 0,
            file: &file,
            layout,
            range: start..end,
            behind: Behind {
                inputs: &[],
                reached_ns: None,
                is_final: true,
                is_open: false,
            },
        };
        ChunkIndex::of(chunk, timing, usize::MAX, &decoder, ports)
    };
    let beginning = Timing::Behind(Timeline::default());
    let mut whole = index(&layout, start, file.len(), beginning);
    let timeline = whole.timeline(&Timeline::default());
    let mut pace = Pace::default();
    whole.not_before(0);
    let end = whole.keep_pace(&mut pace, MARKED);
    let pace_of_whole = std::mem::take(&mut pace);

    let mut first = index(&layout, start, cut, beginning);
    assert!(first.end >= cut || first.end >= file.len());
    first.not_before(0);
    let clock = first.keep_pace(&mut pace, MARKED);
    let before = first.timeline(&Timeline::default());
    let behind = |timing| index(first.layouts.last().unwrap(), first.end, file.len(), timing);
    let mut second = behind(Timing::SomewhereBehind(Timeline::default()));
    if !second.fits(&before) {
        second = behind(Timing::Behind(before));
        assert!(second.fits(&before));
    }
    assert_eq!(second.timeline(&before), timeline);
    second.not_before(clock);
    assert_eq!(second.keep_pace(&mut pace, MARKED), end);
    assert_eq!(pace, pace_of_whole);

    assert_eq!(second.end, whole.end);
    assert_eq!(second.layouts.last(), whole.layouts.last());
    first.gaps.append(&mut second.gaps);
    assert_eq!(first.gaps, whole.gaps);
    let mut counts = Counts::default();
    counts.add_all(&first.counts);
    counts.add_all(&second.counts);
    assert_eq!(counts, whole.counts);
    let text = |part: &ChunkIndex<'_>| {
        [
            format!("{:?}", part.sip),
            format!("{:?}", part.fragments),
            format!("{:?}", part.segments),
        ]
    };
    first.sip.append(&mut second.sip);
    first.fragments.append(&mut second.fragments);
    first.segments.append(&mut second.segments);
    assert!(text(&first) == text(&whole), "other events");
    let mut flows = FlowTable::default();
    assert_eq!(
        flows
            .add_window(
                vec![first.flows, second.flows],
                Moment::default(),
                Moment::NEVER
            )
            .len(),
        whole.flows.keys().len()
    );
    for (flow, key) in whole.flows.keys().iter().enumerate() {
        assert_eq!(flows.key(flow), Some(*key));
        let packets = flows.packets_between(flow, Moment::default(), Moment::NEVER);
        assert_eq!(
            packets.flatten().copied().collect::<Vec<_>>(),
            whole.flows.packets(flow)
        );
    }
}
