//! Formats: the codec and the clock rate of a payload type.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lines::{fields, number};

/// The meaning of a payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// RFC 3550, 5.1: 0 to 127.
    pub payload_type: u8,
    /// RTP timestamp units per second.
    pub clock_rate: u32,
    /// The encoding name.
    pub codec: Codec,
}

/// The longest encoding name that is kept, in bytes; `telephone-event` has 15.
const MAX_CODEC_LEN: usize = 23;

/// The encoding name of a format (RFC 4855), as the description writes it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    len: u8,
    bytes: [u8; MAX_CODEC_LEN],
}

impl Codec {
    /// Keeps a name; a longer name is cut to the limit.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut codec = Self::default();
        for (to, from) in codec.bytes.iter_mut().zip(name) {
            *to = *from;
            codec.len = codec.len.saturating_add(1);
        }
        codec
    }

    /// The clock rate that an RFC fixes. Senders keep to it whatever they write: `G722/16000` gives
    /// the sampling rate, and `opus/16000` the rate that the sender prefers.
    fn fixed_clock_rate(&self, payload_type: u8) -> Option<u32> {
        let is = |name: &[u8]| self.name().eq_ignore_ascii_case(name);
        if is(b"opus") {
            // RFC 7587, 4.1.
            return Some(48_000);
        }
        if is(b"G722") {
            // RFC 3551, 4.5.2.
            return Some(8_000);
        }
        format_of_static(payload_type).map(|format| format.clock_rate)
    }

    /// The name, which may hold any bytes off the wire.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name().escape_ascii())
    }
}

/// The formats that need no `a=rtpmap`: RFC 3551, 6.
#[must_use]
pub fn format_of_static(payload_type: u8) -> Option<Format> {
    let (codec, clock_rate) = match payload_type {
        0 => ("PCMU", 8_000),
        3 => ("GSM", 8_000),
        4 => ("G723", 8_000),
        5 => ("DVI4", 8_000),
        6 => ("DVI4", 16_000),
        7 => ("LPC", 8_000),
        8 => ("PCMA", 8_000),
        9 => ("G722", 8_000),
        10 | 11 => ("L16", 44_100),
        12 => ("QCELP", 8_000),
        13 | 19 => ("CN", 8_000),
        14 => ("MPA", 90_000),
        15 => ("G728", 8_000),
        16 => ("DVI4", 11_025),
        17 => ("DVI4", 22_050),
        18 => ("G729", 8_000),
        25 => ("CelB", 90_000),
        26 => ("JPEG", 90_000),
        28 => ("nv", 90_000),
        31 => ("H261", 90_000),
        32 => ("MPV", 90_000),
        33 => ("MP2T", 90_000),
        34 => ("H263", 90_000),
        _ => return None,
    };
    Some(Format {
        payload_type,
        clock_rate,
        codec: Codec::of(codec.as_bytes()),
    })
}

impl Format {
    /// RFC 4566, 6: `96 opus/48000/2`. The clock rate counts only where no RFC fixes one.
    pub(super) fn of_rtpmap(value: &[u8]) -> Option<Self> {
        let mut parts = fields(value);
        let payload_type = number(parts.next()?).filter(|&payload_type: &u8| payload_type < 128)?;
        let mut encoding = parts.next()?.split(|&byte| byte == b'/');
        let codec = Codec::of(encoding.next()?);
        let named = || encoding.next().and_then(number).filter(|&rate| rate > 0);
        Some(Self {
            payload_type,
            clock_rate: codec.fixed_clock_rate(payload_type).or_else(named)?,
            codec,
        })
    }

    /// Returns true if both are the same format: encoding names have no case (RFC 4855, 3).
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.clock_rate == other.clock_rate
            && self.codec.name().eq_ignore_ascii_case(other.codec.name())
    }

    /// Returns true for the digits and signals of RFC 4733.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.codec.name().eq_ignore_ascii_case(b"telephone-event")
    }

    /// Returns true for audio and video, whose packets are sent at the pace of their timestamps. A
    /// telephone-event (RFC 4733) has one timestamp from its beginning to its end; comfort noise
    /// (RFC 3389) is sent when the noise changes.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        !self.is_event() && !self.codec.name().eq_ignore_ascii_case(b"CN")
    }
}

/// A list of formats with one entry for each payload type: the first that was added.
#[derive(Default)]
pub(super) struct Formats {
    list: Vec<Format>,
    /// A bit for each payload type.
    known: u128,
}

impl Formats {
    /// Adds a format; returns true if it is the first of its payload type.
    pub(super) fn add(&mut self, format: Format) -> bool {
        let bit = 1u128.checked_shl(format.payload_type.into()).unwrap_or(0);
        let is_new = bit & !self.known != 0;
        if is_new {
            self.known |= bit;
            self.list.push(format);
        }
        is_new
    }

    pub(super) fn list(&self) -> &[Format] {
        &self.list
    }

    pub(super) fn into_list(self) -> Vec<Format> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtpmap(value: &str) -> Option<(u8, u32, String)> {
        let format = Format::of_rtpmap(value.as_bytes())?;
        Some((
            format.payload_type,
            format.clock_rate,
            String::from_utf8(format.codec.name().to_vec()).unwrap(),
        ))
    }

    #[test]
    fn a_clock_is_what_the_description_says() {
        for (value, payload_type, clock_rate, codec) in [
            ("96 VP8/90000", 96, 90_000, "VP8"),
            ("97 speex/16000/1", 97, 16_000, "speex"),
            ("101  telephone-event/48000", 101, 48_000, "telephone-event"),
            ("96 L16/16000", 96, 16_000, "L16"),
        ] {
            assert_eq!(
                rtpmap(value),
                Some((payload_type, clock_rate, codec.to_owned())),
                "{value}"
            );
        }
    }

    #[test]
    fn but_for_those_that_an_rfc_fixes() {
        for (value, payload_type, clock_rate, codec) in [
            ("9 G722/16000", 9, 8_000, "G722"),
            ("9 g722/8000", 9, 8_000, "g722"),
            ("109 G722/16000", 109, 8_000, "G722"),
            ("0 PCMU/16000", 0, 8_000, "PCMU"),
            ("18 G729a/8000", 18, 8_000, "G729a"),
            ("14 MPA/44100", 14, 90_000, "MPA"),
            ("8 PCMA", 8, 8_000, "PCMA"),
            ("8 PCMA/0", 8, 8_000, "PCMA"),
            ("111 opus/16000", 111, 48_000, "opus"),
            ("111 OPUS/48000/2", 111, 48_000, "OPUS"),
            ("111 opus", 111, 48_000, "opus"),
        ] {
            assert_eq!(
                rtpmap(value),
                Some((payload_type, clock_rate, codec.to_owned())),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_no_format() {
        for value in [
            "",
            "96",
            "96 VP8",
            "96 VP8/0",
            "96 VP8/x",
            "128 VP8/90000",
            "x VP8/90000",
        ] {
            assert_eq!(rtpmap(value), None, "{value}");
        }
    }
}
