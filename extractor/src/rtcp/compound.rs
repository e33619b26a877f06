//! RTCP packets, one behind the other in a datagram: RFC 3550, 6.1.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|  count  |  packet type  |   length in words minus one   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! `rtcp-types` reads the packets. The walk over them is done here, because a datagram that was cut
//! by the snap length still has its first packets.

use rtcp_types::{
    Packet, ReportBlock, RtcpPacketParser, RtcpParseError, SdesItem, Xr, XrBlockParser,
    XrBlockParserExt, XrBlockStaticType,
};
use smallvec::SmallVec;

const HEADER_LEN: usize = 4;
/// The most packets of one datagram; a datagram with more is not believed. Real ones have two or
/// three.
const MAX_PACKETS: usize = 64;

/// The packets of a datagram that were captured as a whole.
#[derive(Debug)]
pub struct Compound<'a> {
    packets: SmallVec<[Packet<'a>; 4]>,
}

/// A statement of a compound about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The sender has sent a report.
    SenderReport {
        /// The sender's SSRC.
        ssrc: u32,
        /// The middle 32 bits of its NTP timestamp, which receivers send back: RFC 3550, 4.
        ntp: u32,
    },
    /// The canonical name of a sender: RFC 3550, 6.5.1.
    Cname {
        /// The sender's SSRC.
        ssrc: u32,
        /// Its name, which may hold any bytes off the wire.
        name: &'a [u8],
    },
    /// The sender of the compound has received a stream.
    Reception(ReceptionReport),
    /// The sender of the compound rates a stream that it receives: RFC 3611, 4.7.
    Opinion {
        /// The stream's SSRC.
        ssrc: u32,
        /// The mean opinion score, times ten, 10 to 50: for listening quality, else for
        /// conversational quality.
        mos: u8,
    },
}

/// A report block: RFC 3550, 6.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptionReport {
    /// The stream's SSRC.
    pub ssrc: u32,
    /// The fraction lost since the report before, out of 256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning of reception; duplicates may make it negative.
    pub lost: i32,
    /// The highest sequence number received; the upper 16 bits count the wrap-arounds.
    pub highest: u32,
    /// The interarrival jitter, in units of the stream's clock rate.
    pub jitter: u32,
    /// The NTP timestamp of the last sender report received, as in [`Item::SenderReport`]; 0 if
    /// there was none.
    pub last_sender_report: u32,
    /// The time since then, in units of 1/65536 s.
    pub delay: u32,
}

/// Returns true if a payload begins like RTCP: version 2, and a packet type of 192 to 223 (RFC
/// 5761, 4).
#[must_use]
pub fn is_rtcp(payload: &[u8]) -> bool {
    matches!(payload, [first, 192..=223, ..] if first >> 6 == 2)
}

impl<'a> Compound<'a> {
    /// Reads a datagram that had `wire_len` bytes on the wire. `None` if it is not a chain of RTCP
    /// packets up to its end: it is encrypted (RFC 3711, 3.4: the index and the tag at the end of
    /// SRTCP do not fit into the chain) or broken.
    #[must_use]
    pub fn parse(payload: &'a [u8], wire_len: usize) -> Option<Self> {
        let mut packets = SmallVec::new();
        let mut rest = payload;
        let mut left = wire_len;
        for _ in 0..MAX_PACKETS {
            if left == 0 || (rest.len() < HEADER_LEN && rest.len() < left) {
                return Some(Self { packets });
            }
            let len = packet_len(rest)?;
            left = left.checked_sub(len)?;
            let Some((packet, after)) = rest.split_at_checked(len) else {
                // The snap length cut it.
                return Some(Self { packets });
            };
            packets.extend(Packet::parse(packet).ok());
            rest = after;
        }
        None
    }

