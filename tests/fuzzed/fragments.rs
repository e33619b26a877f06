//! Fragments: a reassembled datagram equals the original, and contains no byte that was in no
//! fragment.

use sip_call_extractor::{
    events::{FragmentEvent, Frames},
    moment::{Moment, Position},
    packet::{Endpoint, Fragment, Network},
    reassembly::{Belonging, Handled, IpFragments, Whole},
};

use super::Input;

pub fn check(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() & 1 {
        0 => cut_up(input),
        _ => any(input),
    }
}

fn event<'a>(number: usize, clock: u64, fragment: Fragment<'a>) -> FragmentEvent<'a> {
    let at = Moment {
        clock,
        position: Position::new(0, number),
    };
    FragmentEvent {
        at,
        frames: Frames::from_buf([at]),
        timestamp_ns: clock,
        fragment,
    }
}

fn fragment(
    identification: u32,
    offset: usize,
    more: bool,
    payload: &[u8],
    wire_len: usize,
) -> Fragment<'_> {
    let source = Endpoint::v4([192, 0, 2, 1], 0);
    let destination = Endpoint::v4([192, 0, 2, 2], 0);
    Fragment {
        network: Network::PLAIN,
        source,
        destination,
        protocol: 17,
        identification,
        offset,
        more,
        payload,
        wire_len,
    }
}

/// Fragments of one datagram in any order, some of them repeated.
fn cut_up(mut input: Input<'_>) {
    let size = 8 * (1 + usize::from(input.byte() % 8));
    let order = input.some();
    let datagram = input.0;
    if datagram.is_empty() || datagram.len() > size * 200 {
        return;
    }
    let pieces: Vec<Fragment<'_>> = datagram
        .chunks(size)
        .enumerate()
        .map(|(number, piece)| {
            fragment(
                9,
                number * size,
                (number + 1) * size < datagram.len(),
                piece,
                piece.len(),
            )
        })
        .collect();
    let order = order
        .iter()
        .map(|number| usize::from(*number) % pieces.len())
        .chain(0..pieces.len());
    let mut fragments = IpFragments::default();
    let (mut whole, mut frames, mut missing) = (0, 0, vec![true; pieces.len()]);
    for (at, number) in order.enumerate() {
        let is_last = missing.iter().filter(|missing| **missing).count() == 1 && missing[number];
        match fragments.handle(&event(at, at as u64, pieces[number])) {
            Handled::Whole(name, found) => {
                assert!(is_last, "whole with its last fragment");
                assert_eq!(
                    (found.payload.as_slice(), found.wire_len),
                    (datagram, datagram.len())
                );
                assert_eq!((found.frames.len(), found.timestamp_ns), (at + 1, 0));
                fragments.remember(&name, Belonging::Call((*b"1").into()));
                whole += 1;
            }
            Handled::Repeated(belonging) => {
                assert_eq!((whole, belonging), (1, Belonging::Call((*b"1").into())));
                frames += 1;
            }
            Handled::Nothing => assert!(whole == 0 && !is_last),
        }
        missing[number] = false;
    }
    assert_eq!(whole, 1);
    let counts = fragments.counts();
    assert_eq!(
        (counts.whole, counts.incomplete, counts.overlapping),
        (1, 0, 0)
    );
    assert!(frames <= 255);
}

/// Fragments of several datagrams that may contradict each other.
fn any(mut input: Input<'_>) {
    let mut fragments = IpFragments::default();
    let mut offered: Vec<Fragment<'_>> = Vec::new();
    let (mut clock, mut whole) = (0, 0);
    while !input.is_empty() {
        let kind = input.byte();
        clock += if kind & 0x80 == 0 {
            1
        } else {
            u64::from(input.byte()) << 28
        };
        let offset = 8 * usize::from(if kind & 0x40 == 0 {
            u16::from(input.byte())
        } else {
            input.u16() & 0x1fff
        });
        let payload = input.some();
        let snapped = if kind & 0x20 == 0 {
            0
        } else {
            usize::from(input.u16())
        };
        let taken = fragment(
            u32::from(kind & 3),
            offset,
            kind & 4 != 0,
            payload,
            payload.len() + snapped,
        );
        while let Some(beginning) = fragments.next_beginning(clock) {
            assert!(beginning.at <= clock);
            was_offered(&offered, &beginning.part);
        }
        offered.push(taken);
        if let Handled::Whole(name, found) = fragments.handle(&event(offered.len(), clock, taken)) {
            whole += 1;
            fragments.remember(&name, Belonging::Nothing);
            was_offered(&offered, &found);
            let is_last = |other: &Fragment<'_>| {
                !other.more && other.offset + other.wire_len == found.wire_len
            };
            assert!(
                offered.iter().any(is_last),
                "it ends where its last fragment does"
            );
        }
    }
    let counts = fragments.counts();
    assert_eq!(counts.whole, whole);
    assert!(counts.whole + counts.incomplete + counts.overlapping <= offered.len() as u64);
}

/// Checks that each byte was in a fragment, at its offset.
fn was_offered(offered: &[Fragment<'_>], found: &Whole) {
    assert!(found.payload.len() <= found.wire_len && found.wire_len <= 65_535);
    assert!(
        !found.frames.is_empty() && found.frames.len() <= offered.len() && found.frames.is_sorted()
    );
    assert!(
        found
            .beginning
            .iter()
            .all(|frame| found.frames.contains(frame))
            && !found.beginning.is_empty()
    );
    for (at, byte) in found.payload.iter().enumerate() {
        let says_so =
            |other: &Fragment<'_>| other.payload.get(at.wrapping_sub(other.offset)) == Some(byte);
        assert!(offered.iter().any(says_so), "byte {at} was in no fragment");
    }
}
