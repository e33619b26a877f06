//! SIP over TCP: cut, reordered and repeated segments give the original messages; garbage gives the
//! same result however often and whenever timers are checked.

use std::ops::Range;

use bumpalo::Bump;
use sip_call_extractor::{
    events::{Cause, Frames, SegmentEvent},
    moment::{Moment, Position},
    packet::{Endpoint, Network, Packet, TcpFlags, TcpSegment},
    reassembly::{Found, SipStreams},
    sip::{Body, Message},
};

use super::Input;

pub fn check(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() {
        kind if kind & 1 == 0 => Whole::of(&mut input, Wrapping::of(kind)).check(input),
        kind => garbage(input, kind & 2 != 0),
    }
}

fn event(number: usize, clock: u64, may_be_hep: bool, segment: TcpSegment<'_>) -> SegmentEvent<'_> {
    let at = Moment {
        clock,
        position: Position::new(0, number),
    };
    SegmentEvent {
        at,
        frames: Frames::from_buf([at]),
        timestamp_ns: clock,
        may_be_hep,
        cause: Cause::Port,
        segment,
    }
}

fn segment(
    is_answer: bool,
    sequence: u32,
    flags: TcpFlags,
    payload: &[u8],
    wire_len: usize,
) -> TcpSegment<'_> {
    let ends = [
        Endpoint::v4([192, 0, 2, 1], 49_152),
        Endpoint::v4([192, 0, 2, 2], 5060),
    ];
    let [source, destination] = if is_answer { [ends[1], ends[0]] } else { ends };
    TcpSegment {
        network: Network::PLAIN,
        source,
        destination,
        sequence,
        flags,
        payload,
        wire_len,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    None,
    WebSocket,
    Hep,
}

impl Wrapping {
    fn of(kind: u8) -> Self {
        match kind & 6 {
            0 => Self::None,
            4 => Self::Hep,
            _ => Self::WebSocket,
        }
    }
}

/// A stream without gaps.
struct Whole<'a> {
    wrapping: Wrapping,
    bytes: Vec<u8>,
    /// The ranges of each message's parts in the stream, and its body.
    messages: Vec<(Vec<Range<usize>>, &'a [u8])>,
}

impl<'a> Whole<'a> {
    fn of(input: &mut Input<'a>, wrapping: Wrapping) -> Self {
        let mut whole = Self {
            wrapping,
            bytes: Vec::new(),
            messages: Vec::new(),
        };
        let is_websocket = wrapping == Wrapping::WebSocket;
        if is_websocket {
            whole
                .bytes
                .extend(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
        }
        for number in 0..1 + input.byte() % 4 {
            let kind = input.byte();
            let body = input.some();
            let message = format!(
                "{}\r\nCall-ID: {number}\r\nf: a\r\nt: b\r\nc: application/sdp\r\nContent-Length: {}\r\n\r\n",
                if kind & 1 == 0 {
                    "INVITE sip:x SIP/2.0"
                } else {
                    "SIP/2.0 200 OK"
                },
                body.len()
            );
            let message = [message.as_bytes(), body].concat();
            let cut = usize::from(kind >> 1).min(message.len());
            let parts = if wrapping == Wrapping::Hep {
                vec![whole.append(&hep(&message))]
            } else if !is_websocket {
                vec![whole.append(&message)]
            } else if cut == 0 {
                vec![whole.append(&frame(0x81, kind, &message))]
            } else {
                let beginning = whole.append(&frame(0x01, kind, &message[..cut]));
                whole.append(&frame(0x89, kind, b"ping"));
                vec![beginning, whole.append(&frame(0x80, kind, &message[cut..]))]
            };
            whole.messages.push((parts, body));
            if kind & 0x80 != 0 && wrapping == Wrapping::None {
                whole.bytes.extend(b"\r\n\r\n");
            }
        }
        whole
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        start..self.bytes.len()
    }

    /// Cuts up the stream as the rest of the input says; at the end all of it is sent again from
    /// the beginning.
    fn check(&self, mut input: Input<'_>) {
        let len = self.bytes.len();
        let initial = u32::MAX - u32::from(input.u16() % 1000);
        let size = 1 + usize::from(input.byte());
        let syn = 0..0;
        let mut pieces = vec![syn];
        while !input.is_empty() && pieces.len() < 60 {
            let start = usize::from(input.u16()) % len;
            pieces.push(start..len.min(start + usize::from(input.byte())));
        }
        pieces.extend(
            (0..len)
                .step_by(size)
                .map(|start| start..len.min(start + size)),
        );
        let arena = Bump::new();
        let mut streams = SipStreams::default();
        let mut found = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let is_syn = number == 0;
            let sequence = initial
                .wrapping_add(u32::from(!is_syn))
                .wrapping_add(piece.start as u32);
            let flags = TcpFlags {
                syn: is_syn,
                ..TcpFlags::default()
            };
            streams.handle(
                &event(
                    number,
                    number as u64,
                    self.wrapping == Wrapping::Hep,
                    segment(
                        false,
                        sequence,
                        flags,
                        &self.bytes[piece.clone()],
                        piece.len(),
                    ),
                ),
                &arena,
                &mut found,
            );
        }
        streams.finish(
            Moment {
                clock: pieces.len() as u64,
                position: Position::new(0, pieces.len()),
            },
            &arena,
            &mut found,
        );

        let mut messages = self.messages.iter().enumerate();
        let mut check = |message: &Message<'_>, frames: &Frames, at: Moment| {
            let (number, (parts, body)) = messages.next().expect("no message comes twice");
            assert_eq!(message.call_id, number.to_string().as_bytes());
            assert_eq!(
                message.bodies().found,
                [Body::Description((*body).into())],
                "the body"
            );
            assert!(frames.is_sorted());
            let carried = frames.iter().map(|frame| &pieces[frame.position.offset()]);
            assert!(
                parts
                    .iter()
                    .cloned()
                    .flatten()
                    .all(|byte| carried.clone().any(|piece| piece.contains(&byte))),
                "a frame is missing"
            );
            assert!(frames.last().is_some_and(|last| *last <= at));
        };
        for found in &found {
            match found {
                Found::Malformed => panic!("a message is cut"),
                Found::Told(told) => {
                    let (Packet::Udp(datagram) | Packet::Told(_, datagram)) = told.packet else {
                        panic!("{:?}", told.packet)
                    };
                    let message = Message::parse(datagram.payload)
                        .expect("SIP")
                        .expect("a whole message");
                    check(&message, &told.frames, told.at);
                }
                Found::Repeated(repetition) => {
                    assert!(
                        repetition
                            .frames
                            .iter()
                            .all(|frame| frame.position.offset() < pieces.len())
                    );
                }
                Found::Message(found) => check(&found.message, &found.frames, found.at),
            }
        }
        assert_eq!(messages.next(), None, "a message is missing");
        assert_eq!(streams.counts(), Default::default());
    }
}

