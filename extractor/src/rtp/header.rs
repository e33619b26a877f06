//! The fixed header of an RTP packet: RFC 3550, 5.1.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |           synchronization source (SSRC) identifier            |
//! |            contributing source (CSRC) identifiers             |
//! |      extension: profile       |           length              |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

/// The header fields that the statistics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The sampling time of the payload, in units of its clock rate.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
}

const FIXED_LEN: usize = 12;

impl Header {
    /// Reads the header of `payload`, which had `wire_len` bytes on the wire. `None` if it is not
    /// RTP: RTP has at least 12 bytes, version 2, a length that holds its CSRCs and its extension,
    /// and is not RTCP (192 to 223 in the second byte: RFC 5761, 4).
    #[must_use]
    #[inline]
    pub fn parse(payload: &[u8], wire_len: usize) -> Option<Self> {
        let [first, second, q0, q1, t0, t1, t2, t3, s0, s1, s2, s3] =
            *payload.first_chunk::<FIXED_LEN>()?;
        if first >> 6 != 2 || is_rtcp(second) || min_len(first, payload) > wire_len {
            return None;
        }
        Some(Self {
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([q0, q1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    /// Returns true if so little of a packet was captured that it may be RTP or not.
    #[must_use]
    pub fn may_begin(payload: &[u8], wire_len: usize) -> bool {
        let is_cut = payload.len() < FIXED_LEN && wire_len >= FIXED_LEN;
        is_cut
            && payload.first().is_none_or(|first| first >> 6 == 2)
            && !payload.get(1).is_some_and(|second| is_rtcp(*second))
    }

    /// The length of the header in bytes, with its CSRCs and its extension; `None` if it is not
    /// RTP.
    #[must_use]
    pub fn len(payload: &[u8], wire_len: usize) -> Option<usize> {
        Self::parse(payload, wire_len)?;
        payload.first().map(|first| min_len(*first, payload))
    }
}

/// Returns true if the second byte of a packet marks RTCP: RFC 5761, 4.
#[inline]
fn is_rtcp(second: u8) -> bool {
    (192..=223).contains(&second)
}

/// The least length of a packet with this beginning, in bytes.
#[inline]
fn min_len(first: u8, payload: &[u8]) -> usize {
    let csrcs = usize::from(first & 0x0f).saturating_mul(4);
    let len = FIXED_LEN.saturating_add(csrcs);
    if first & 0x10 == 0 {
        return len;
    }
    let words = payload
        .get(len.saturating_add(2)..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |len| u16::from_be_bytes(*len));
    len.saturating_add(4)
        .saturating_add(usize::from(words).saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 12] = [0x80, 0x88, 0x01, 0x02, 0, 0, 0, 160, 0x0a, 0x1b, 0x2c, 0x3d];

    #[test]
    fn the_fixed_header() {
        let want = Header {
            payload_type: 8,
            sequence: 0x0102,
            timestamp: 160,
            ssrc: 0x0a1b_2c3d,
        };
        assert_eq!(Header::parse(&PLAIN, 12), Some(want));
    }

    #[test]
    fn what_is_not_rtp() {
        let with = |at: usize, value: u8| {
            let mut bytes = PLAIN;
            bytes[at] = value;
            Header::parse(&bytes, 12)
        };
        assert_eq!(Header::parse(&PLAIN[..11], 11), None, "too short");
        assert_eq!(with(0, 0x40), None, "version 1");
        assert_eq!(with(1, 200), None, "sender report");
        assert_eq!(with(0, 0x81), None, "no room for its CSRC");
        assert_eq!(with(0, 0x90), None, "no room for its extension");
        assert!(with(1, 191).is_some() && with(1, 224).is_some());
    }

    #[test]
    fn an_extension_must_fit_on_the_wire() {
        let extended = [&[0x90][..], &PLAIN[1..], &[0xbe, 0xde, 0, 2]].concat();
        assert_eq!(Header::parse(&extended, 23), None);
        assert!(
            Header::parse(&extended, 24).is_some(),
            "snapped, but long enough on the wire"
        );
    }
}