    /// Calls `visit` for each statement, in their order.
    pub fn for_each(&self, mut visit: impl FnMut(Item<'_>)) {
        for packet in &self.packets {
            match packet {
                Packet::Sr(report) => {
                    visit(Item::SenderReport {
                        ssrc: report.ssrc(),
                        ntp: (report.ntp_timestamp() >> 16 & u64::from(u32::MAX)) as u32,
                    });
                    report
                        .report_blocks()
                        .for_each(|block| visit(Item::Reception(block.into())));
                }
                Packet::Rr(report) => report
                    .report_blocks()
                    .for_each(|block| visit(Item::Reception(block.into()))),
                Packet::Sdes(description) => {
                    for chunk in description.chunks() {
                        let name = chunk.items().find(|item| item.type_() == SdesItem::CNAME);
                        if let Some(name) = name.map(|name| without_end(name.value())) {
                            visit(Item::Cname {
                                ssrc: chunk.ssrc(),
                                name,
                            });
                        }
                    }
                }
                Packet::Xr(report) => opinions(report, &mut visit),
                _ => {}
            }
        }
    }
}

/// A name without the zeros that some senders write behind it, as C does.
fn without_end(mut name: &[u8]) -> &[u8] {
    while let [before @ .., 0] = name {
        name = before;
    }
    name
}

/// The length of the packet at the beginning of `rest` on the wire; `None` if it is not RTCP.
fn packet_len(rest: &[u8]) -> Option<usize> {
    let [_, _, l0, l1] = *rest
        .first_chunk::<HEADER_LEN>()
        .filter(|header| is_rtcp(*header))?;
    let words = usize::from(u16::from_be_bytes([l0, l1]));
    Some(words.saturating_add(1).saturating_mul(4))
}

fn opinions(report: &Xr<'_>, visit: &mut impl FnMut(Item<'_>)) {
    for block in report.block_iter() {
        if let Ok(VoipMetrics { ssrc, mos, .. }) = block.parse_into()
            && let Some(mos) = mos
        {
            visit(Item::Opinion { ssrc, mos });
        }
    }
}

impl From<ReportBlock<'_>> for ReceptionReport {
    fn from(block: ReportBlock<'_>) -> Self {
        Self {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            lost: signed_24(block.cumulative_lost()),
            highest: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_sender_report: block.last_sender_report_timestamp(),
            delay: block.delay_since_last_sender_report_timestamp(),
        }
    }
}

/// The number that 24 bits mean in two's complement.
fn signed_24(bits: u32) -> i32 {
    (bits << 8).cast_signed() >> 8
}

/// The VoIP metrics block: RFC 3611, 4.7.
struct VoipMetrics {
    header: [u8; HEADER_LEN],
    ssrc: u32,
    mos: Option<u8>,
}

const VOIP_METRICS_LEN: usize = 36;

impl XrBlockStaticType for VoipMetrics {
    const BLOCK_TYPE: u8 = 7;
}

impl<'a> XrBlockParser<'a> for VoipMetrics {
    fn parse(data: &'a [u8]) -> Result<Self, RtcpParseError> {
        let whole = data.first_chunk::<VOIP_METRICS_LEN>();
        let Some(
            [
                t,
                b,
                l0,
                l1,
                s0,
                s1,
                s2,
                s3,
                fields @ ..,
                listening,
                conversational,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
            ],
        ) = whole
        else {
            return Err(RtcpParseError::Truncated {
                expected: VOIP_METRICS_LEN,
                actual: data.len(),
            });
        };
        let _: &[u8; 18] = fields;
        // RFC 3611, 4.7.5: 127 is an unavailable value.
        let is_score = |mos: &&u8| (10..=50).contains(*mos);
        let metrics = Self {
            header: [*t, *b, *l0, *l1],
            ssrc: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            mos: [listening, conversational]
                .into_iter()
                .find(is_score)
                .copied(),
        };
        if metrics.length() < VOIP_METRICS_LEN {
            return Err(RtcpParseError::Truncated {
                expected: VOIP_METRICS_LEN,
                actual: metrics.length(),
            });
        }
        Ok(metrics)
    }