/// Returns a HEP packet with a message.
fn hep(message: &[u8]) -> Vec<u8> {
    let chunk = |kind: u8, value: &[u8]| {
        [
            &[0, 0, 0, kind][..],
            &(6 + value.len() as u16).to_be_bytes(),
            value,
        ]
        .concat()
    };
    let chunks = [
        chunk(3, &[192, 0, 2, 9]),
        chunk(4, &[192, 0, 2, 2]),
        chunk(11, &[1]),
        chunk(15, message),
    ]
    .concat();
    [
        &b"HEP3"[..],
        &(6 + chunks.len() as u16).to_be_bytes(),
        &chunks,
    ]
    .concat()
}

/// A WebSocket frame, masked if `kind` is odd.
fn frame(first: u8, kind: u8, text: &[u8]) -> Vec<u8> {
    let mask = if kind & 1 == 0 {
        [0; 4]
    } else {
        [kind, 7, 0x55, 0xff]
    };
    let masked = if kind & 1 == 0 { 0 } else { 0x80 };
    let mut frame = match text.len() {
        len @ ..126 => vec![first, masked | len as u8],
        len => [&[first, masked | 126][..], &(len as u16).to_be_bytes()].concat(),
    };
    frame.extend(&mask[..if masked == 0 { 0 } else { 4 }]);
    frame.extend(
        text.iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

const PHRASES: [&[u8]; 8] = [
    b"INVITE sip:x SIP/2.0\r\nCall-ID: 1\r\nf: a\r\nt: b\r\nl: 4\r\n\r\nbody",
    b"SIP/2.0 200 OK\r\nCall-ID: 2\r\nf: a\r\nt: b\r\n\r\n",
    b"BYE sip:x SIP/2.0\r\nCall-ID: 3\r\nf: a\r\nt: b\r\nl: 60\r\n\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    b"\x01\x04SIP/\x89\x00\x80\x04\x2e0 2",
    b"\x81\x2bACK sip:x SIP/2.0\r\nCall-ID: 4\r\nf: a\r\nt: b\r\n\r\n",
    b"\x16\x03\x01\x00",
    b"\r\n\r\n",
];

const HEP_PHRASES: [&[u8]; 8] = [
    b"HEP3\0\x5a\0\0\0\x03\0\x0a\xc0\0\x02\x01\0\0\0\x04\0\x0a\xc0\0\x02\x02\0\0\0\x0b\0\x07\x01\
      \0\0\0\x0f\0\x39BYE sip:x SIP/2.0\r\nCall-ID: 1\r\nf: a\r\nt: b\r\nl: 0\r\n\r\n",
    b"HEP3\0\x19\0\0\0\x0b\0\x07\x64\0\0\0\x0f\0\x0clogged",
    b"HEP3\x01\0\0\0\0\x0b\0\x07\x01\0\0\0\x0f\0\xf3",
    b"HEP3\0\0",
    b"HE",
    b"P3\0\x07\0",
    b"BYE sip:x SIP/2.0\r\nCall-ID: 3\r\nf: a\r\nt: b\r\nl: 0\r\n\r\n",
    b"\x16\x03\x01\x00",
];

/// Any segments, at any times, in both directions.
fn garbage(mut input: Input<'_>, may_be_hep: bool) {
    let phrases = if may_be_hep { HEP_PHRASES } else { PHRASES };
    let mut events = Vec::new();
    let mut next = [u32::MAX - 100, 7];
    let mut clock = 0u64;
    let mut times = vec![0];
    while !input.is_empty() && events.len() < 80 {
        let kind = input.byte();
        let is_answer = kind & 1 != 0;
        let shift = input.byte();
        clock += match shift >> 4 {
            dt @ ..8 => u64::from(dt),
            dt => u64::from(dt - 7) * 500_000_000,
        };
        times.push(clock);
        let payload = if kind & 2 == 0 {
            phrases[usize::from(shift & 7)]
        } else {
            input.some()
        };
        let distance = if kind & 4 == 0 {
            0
        } else {
            i32::from(input.u16().cast_signed())
        };
        let snapped = if kind & 8 == 0 {
            0
        } else {
            usize::from(input.byte())
        };
        let is = |bits: u8| kind >> 4 == bits;
        let flags = TcpFlags {
            syn: is(1),
            fin: is(2),
            rst: is(3),
        };
        let side = &mut next[usize::from(is_answer)];
        let sequence = side.wrapping_add_signed(distance);
        *side = sequence
            .wrapping_add((payload.len() + snapped) as u32)
            .wrapping_add(flags.syn.into());
        let segment = segment(is_answer, sequence, flags, payload, payload.len() + snapped);
        events.push(event(
            events.len(),
            clock,
            may_be_hep && !is_answer,
            segment,
        ));
    }
    let plain = outcome(&events, &[]);
    assert!(plain.iter().flat_map(|(_, frames)| frames).all(|frame| {
        events
            .get(frame.position.offset())
            .is_some_and(|event| event.frames[0] == *frame)
    }));
    assert!(
        plain == outcome(&events, &times),
        "the same, whenever somebody looks at the clock"
    );
    let halves: Vec<u64> = times
        .windows(2)
        .map(|pair| pair[0] + (pair[1] - pair[0]) / 2)
        .collect();
    assert!(
        plain == outcome(&events, &halves),
        "the same, whenever somebody looks at the clock"
    );
}

/// Returns the messages in the segments if timers are also checked at these times.
fn outcome(events: &[SegmentEvent<'_>], times: &[u64]) -> Vec<(String, Frames)> {
    let arena = Bump::new();
    let mut streams = SipStreams::default();
    let mut found = Vec::new();
    let mut times = times.iter().peekable();
    for event in events {
        while let Some(time) = times.next_if(|time| **time <= event.at.clock) {
            streams.expire(*time, &arena, &mut found);
        }
        streams.handle(event, &arena, &mut found);
    }
    streams.finish(
        Moment {
            clock: u64::MAX,
            position: Position::new(0, events.len()),
        },
        &arena,
        &mut found,
    );
    let of = |found: &Found<'_>| match found {
        Found::Message(message) => (format!("{message:?}"), message.frames.clone()),
        Found::Repeated(repetition) => (format!("{repetition:?}"), repetition.frames.clone()),
        Found::Told(told) => (format!("{told:?}"), told.frames.clone()),
        Found::Malformed => ("malformed".to_owned(), Frames::new()),
    };
    let mut outcome: Vec<_> = found.iter().map(of).collect();
    outcome.push((format!("{:?}", streams.counts()), Frames::new()));
    outcome
}
