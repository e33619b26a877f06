//! The digits of a call: telephone-events in RTP (RFC 4733), and INFO (RFC 6086) with a body of the
//! types `application/dtmf-relay` and `application/dtmf`, which no RFC describes.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     event     |E|R|  volume   |           duration            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::{events::stable_hash, sip::Message};

/// The most digits of one call; later ones are left out.
const MAX_DIGITS: usize = 256;
/// The most events whose packets may still come: late ones, and repeated ones.
const MAX_RECENT: usize = 8;
/// The time after which a packet of the same event, without a mark, is another press of the key, in
/// nanoseconds.
const MAX_PAUSE_NS: u64 = 1_000_000_000;
/// The same for packets that repeat the end of an event.
const MAX_PAUSE_OF_ENDS_NS: u64 = 100_000_000;
/// The time in which the same digit that comes another way is the same press, in nanoseconds.
const SAME_PRESS_NS: u64 = 500_000_000;

/// An event, as a packet reports it: RFC 4733, 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    code: u8,
    is_end: bool,
}

impl Event {
    /// Reads the payload of a telephone-event packet. Four zeros are none: that is what is left of
    /// an event in a capture without sound, and a digit 0 that begins so goes on with a duration.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [code, flags, ..] = *payload
            .first_chunk::<4>()
            .filter(|event| **event != [0; 4])?;
        Some(Self {
            code,
            is_end: flags & 0x80 != 0,
        })
    }
}

/// The character of an event code: RFC 4733, 3.2. `None` for other events: a flash, tones.
fn digit(code: u8) -> Option<u8> {
    b"0123456789*#ABCD".get(usize::from(code)).copied()
}

/// A press of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Press {
    digit: u8,
    way: Way,
    /// Its first packet or message, in nanoseconds since 1970.
    from_ns: u64,
    /// Its last one.
    until_ns: u64,
}

/// A press of a key, for outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    pub digit: u8,
    /// Its first packet or message, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The SSRC of the stream in which it came first, if it did not come by INFO.
    pub ssrc: Option<u32>,
}

/// The way on which a press came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// A stream: its SSRC. A relay passes it on, so both legs of a call are one way.
    Stream(u32),
    /// INFO: a hash value of From.
    Info(u64),
}

/// The digits that came one of the ways.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Digits {
    presses: Vec<Press>,
    /// The latest events or messages, the oldest first. On the heap, because the many calls of a
    /// flood have none.
    recent: Vec<Recent>,
}

/// An event or a message whose packets may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recent {
    way: Way,
    /// The RTP timestamp, which all packets of an event have; or a hash value of the CSeq.
    name: u64,
    code: u8,
    is_over: bool,
    last_ns: u64,
    /// The index of its press, if it is one.
    press: Option<usize>,
}

impl Digits {
    /// Adds a telephone-event packet with this SSRC and RTP timestamp, which arrived at
    /// `arrival_ns` (since 1970). `has_marker` is true for the first packet of an event (RFC 4733,
    /// 2.5.1.1).
    pub fn add_event(
        &mut self,
        event: Event,
        ssrc: u32,
        timestamp: u32,
        has_marker: bool,
        arrival_ns: u64,
    ) {
        let way = Way::Stream(ssrc);
        let name = u64::from(timestamp);
        let latest = self.recent.iter().rposition(|recent| recent.way == way);
        let is_it = |recent: &Recent| recent.way == way && recent.name == name;
        let known = self.recent.iter().rposition(is_it).or_else(|| {
            // An event of more than 65,535 units goes on with another timestamp (RFC 4733,
            // 2.5.1.3), and some senders change it with each packet.
            latest.filter(|index| {
                self.recent.get(*index).is_some_and(|recent| {
                    let pause_ns = arrival_ns.saturating_sub(recent.last_ns);
                    let goes_on = if recent.is_over {
                        event.is_end && pause_ns <= MAX_PAUSE_OF_ENDS_NS
                    } else {
                        pause_ns <= MAX_PAUSE_NS
                    };
                    goes_on && !has_marker && recent.code == event.code
                })
            })
        });
        let Some(known) = known.and_then(|index| self.recent.get_mut(index)) else {
            let press = self.press(digit(event.code), way, arrival_ns);
            self.remember(Recent {
                way,
                name,
                code: event.code,
                is_over: event.is_end,
                last_ns: arrival_ns,
                press,
            });
            return;
        };
        known.name = name;
        known.is_over |= event.is_end;
        known.last_ns = known.last_ns.max(arrival_ns);
        let press = known.press.and_then(|index| self.presses.get_mut(index));
        if let Some(press) = press {
            press.until_ns = press.until_ns.max(arrival_ns);
        }
    }

    /// Adds a message that arrived at `arrival_ns` (since 1970), if it is an INFO with a digit. A
    /// repeated message, or a copy behind a proxy, counts once.
    pub fn add_info(&mut self, message: &Message<'_>, arrival_ns: u64) {
        let Some(digit) = message.digit() else { return };
        let way = Way::Info(stable_hash(message.from));
        let name = stable_hash(message.cseq.map_or(&[][..], |cseq| cseq.number));
        if self
            .recent
            .iter()
            .any(|recent| recent.way == way && recent.name == name)
        {
            return;
        }
        let press = self.press(Some(digit), way, arrival_ns);
        self.remember(Recent {
            way,
            name,
            code: 0,
            is_over: true,
            last_ns: arrival_ns,
            press,
        });
    }

