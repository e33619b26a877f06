//! Builds captures from an input: the input itself, or frames of calls that it describes, with the
//! damage that it describes.

use std::net::SocketAddr;

use shared::pcap::{
    DEFAULT_SNAPLEN, LinkType, Precision, file_header, ng_interface, ng_packet, ng_section_header,
    record_header,
};
use support::{
    frames,
    media::{Block, Rtp, cname, press, receiver_report, sender_report, voip_metrics},
    sip::{Sdp, request, response},
};

use super::Input;

const START_NS: u64 = 1_701_441_022_123_456_000;
const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MS;

/// Builds a capture: the rest of the input itself if its first number is even, else the capture
/// that it describes.
pub fn capture(mut input: Input<'_>) -> Vec<u8> {
    match input.byte() {
        kind if kind & 1 == 0 => input.0.to_vec(),
        kind => described(&mut input, kind),
    }
}

fn described(input: &mut Input<'_>, kind: u8) -> Vec<u8> {
    let is_ng = kind & 2 != 0;
    let precision = if kind & 4 == 0 {
        Precision::Micro
    } else {
        Precision::Nano
    };
    let mut damage = Vec::new();
    for _ in 0..kind >> 5 {
        damage.push((usize::from(input.u16()), input.byte()));
    }
    let mut file = match is_ng {
        false => file_header(LinkType::ETHERNET, precision, DEFAULT_SNAPLEN).to_vec(),
        true => [
            ng_section_header(),
            ng_interface(LinkType::ETHERNET, precision, DEFAULT_SNAPLEN),
        ]
        .concat(),
    };
    let mut at = START_NS;
    let mut sequences = [[u32::MAX - 300, 7], [1000, 2000]];
    let mut count = 0;
    while !input.is_empty() && count < 100 {
        let step = input.byte();
        at = match step >> 4 {
            steps @ ..12 => at + u64::from(steps) * 3 * MS,
            steps @ 12..14 => at + u64::from(steps - 11) * 2_500 * MS,
            // The clock leaps, is a little out of order, or is set back.
            14 => at + HOUR,
            _ if step & 1 == 0 => at - 5 * MS,
            _ => at - 2 * HOUR,
        };
        for frame in frames_of(step & 0x0f, input, &mut sequences) {
            count += 1;
            let snapped = if step == 0xff { frame.len() / 2 } else { 0 };
            let captured = &frame[..frame.len() - snapped];
            if is_ng {
                file.extend(ng_packet(0, at, precision, captured, frame.len() as u32));
            } else {
                file.extend(record_header(
                    at,
                    precision,
                    captured.len() as u32,
                    frame.len() as u32,
                ));
                file.extend(captured);
            }
        }
        if is_ng && step == 0x5e {
            file.extend(
                [
                    ng_section_header(),
                    ng_interface(LinkType::ETHERNET, precision, DEFAULT_SNAPLEN),
                ]
                .concat(),
            );
        }
    }
    let len = file.len();
    for (place, byte) in damage {
        file[place % len] = byte;
    }
    file
}

/// Returns RTCP, which may be damaged.
fn rtcp(which: u8) -> Vec<u8> {
    if which & 0x40 == 0 {
        return sender_report(7);
    }
    let block = Block {
        ssrc: 7,
        lost: 1,
        highest: u32::from(which),
        ..Block::default()
    };
    let parts = [
        receiver_report(8, block),
        cname(8, "bob"),
        voip_metrics(8, 7, which, 40),
    ];
    let mut compound = parts.concat();
    if which & 0x20 != 0 {
        let place = usize::from(which) * 7 % compound.len();
        compound[place] = !compound[place];
    }
    compound
}

