//! The duration of each stage on a packet's path, by itself, over generated traffic in memory.
//!
//! ```text
//! cargo bench -p sip-call-extractor --bench stages [NAME]
//! ```
//!
//! `scripts/bench` measures the whole path. Stages that write use a directory in TMPDIR: in
//! /dev/shm they measure the extractor, on a disk the disk.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that fails may panic"
)]

use std::{hint::black_box, sync::LazyLock};

use bumpalo::Bump;
use divan::{Bencher, counter::BytesCount};
use shared::{
    pcap::{Layout, Step},
    units::SipPorts,
};
use sip_call_extractor::{
    calls::{CallTable, Rules, Work},
    index::{Behind, Chunk, ChunkIndex, Timing},
    outputs::{Directory, OutputSettings, Outputs, Records, uploads::Uploads},
    packet::{Decoder, Packet},
    sdp::Description,
    selection::Selection,
    sip::{Body, Message},
    source::{Carried, Inputs, Layouts, Scratch},
    timeline::Timeline,
    windows::{Sizes, Start, Window, Windows},
};
use support::traffic::{self, Link, Plan, Signalling};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const MIB: u64 = 1 << 20;
const SIP_PORTS: SipPorts = SipPorts::Range(5060, 5061);
const RULES: Rules = Rules {
    linger_ns: 5_000_000_000,
    call_timeout_ns: Some(300_000_000_000),
    lookback_ns: 2_000_000_000,
    max_open_calls: 200_000,
};

fn capture(plan: &Plan) -> Vec<u8> {
    let mut file = Vec::new();
    traffic::write(plan, &mut file).unwrap();
    file
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Ethernet,
    Vlan,
    Sll,
    Sll2,
    Ipv6,
    Pcapng,
    /// SIP without media.
    Sip,
    /// SIP over UDP, TCP and in fragments.
    MixedSip,
}

impl Shape {
    const ALL: [Self; 8] = [
        Self::Ethernet,
        Self::Vlan,
        Self::Sll,
        Self::Sll2,
        Self::Ipv6,
        Self::Pcapng,
        Self::Sip,
        Self::MixedSip,
    ];

    fn plan(self) -> Plan {
        let plan = Plan {
            calls: 100,
            bytes: 8 * MIB,
            ..Plan::default()
        };
        match self {
            Self::Ethernet => plan,
            Self::Vlan => Plan {
                link: Link::Vlan,
                ..plan
            },
            Self::Sll => Plan {
                link: Link::Sll,
                ..plan
            },
            Self::Sll2 => Plan {
                link: Link::Sll2,
                ..plan
            },
            Self::Ipv6 => Plan { ipv6: true, ..plan },
            Self::Pcapng => Plan {
                pcapng: true,
                ..plan
            },
            Self::Sip => Plan {
                signalling: Signalling::Full,
                seconds_of_media: 0,
                ..plan
            },
            Self::MixedSip => Plan {
                signalling: Signalling::Mixed,
                seconds_of_media: 0,
                ..plan
            },
        }
    }
}

/// The index of one chunk, on one thread.
#[divan::bench(args = Shape::ALL)]
fn index(bencher: Bencher<'_, '_>, shape: Shape) {
    let file = capture(&shape.plan());
    let (layout, start) = Layout::detect(&file).unwrap();
    let decoder = Decoder::default();
    let chunk = Chunk {
        input: 0,
        file: &file,
        layout: &layout,
        range: start..file.len(),
        behind: Behind {
            inputs: &[],
            reached_ns: None,
            is_final: true,
            is_open: false,
        },
    };
    let timing = Timing::Behind(Timeline::default());
    bencher
        .counter(BytesCount::of_slice(&file))
        .bench_local(|| ChunkIndex::of(chunk.clone(), timing, usize::MAX, &decoder, SIP_PORTS));
}

/// The messages of calls without media.
static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let file = capture(&Plan {
        bytes: MIB,
        ..Shape::Sip.plan()
    });
    let (layout, start) = Layout::detect(&file).unwrap();
    let (mut walk, decoder) = (layout.walk(&file, start), Decoder::default());
    let mut messages = Vec::new();
    while let Some(Step::Record(record)) = walk.next_step() {
        if let Packet::Udp(datagram) = decoder.decode(record.link, record.frame) {
            messages.push(datagram.payload.to_vec());
        }
    }
    messages
});

#[divan::bench]
fn parse_sip(bencher: Bencher<'_, '_>) {
    let bytes: usize = MESSAGES.iter().map(Vec::len).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        for message in MESSAGES.iter() {
            black_box(Message::parse(black_box(message)).unwrap().unwrap());
        }
    });
}