    fn press(&mut self, digit: Option<u8>, way: Way, at_ns: u64) -> Option<usize> {
        let index = self.presses.len();
        let press = Press {
            digit: digit.filter(|_| index < MAX_DIGITS)?,
            way,
            from_ns: at_ns,
            until_ns: at_ns,
        };
        self.presses.push(press);
        Some(index)
    }

    fn remember(&mut self, recent: Recent) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.remove(0);
        }
        self.recent.push(recent);
    }

    /// The digits of both, in the order of time. The same digit on another way within half a second
    /// of a press is the same press: many phones send INFO and telephone-events for one key.
    #[must_use]
    pub fn with(&self, other: &Self) -> Vec<Pressed> {
        let mut presses = [&self.presses[..], &other.presses].concat();
        presses.sort_by_key(|press| press.from_ns);
        let mut kept: Vec<(Press, SmallVec<[Way; 2]>)> = Vec::new();
        for press in presses {
            let same = kept.iter_mut().rev().find(|(kept, ways)| {
                let until_ns = kept.until_ns.saturating_add(SAME_PRESS_NS);
                let is_near = press.from_ns <= until_ns;
                is_near && kept.digit == press.digit && !ways.contains(&press.way)
            });
            match same {
                Some((kept, ways)) => {
                    kept.until_ns = kept.until_ns.max(press.until_ns);
                    ways.push(press.way);
                }
                None => kept.push((press, smallvec![press.way])),
            }
        }
        let pressed = kept.iter().map(|(press, _)| Pressed {
            digit: press.digit,
            at_ns: press.from_ns,
            ssrc: match press.way {
                Way::Stream(ssrc) => Some(ssrc),
                Way::Info(_) => None,
            },
        });
        pressed.take(MAX_DIGITS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A packet of an event: time in ms, timestamp, marker, code, end.
    type Step = (u64, u32, bool, u8, bool);

    fn heard(steps: &[Step]) -> Digits {
        let mut digits = Digits::default();
        add(&mut digits, 7, steps);
        digits
    }

    fn add(digits: &mut Digits, ssrc: u32, steps: &[Step]) {
        for (at_ms, timestamp, has_marker, code, is_end) in steps {
            let payload = [*code, if *is_end { 0x8a } else { 0x0a }, 0, 160];
            let event = Event::parse(&payload).unwrap();
            digits.add_event(event, ssrc, *timestamp, *has_marker, at_ms * MS);
        }
    }

    fn text(digits: &Digits) -> String {
        joined(&digits.with(&Digits::default()))
    }

    fn joined(pressed: &[Pressed]) -> String {
        pressed.iter().map(|one| char::from(one.digit)).collect()
    }

    /// A press of 60 ms with three end packets.
    fn press(at_ms: u64, timestamp: u32, code: u8) -> Vec<Step> {
        let packets = [(0, true, false), (20, false, false), (40, false, false)];
        let ends = [(60, false, true), (61, false, true), (62, false, true)];
        let packets = packets.into_iter().chain(ends);
        packets
            .map(|(after, marker, end)| (at_ms + after, timestamp, marker, code, end))
            .collect()
    }

    #[test]
    fn a_press_counts_once() {
        assert_eq!(text(&heard(&press(0, 800, 5))), "5");
        let twice = [press(0, 800, 5), press(200, 2_400, 5)].concat();
        assert_eq!(text(&heard(&twice)), "55");
        let all: Vec<Step> = (0..18)
            .flat_map(|code| press(u64::from(code) * 200, u32::from(code) * 1_600, code))
            .collect();
        assert_eq!(text(&heard(&all)), "0123456789*#ABCD", "no flash, no tones");
    }

    #[test]
    fn packets_may_be_lost_or_late() {
        let (first, second) = (press(0, 800, 1), press(100, 1_600, 2));
        let lost = [&first[2..4], &second[5..]].concat();
        assert_eq!(text(&heard(&lost)), "12");
        let late = [&first[..3], &second[..2], &first[3..], &second[2..]].concat();
        assert_eq!(text(&heard(&late)), "12");
        let only_ends_lost = [&first[..1], &press(100, 1_600, 1)].concat();
        assert_eq!(text(&heard(&only_ends_lost)), "11", "the mark tells");
    }

    #[test]
    fn a_long_press_has_several_timestamps() {
        let long = [
            (0, 0, true, 9, false),
            (8_000, 64_000, false, 9, false),
            (8_200, 65_535, false, 9, false),
            (9_000, 65_535, false, 9, true),
        ];
        assert_eq!(text(&heard(&long[..1])), "9");
        let packets: Vec<Step> = (0..450)
            .map(|n| (n * 20, if n < 410 { 0 } else { 65_535 }, n == 0, 9, n > 446))
            .collect();
        assert_eq!(text(&heard(&packets)), "9");
        assert_eq!(text(&heard(&long)), "99", "after a pause it is another");
    }

    #[test]
    fn a_timestamp_may_change_with_each_packet() {
        let packets: Vec<Step> = (0..6u32)
            .map(|n| (u64::from(n) * 20, n * 160, n == 0, 3, n > 2))
            .collect();
        assert_eq!(text(&heard(&packets)), "3");
    }

    #[test]
    fn both_legs_of_a_relay_are_one_way() {
        let mut digits = Digits::default();
        for (at_ms, timestamp, marker, code, end) in press(0, 800, 5) {
            add(&mut digits, 7, &[(at_ms, timestamp, marker, code, end)]);
            add(&mut digits, 7, &[(at_ms + 1, timestamp, marker, code, end)]);
        }
        assert_eq!(text(&digits), "5");
    }

    #[test]
    fn a_press_on_two_ways_counts_once() {
        let mut digits = Digits::default();
        for at_ms in [0, 200] {
            let timestamp = at_ms as u32 * 8;
            add(&mut digits, 7, &press(at_ms, timestamp, 5));
            add(&mut digits, 8, &press(at_ms + 10, timestamp, 5));
        }
        assert_eq!(text(&digits), "55");
        add(&mut digits, 8, &press(1_000, 8_000, 5));
        assert_eq!(text(&digits), "555", "too late for the second");
        let two: Vec<Step> = [press(0, 0, 1), press(300, 2_400, 2)].concat();
        let mut digits = heard(&two);
        add(&mut digits, 8, &press(150, 0, 4));
        assert_eq!(text(&digits), "142", "in the order of time");
    }

    fn info(cseq: u32, from: &str, content_type: &str, body: &str) -> String {
        format!(
            "INFO sip:b@x SIP/2.0\r\nCall-ID: 1\r\nFrom: {from}\r\nTo: b\r\nCSeq: {cseq} INFO\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn told(digits: &mut Digits, at_ms: u64, message: &str) {
        let message = Message::parse(message.as_bytes()).unwrap().unwrap();
        digits.add_info(&message, at_ms * MS);
    }

    const RELAY: &str = "application/dtmf-relay";

    #[test]
    fn info_tells_digits() {
        let mut digits = Digits::default();
        for (cseq, content_type, body) in [
            (1, RELAY, "Signal=5\r\nDuration=160\r\n"),
            (
                2,
                "Application/DTMF-Relay;charset=x",
                "Duration=9\nsignal = *\n",
            ),
            (3, "application/dtmf", "#"),
            (4, RELAY, "Signal=11"),
            (5, "application/dtmf", " a\r\n"),
            (6, RELAY, "Signal=16\r\n"),
            (7, RELAY, "Signal=flash\r\n"),
            (8, "application/dtmf", ""),
            (9, "text/plain", "7"),
        ] {
            let message = info(cseq, "a", content_type, body);
            told(&mut digits, u64::from(cseq) * 1_000, &message);
        }
        assert_eq!(text(&digits), "5*##A");
    }

    #[test]
    fn a_message_that_comes_again_counts_once() {
        let mut digits = Digits::default();
        let message = info(1, "a", RELAY, "Signal=5");
        (0..3).for_each(|n| told(&mut digits, n * 500, &message));
        told(
            &mut digits,
            100,
            &info(9, "<other@side>", RELAY, "Signal=5"),
        );
        assert_eq!(text(&digits), "5");
        told(&mut digits, 700, &info(2, "a", RELAY, "Signal=5"));
        assert_eq!(text(&digits), "55");
        told(
            &mut digits,
            800,
            &info(2, "a", RELAY, "Signal=5").replace("INFO sip", "MESSAGE sip"),
        );
        assert_eq!(text(&digits), "55", "no INFO");
    }

    #[test]
    fn info_and_events_of_one_press_are_one() {
        let events = heard(&[press(0, 800, 5), press(1_500, 12_800, 5)].concat());
        let mut infos = Digits::default();
        told(&mut infos, 70, &info(1, "a", RELAY, "Signal=5"));
        told(&mut infos, 900, &info(2, "a", RELAY, "Signal=7"));
        told(&mut infos, 1_490, &info(3, "a", RELAY, "Signal=5"));
        assert_eq!(joined(&events.with(&infos)), "575");
        assert_eq!(joined(&infos.with(&events)), "575");
    }

    #[test]
    fn nobody_can_press_too_much() {
        let mut digits = Digits::default();
        for n in 0..2_000u32 {
            add(
                &mut digits,
                n % 3,
                &press(u64::from(n) * 1_000, n * 8_000, 1),
            );
        }
        assert_eq!(digits.presses.len(), MAX_DIGITS);
        assert_eq!(digits.recent.len(), MAX_RECENT);
        assert_eq!(digits.with(&digits).len(), MAX_DIGITS);
    }

    #[test]
    fn what_is_too_short_is_no_event() {
        assert_eq!(Event::parse(&[5, 0x8a, 0]), None);
        assert_eq!(Event::parse(&[0; 12]), None, "sound was left out");
        assert!(Event::parse(&[0, 0, 0, 1]).is_some());
    }
}
