//! The format of the state changes only with its version.
//!
//! `golden.state` was written by a run over the first half of everything. If the carried-over types
//! change, a program would misread states of the same version. Then raise `VERSION` in `state.rs`,
//! and write the file again: `GOLDEN_STATE=write cargo test -p sip-call-extractor --test end_to_end
//! golden`.

use std::{fs, path::Path};

use sip_call_extractor::{
    calls::CallTable,
    outputs::Books,
    reassembly::Unfinished,
    state::{State, StateFile},
};

use support::{
    desk::{Desk, STATE},
    dice::Dice,
};

use super::{
    cuts::ALL_FILES,
    directory::Names,
    everything::{Form, Packets},
};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/segments/golden.state"
);
/// The offset of the format's version. The next constants are those of the body's length and of the
/// body.
const VERSION_AT: usize = 8;
const LEN_AT: usize = 16;
const BODY_AT: usize = 32;

/// Returns the state between the halves.
fn written_now() -> Vec<u8> {
    let segments = Names::Agents.cut(&Packets::everything(Form::Micro), 2, &mut Dice::new(500));
    let desk = Desk::new();
    desk.deliver_all(&segments[..1]);
    let lake = super::lake::flags(&desk);
    let lake: Vec<&str> = lake.iter().map(String::as_str).collect();
    desk.run(&[&["--dedup"], &ALL_FILES[..], &lake[..]].concat())
        .is(0);
    fs::read(desk.out.join(STATE)).unwrap()
}

fn golden() -> Vec<u8> {
    if std::env::var("GOLDEN_STATE").is_ok_and(|what| what == "write") {
        fs::write(GOLDEN, written_now()).unwrap();
    }
    fs::read(GOLDEN).unwrap()
}

fn body(state: &[u8]) -> &[u8] {
    let len = u64::from_le_bytes(state[LEN_AT..LEN_AT + 8].try_into().unwrap());
    &state[BODY_AT..BODY_AT + len as usize]
}

/// Reads a body as this program's own, and returns it as written again.
fn written_again(directory: &Path) -> Option<Vec<u8>> {
    let loaded = StateFile::of(directory, false).load::<CallTable, Unfinished, Books>();
    let (state, _): (State<CallTable, Unfinished, Books>, _) = loaded.ok()??;
    Some(postcard::to_stdvec(&state).unwrap())
}

#[test]
fn the_carry_over_changes_with_the_version_only() {
    let golden = golden();
    let now = written_now();
    assert_eq!(
        golden[VERSION_AT], now[VERSION_AT],
        "the version was raised: have golden.state made anew (see above)"
    );
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(STATE), &golden).unwrap();
    let again = written_again(directory.path());
    // Hash tables have another order each time, so the same bytes come in another order.
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    let is_the_same = again.is_some_and(|again| sorted(&again) == sorted(body(&golden)));
    assert!(
        is_the_same,
        "what is carried over has changed: raise VERSION in state.rs, and have golden.state made anew (see above)"
    );
}

#[test]
fn the_version_before_is_refused_with_a_sentence() {
    let desk = Desk::new();
    desk.deliver("a.pcap", &Packets::everything(Form::Micro).whole());
    let mut before = golden();
    let version = before[VERSION_AT];
    before[VERSION_AT] = version - 1;
    fs::create_dir(&desk.out).unwrap();
    fs::write(desk.out.join(STATE), &before).unwrap();
    let ran = desk.run(&[]).is(1);
    ran.says(&format!(
        "was written by an earlier version of this program (format {}, this one reads {version})",
        version - 1
    ));
    ran.says("--reset-state");
    assert_eq!(
        fs::read(desk.out.join(STATE)).unwrap(),
        before,
        "it is left alone"
    );
}