#[divan::bench]
fn parse_sdp(bencher: Bencher<'_, '_>) {
    let messages: Vec<_> = MESSAGES
        .iter()
        .map(|message| Message::parse(message).unwrap().unwrap())
        .collect();
    let descriptions: Vec<Body<'_>> = messages
        .iter()
        .flat_map(|message| message.bodies().found)
        .collect();
    let bytes: usize = descriptions
        .iter()
        .map(|description| description.text().len())
        .sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        for description in &descriptions {
            black_box(Description::parse(black_box(description.text())));
        }
    });
}

/// A capture in a file, opened as in a run: one window.
struct Opened {
    folder: TempDir,
    inputs: Inputs,
    decoder: Decoder,
}

impl Opened {
    fn new(calls: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.pcap");
        std::fs::write(
            &path,
            capture(&Plan {
                calls,
                bytes: 64 * MIB,
                ..Plan::default()
            }),
        )
        .unwrap();
        let inputs = Inputs::open(&[path], &Scratch::new(folder.path(), None), |_, error| {
            panic!("{error}")
        })
        .unwrap();
        let inputs = Inputs::new(0, inputs, Carried::default());
        Self {
            folder,
            inputs,
            decoder: Decoder::default(),
        }
    }

    fn window<'a>(&'a self, arena: &'a Bump) -> Window<'a> {
        let mut layouts = Layouts::of(&self.inputs);
        let mut windows = Windows::new(
            &self.inputs,
            Sizes::default(),
            &self.decoder,
            SIP_PORTS,
            Start::default(),
            true,
        );
        windows
            .join(windows.index(&layouts, 0), &mut layouts, arena)
            .unwrap()
    }

    fn bytes(&self) -> BytesCount {
        BytesCount::new(self.inputs.total_bytes())
    }
}

fn threads(count: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build()
        .unwrap()
}

fn correlate(window: Window<'_>) -> (CallTable, Vec<Work>) {
    let mut calls = CallTable::new(RULES);
    calls.begin_window(window.flows, window.start, window.end);
    window.sip.iter().for_each(|event| calls.handle(event));
    calls.end_window(window.end);
    calls.finish(window.end);
    let (work, _) = calls.work(window.end);
    (calls, work)
}

/// The index of a window, on this number of threads.
#[divan::bench(args = [1, 2], sample_count = 20)]
fn index_in_parallel(bencher: Bencher<'_, '_>, count: usize) {
    let (opened, threads) = (Opened::new(1_000), threads(count));
    bencher
        .counter(opened.bytes())
        .bench_local(|| threads.install(|| opened.window(&Bump::new()).counts));
}

/// The assignment of a window's packets to this number of concurrent calls.
#[divan::bench(args = [10, 1_000, 10_000], sample_count = 20)]
fn correlation(bencher: Bencher<'_, '_>, calls: u32) {
    let opened = Opened::new(calls);
    let arena = Bump::new();
    bencher
        .counter(opened.bytes())
        .with_inputs(|| opened.window(&arena))
        .bench_local_values(correlate);
}

/// The files of a window's calls, on this number of threads.
#[divan::bench(args = [1, 2], sample_count = 20)]
fn writing(bencher: Bencher<'_, '_>, count: usize) {
    let (opened, threads) = (Opened::new(1_000), threads(count));
    let layouts = Layouts::of(&opened.inputs);
    let records = Records {
        inputs: &opened.inputs,
        layouts: &layouts,
        decoder: &opened.decoder,
    };
    let ready = || {
        let arena = Bump::new();
        let window = opened.window(&arena);
        let end = window.end.clock;
        let (calls, work) = correlate(window);
        let folder = tempfile::tempdir_in(opened.folder.path()).unwrap();
        let settings = OutputSettings {
            selection: Selection::default(),
            location: None,
            directory: folder.path().to_owned(),
            detected_calls_filename: "detected_calls.csv".into(),
            stats_filename: "calls_statistics.csv".into(),
            columns: sip_call_extractor::outputs::Columns::All,
            thresholds: sip_call_extractor::problems::Thresholds::default(),
            overwrite: false,
            shows_digits: true,
            writes_json: false,
            writes_messages: false,
            reports_every: None,
            writes_conversations: false,
            parquet: None,
            tells_of_calls: false,
            syncs: false,
        };
        let uploads = Uploads::none(folder.path());
        let outputs =
            Outputs::open(Directory::open(&settings).unwrap(), &settings, uploads).unwrap();
        (folder, outputs, calls, work, end)
    };
    bencher
        .counter(opened.bytes())
        .with_inputs(ready)
        .bench_local_values(|(folder, mut outputs, calls, work, end)| {
            threads
                .install(|| outputs.write(work, &[], &calls, records, RULES.lookback_ns, end))
                .unwrap();
            outputs.finish().unwrap();
            // The folder is removed after the measurement.
            (folder, outputs, calls)
        });
}
