//! The whole job: the files are the same, byte by byte, with any sizes of windows and chunks.

use std::{collections::BTreeMap, fs, path::Path};

use shared::units::SipPorts;
use sip_call_extractor::{
    calls::{Rules, UnclaimedCounts},
    config::{Config, Source, UnitLen},
    outputs::OutputSettings,
    packet::Decoder,
    progress::{Progress, Verbosity},
    report::Report,
    run::run,
    selection::Selection,
    windows::Sizes,
};

use super::{Input, made};

const SECOND: u64 = 1_000_000_000;

pub fn check(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    let (window, chunk) = (1 + usize::from(input.u16()), 1 + usize::from(input.u16()));
    let file = made::capture(input);
    // More windows would take longer without testing more.
    let (window, chunk) = (window.max(file.len() / 64), chunk.max(file.len() / 256));
    let sizes = Sizes {
        window: 1 << 30..=1 << 30,
        chunk: Some(1 << 30),
        index: usize::MAX,
    };
    let whole = extract(&file, kind, Selection::default(), sizes);
    // The limit is at least the size of an event.
    let index = 1 << (kind >> 5) << 9;
    let sizes = Sizes {
        window: window..=window,
        chunk: Some(chunk),
        index,
    };
    let in_windows = extract(&file, kind, Selection::default(), sizes.clone());
    let muted = extract(
        &file,
        kind,
        Selection {
            mutes_all: true,
            ..Selection::default()
        },
        sizes,
    );
    if let Some(((with, _), (without, _))) = whole.as_ref().zip(muted) {
        check_muted(with, &without);
    }
    match (whole, in_windows) {
        (Some((files, report)), Some((others, other_report))) => {
            assert_eq!(
                files.keys().collect::<Vec<_>>(),
                others.keys().collect::<Vec<_>>()
            );
            for (name, bytes) in &files {
                assert!(*bytes == others[name], "{name} is another");
            }
            assert_eq!(report, other_report);
        }
        (None, None) => {}
        _ => panic!("used or refused"),
    }
}

/// Without sound, some bytes of frames are zero, and no other byte differs.
fn check_muted(with: &BTreeMap<String, Vec<u8>>, without: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(
        with.keys().collect::<Vec<_>>(),
        without.keys().collect::<Vec<_>>()
    );
    for (name, with) in with {
        let without = &without[name];
        assert_eq!(with.len(), without.len(), "{name}");
        let is_left = |(with, without): (&u8, &u8)| {
            with == without || (*without == 0 && !name.ends_with(".csv"))
        };
        assert!(
            with.iter().zip(without).all(is_left),
            "{name} has something else"
        );
    }
}

/// Returns the files and the counts of a run; `None` if the capture is refused.
fn extract(
    file: &[u8],
    kind: u8,
    selection: Selection,
    sizes: Sizes,
) -> Option<(BTreeMap<String, Vec<u8>>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.pcap");
    fs::write(&input, file).unwrap();
    let directory = folder.path().join("out");
    let outputs = OutputSettings {
        selection,
        location: None,
        directory: directory.clone(),
        detected_calls_filename: "detected_calls.csv".into(),
        stats_filename: "calls_statistics.csv".into(),
        columns: sip_call_extractor::outputs::Columns::All,
        thresholds: sip_call_extractor::problems::Thresholds::default(),
        overwrite: false,
        shows_digits: true,
        writes_json: true,
        writes_messages: true,
        reports_every: None,
        writes_conversations: false,
        parquet: None,
        tells_of_calls: false,
        syncs: false,
    };
    let rules = Rules {
        linger_ns: if kind & 1 == 0 { 5 * SECOND } else { 0 },
        call_timeout_ns: [
            Some(300 * SECOND),
            Some(3 * SECOND),
            None,
            Some(20 * SECOND),
        ][usize::from(kind >> 1 & 3)],
        lookback_ns: if kind & 8 == 0 {
            2 * SECOND
        } else {
            SECOND / 100
        },
        max_open_calls: if kind & 32 == 0 { 3 } else { 200_000 },
    };
    let links = sip_call_extractor::calls::LinkRules {
        headers: vec!["x".into()],
        numbers_ns: (kind & 2 == 0).then_some(2 * SECOND),
    };
    let sip_ports = if kind & 16 == 0 {
        SipPorts::Range(5060, 5061)
    } else {
        SipPorts::Any
    };
    let config = Config {
        uploads: None,
        source: Source::Files(vec![input]),
        indexes: None,
        resets: false,
        report: None,
        max_decompressed: None,
        unit: UnitLen::Usual,
        decoder: Decoder::default(),
        sip_ports,
        rules,
        links,
        outputs,
        sizes,
    };
    let outcome = run(&config, &Progress::new(Verbosity::Quiet)).ok()?;
    let report = outcome.report.clone();
    outcome.close().unwrap();
    // The media that belongs to no call is estimated from a sample of each window.
    let Report {
        unclaimed:
            UnclaimedCounts {
                doubtful_flows,
                doubtful_packets,
                ..
            },
        ..
    } = report;
    let unclaimed = UnclaimedCounts {
        doubtful_flows,
        doubtful_packets,
        ..UnclaimedCounts::default()
    };
    let report = Report {
        elapsed: std::time::Duration::ZERO,
        unclaimed,
        ..report
    };
    Some((files(&directory), format!("{report:?}")))
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}