    fn header_data(&self) -> [u8; HEADER_LEN] {
        self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender report of 0x01020304 with one block about 0x0a0b0c0d.
    pub(crate) const REPORT: [u8; 52] = [
        0x81, 200, 0, 12, 1, 2, 3, 4, // SSRC
        0, 0, 0x11, 0x12, 0x13, 0x14, 0, 0, // NTP
        0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, // RTP time, packets, octets
        0x0a, 0x0b, 0x0c, 0x0d, 64, 0xff, 0xff, 0xfe, // fraction and number lost
        0, 1, 0, 5, 0, 0, 0, 80, // highest number, jitter
        0x21, 0x22, 0x23, 0x24, 0, 1, 0x80, 0, // LSR, DLSR
    ];
    const NAME: [u8; 16] = [0x81, 202, 0, 3, 1, 2, 3, 4, 1, 3, b'a', b'@', b'b', 0, 0, 0];

    fn voip_metrics(listening: u8, conversational: u8) -> Vec<u8> {
        let mut packet = vec![
            0x80, 207, 0, 10, 1, 2, 3, 4, 7, 0, 0, 8, 0x0a, 0x0b, 0x0c, 0x0d,
        ];
        packet.extend([9; 18]);
        packet.extend([listening, conversational, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet
    }

    fn said(payload: &[u8], wire_len: usize) -> Option<Vec<String>> {
        let mut said = Vec::new();
        Compound::parse(payload, wire_len)?.for_each(|item| said.push(format!("{item:?}")));
        Some(said)
    }

    #[test]
    fn what_a_compound_says() {
        let payload = [&REPORT[..], &NAME, &voip_metrics(43, 41)].concat();
        let report = ReceptionReport {
            ssrc: 0x0a0b_0c0d,
            fraction_lost: 64,
            lost: -2,
            highest: 0x1_0005,
            jitter: 80,
            last_sender_report: 0x2122_2324,
            delay: 0x1_8000,
        };
        let want = [
            Item::SenderReport {
                ssrc: 0x0102_0304,
                ntp: 0x1112_1314,
            },
            Item::Reception(report),
            Item::Cname {
                ssrc: 0x0102_0304,
                name: b"a@b",
            },
            Item::Opinion {
                ssrc: 0x0a0b_0c0d,
                mos: 43,
            },
        ];
        let want = want.iter().map(|item| format!("{item:?}")).collect();
        assert_eq!(said(&payload, payload.len()), Some(want));
    }

    #[test]
    fn a_name_may_end_with_zeros() {
        let mut ended = NAME;
        ended[9] = 5;
        assert_eq!(said(&ended, ended.len()), said(&NAME, NAME.len()));
    }

    #[test]
    fn receivers_report_alike() {
        let mut report = vec![0x81, 201, 0, 7, 1, 2, 3, 4];
        report.extend(&REPORT[28..]);
        let of_receiver = said(&report, report.len()).unwrap();
        assert_eq!(of_receiver, said(&REPORT, REPORT.len()).unwrap()[1..]);
    }

    #[test]
    fn an_opinion_that_is_not_available_is_none() {
        let mos = |listening, conversational| {
            let packet = voip_metrics(listening, conversational);
            said(&packet, packet.len()).unwrap().pop()
        };
        assert!(mos(127, 41).unwrap().contains("mos: 41"));
        assert_eq!(mos(127, 127), None);
        assert_eq!(mos(9, 51), None, "off the scale");
        let mut short = voip_metrics(43, 41);
        short[11] = 7;
        assert_eq!(said(&short, short.len()), Some(vec![]), "a block too short");
    }

    #[test]
    fn what_the_snap_length_left_is_read() {
        let payload = [&REPORT[..], &NAME].concat();
        let wire_len = payload.len();
        for captured in 0..wire_len {
            let said = said(&payload[..captured], wire_len).unwrap();
            assert_eq!(said.len(), if captured < 52 { 0 } else { 2 }, "{captured}");
        }
    }

    #[test]
    fn what_does_not_fit_to_its_end_is_not_read() {
        // The index, with the bit that says "encrypted", and the tag.
        let trailer = [0x80, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let secured = [&REPORT[..], &trailer].concat();
        assert_eq!(said(&secured, secured.len()), None);
        let encrypted = [&REPORT[..], &NAME.map(|byte| byte ^ 0x5a)].concat();
        assert_eq!(said(&encrypted, encrypted.len()), None);
        assert_eq!(said(&REPORT[..50], 50), None, "shorter than it says");
        let many = [0x80, 201, 0, 0].repeat(MAX_PACKETS + 1);
        assert_eq!(said(&many, many.len()), None);
    }

    #[test]
    fn a_packet_that_cannot_be_read_does_not_hide_the_others() {
        let mut name = NAME;
        name[9] = 200;
        let payload = [&name[..], &REPORT].concat();
        assert_eq!(said(&payload, payload.len()).unwrap().len(), 2);
    }

    /// No bytes make it panic, be they random or a damaged compound.
    #[test]
    fn any_bytes() {
        let whole = [&REPORT[..], &NAME, &voip_metrics(43, 41)].concat();
        let damage = (0..whole.len(), proptest::prelude::any::<u8>());
        let damaged = proptest::collection::vec(damage, 0..6);
        let random = proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80);
        proptest::proptest!(|(damage in damaged, random in random, packet_type in 192u8..=223)| {
            let mut payload = whole.clone();
            damage.into_iter().for_each(|(place, byte)| payload[place] = byte);
            payload.extend([0x9f, packet_type, 0, (random.len() / 4) as u8]);
            payload.extend(random);
            for captured in 0..=payload.len() {
                said(&payload[captured..], payload.len() - captured);
                said(&payload[..captured], payload.len());
            }
        });
    }
}
