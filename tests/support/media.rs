//! Packets on media ports.

/// The payload byte of RTP packets: silence in A-law.
pub const SOUND: u8 = 0xd5;

/// An RTP packet with 20 ms of A-law: the timestamp is the sequence number times 160 units.
#[derive(Clone, Copy, Debug)]
pub struct Rtp {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload_type: u8,
}

impl Rtp {
    pub fn new(ssrc: u32, sequence: u16) -> Self {
        Self {
            ssrc,
            sequence,
            timestamp: u32::from(sequence) * 160,
            payload_type: 8,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut packet = vec![0x80, self.payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([SOUND; 160]);
        packet
    }
}

/// An RTCP sender report: RFC 3550, 6.4.1.
pub fn sender_report(ssrc: u32) -> Vec<u8> {
    sender_report_at(ssrc, 0)
}

/// A sender report with the middle 32 bits of its NTP timestamp.
pub fn sender_report_at(ssrc: u32, ntp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0; 2]);
    packet.extend(ntp.to_be_bytes());
    packet.extend([0; 14]);
    packet
}

/// What an RTCP receiver report says about one stream: RFC 3550, 6.4.2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    pub ssrc: u32,
    /// The loss since the report before, out of 256.
    pub fraction: u8,
    pub lost: i32,
    pub highest: u32,
    pub jitter: u32,
    /// The timestamp of the last sender report, as in [`sender_report_at`].
    pub last: u32,
    /// The time since then, in units of 1/65536 s.
    pub delay: u32,
}

/// A receiver report.
pub fn receiver_report(ssrc: u32, block: Block) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    let lost = block.lost.cast_unsigned() & 0x00ff_ffff | u32::from(block.fraction) << 24;
    for word in [
        ssrc,
        block.ssrc,
        lost,
        block.highest,
        block.jitter,
        block.last,
        block.delay,
    ] {
        packet.extend(word.to_be_bytes());
    }
    packet
}

/// A source description with a canonical name of at most 255 bytes: RFC 3550, 6.5.
pub fn cname(ssrc: u32, name: &str) -> Vec<u8> {
    let mut items = vec![1, name.len() as u8];
    items.extend(name.as_bytes());
    items.push(0);
    items.resize(items.len().next_multiple_of(4), 0);
    let mut packet = vec![0x81, 202, 0, 1 + (items.len() / 4) as u8];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(items);
    packet
}

/// An extended report with VoIP metrics: RFC 3611, 4.7; scores are times ten.
pub fn voip_metrics(ssrc: u32, about: u32, listening: u8, conversational: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 207, 0, 10];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([7, 0, 0, 8]);
    packet.extend(about.to_be_bytes());
    packet.extend([0; 18]);
    packet.extend([listening, conversational]);
    packet.extend([0; 8]);
    packet
}

/// The telephone-events of one press of 60 ms (RFC 4733), in packets 20 ms apart, the end thrice:
/// the sequence numbers follow `first`, and all have its timestamp.
pub fn press(first: &Rtp, code: u8) -> Vec<Vec<u8>> {
    let packet = |number: u16| {
        let is_end = number >= 3;
        let rtp = Rtp {
            sequence: first.sequence.wrapping_add(number),
            payload_type: 101 | if number == 0 { 0x80 } else { 0 },
            ..*first
        };
        let mut packet = rtp.bytes();
        packet.truncate(12);
        let duration = 160 * number.min(3);
        packet.extend([code, if is_end { 0x8a } else { 0x0a }]);
        packet.extend(duration.to_be_bytes());
        packet
    };
    (0..6).map(packet).collect()
}

/// A STUN binding request: RFC 8489, 5.
pub fn stun() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()
}

/// The beginning of a DTLS ClientHello record: RFC 6347, 4.1.
pub fn dtls() -> Vec<u8> {
    [
        &[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16][..],
        &[1; 16],
    ]
    .concat()
}
