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
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0; 20]);
    packet
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