fn frames_of(kind: u8, input: &mut Input<'_>, sequences: &mut [[u32; 2]; 2]) -> Vec<Vec<u8>> {
    let which = input.byte();
    let call = usize::from(which & 1);
    let is_answer = which & 2 != 0;
    let (from, to) = ends(call, is_answer, 5060);
    match kind {
        0..=3 => vec![frames::udp(from, to, &message(which, call))],
        4..=6 => {
            let (from, to) = ends(call, is_answer, 4000);
            let first = input.byte();
            let rtp = |n: u8| {
                Rtp::new(7 + u32::from(is_answer), u16::from(first.wrapping_add(n))).bytes()
            };
            if which & 4 != 0 {
                let first = Rtp::new(7 + u32::from(is_answer), first.into());
                let packets = press(&first, which >> 3);
                return packets.iter().map(|p| frames::udp(from, to, p)).collect();
            }
            (0..1 + (which >> 5))
                .map(|n| frames::udp(from, to, &rtp(n)[..60]))
                .collect()
        }
        7 => {
            let (from, to) = ends(call, is_answer, 4001);
            let told = || hep(which, from, to, &message(which, call));
            let server = SocketAddr::new(to.ip(), 9060);
            vec![if which & 0x80 == 0 {
                frames::udp(from, to, &rtcp(which))
            } else {
                frames::udp(from, server, &told())
            }]
        }
        8..=10 => {
            let message = message(which, call);
            let sequence = &mut sequences[call][usize::from(is_answer)];
            let distance = input.byte().cast_signed();
            let size = 20 + usize::from(input.byte()) * 4;
            let mut segments = Vec::new();
            for piece in message.chunks(size) {
                segments.push(frames::tcp(
                    from,
                    to,
                    sequence.wrapping_add_signed(i32::from(distance) * 8),
                    0x10,
                    piece,
                ));
                *sequence = sequence.wrapping_add(piece.len() as u32);
            }
            shuffled(segments, input.byte())
        }
        11 => vec![frames::tcp(
            from,
            to,
            sequences[call][usize::from(is_answer)].wrapping_sub(1),
            which >> 4,
            b"",
        )],
        12 => {
            let size = 8 * (1 + usize::from(input.byte() % 32));
            shuffled(
                frames::fragmented(
                    &frames::udp(from, to, &message(which, call)),
                    size,
                    which.into(),
                ),
                input.byte(),
            )
        }
        13 => {
            let (from, to) = ends(call, is_answer, 4000);
            shuffled(
                frames::fragmented(
                    &frames::udp(from, to, &Rtp::new(9, which.into()).bytes()),
                    88,
                    which.into(),
                ),
                input.byte(),
            )
        }
        14 => vec![frames::udp(from, to, input.some())],
        _ => vec![input.some().to_vec()],
    }
}

/// Returns a message in HEP3, with a time of its own.
fn hep(which: u8, from: SocketAddr, to: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut chunk = |kind: u16, value: &[u8]| {
        chunks.extend(
            [
                &[0, 0][..],
                &kind.to_be_bytes(),
                &(6 + value.len() as u16).to_be_bytes(),
                value,
            ]
            .concat(),
        );
    };
    for (address, port, end) in [(3, 7, from), (4, 8, to)] {
        if let std::net::IpAddr::V4(v4) = end.ip() {
            chunk(address, &v4.octets());
        }
        chunk(port, &5060u16.to_be_bytes());
    }
    chunk(
        9,
        &((START_NS / 1_000_000_000) as u32 + u32::from(which & 3)).to_be_bytes(),
    );
    chunk(11, &[1]);
    chunk(15, message);
    [
        &b"HEP3"[..],
        &(6 + chunks.len() as u16).to_be_bytes(),
        &chunks,
    ]
    .concat()
}

fn ends(call: usize, is_answer: bool, port: u16) -> (SocketAddr, SocketAddr) {
    let a = SocketAddr::from(([192, 0, 2, 1 + call as u8], port));
    let b = SocketAddr::from(([198, 51, 100, 9], port));
    if is_answer { (b, a) } else { (a, b) }
}

/// Returns a message of one of the two calls.
fn message(which: u8, call: usize) -> Vec<u8> {
    let id = ["one", "two"][call];
    let media = |is_answer| Sdp::audio(ends(call, is_answer, 4000).0);
    let message = match which >> 2 & 0x0f {
        0 | 1 => request("INVITE", id).sdp(&media(false)),
        2 => response(200, "INVITE", id).sdp(&media(true)),
        3 => response(180, "INVITE", id),
        4 => request("ACK", id).to_tag("bob"),
        5 => request("BYE", id).cseq(2).to_tag("bob"),
        6 => response(200, "BYE", id).cseq(2),
        7 => request("CANCEL", id),
        8 => response(487, "INVITE", id),
        9 => response(407, "INVITE", id),
        10 => request("INVITE", id).cseq(2).sdp(&media(false)),
        11 => request("INVITE", id)
            .cseq(3)
            .from_callee()
            .sdp(&media(true).line("a=inactive")),
        12 => request("OPTIONS", id),
        13 => response(183, "INVITE", id).sdp(&media(true)),
        14 => response(486, "INVITE", id),
        _ => request("UPDATE", id)
            .cseq(4)
            .to_tag("bob")
            .sdp(&media(false)),
    };
    message.bytes()
}

/// Moves, removes or repeats one of the frames.
fn shuffled(mut frames: Vec<Vec<u8>>, how: u8) -> Vec<Vec<u8>> {
    let place = usize::from(how & 0x0f) % frames.len();
    match how >> 4 {
        1 => frames.reverse(),
        2 => frames.rotate_left(place),
        3 => frames.swap(0, place),
        4 => drop(frames.remove(place)),
        5 => frames.push(frames[place].clone()),
        _ => {}
    }
    frames
}
