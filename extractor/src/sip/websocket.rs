//! WebSocket frames; each WebSocket message is one SIP message: RFC 7118, 5; RFC 6455, 5.2.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| length (7)  |  length (16, 64) if 126, 127  |
//! |I|S|S|S|  (4)  |A|             +-------------------------------+
//! |N|V|V|V|       |S|             |  masking key (32) if MASK     |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! ```

use super::framing::MAX_MESSAGE_LEN;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// True when the message ends with this frame.
    pub is_final: bool,
    /// The type of the payload.
    pub opcode: Opcode,
    /// True when an extension has changed the payload (RFC 7692 compresses it).
    pub is_extended: bool,
    mask: [u8; 4],
    /// The length of the header in bytes.
    pub header_len: usize,
    /// The length of the payload in bytes.
    pub payload_len: usize,
}

/// RFC 6455, 5.2 and 11.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Another frame of a message that has begun.
    Continuation,
    /// The first frame of a message, text or binary.
    Data,
    /// Close, ping, pong.
    Control,
}

/// The reason why no frame was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFrame {
    /// The header is incomplete.
    Incomplete,
    /// The bytes are not a frame.
    Invalid,
}

impl FrameHeader {
    /// Reads the frame header that `bytes` begin with.
    ///
    /// # Errors
    /// The header is incomplete, or the bytes are not a frame header.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoFrame> {
        const FIN: u8 = 0x80;
        const RESERVED: u8 = 0x70;
        const MASKED: u8 = 0x80;
        let [first, second, ref rest @ ..] = *bytes else {
            return Err(NoFrame::Incomplete);
        };
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 | 2 => Opcode::Data,
            8..=10 => Opcode::Control,
            _ => return Err(NoFrame::Invalid),
        };
        let (len_bytes, payload_len) = match second & !MASKED {
            126 => (
                2,
                rest.first_chunk()
                    .map(|len| u16::from_be_bytes(*len).into()),
            ),
            127 => (8, rest.first_chunk().map(|len| u64::from_be_bytes(*len))),
            len => (0, Some(len.into())),
        };
        let payload_len = usize::try_from(payload_len.ok_or(NoFrame::Incomplete)?)
            .map_err(|_| NoFrame::Invalid)?;
        if payload_len > MAX_MESSAGE_LEN {
            return Err(NoFrame::Invalid);
        }
        let mask = if second & MASKED == 0 {
            None
        } else {
            Some(
                *rest
                    .get(len_bytes..)
                    .and_then(<[u8]>::first_chunk)
                    .ok_or(NoFrame::Incomplete)?,
            )
        };
        Ok(Self {
            is_final: first & FIN != 0,
            opcode,
            is_extended: first & RESERVED != 0,
            mask: mask.unwrap_or_default(),
            header_len: 2usize
                .saturating_add(len_bytes)
                .saturating_add(if mask.is_some() { 4 } else { 0 }),
            payload_len,
        })
    }

    /// The length of the frame in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header_len.saturating_add(self.payload_len)
    }

    /// Always false: a frame has at least a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The captured payload of the frame, unmasked (RFC 6455, 5.3).
    pub fn unmasked<'a>(&'a self, frame: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
        let payload = frame
            .get(self.header_len..)
            .unwrap_or_default()
            .iter()
            .take(self.payload_len);
        payload
            .zip(self.mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
    }
}

/// Returns true if `bytes` begin with a frame that begins a SIP message. A capture may start after
/// the handshake.
#[must_use]
pub fn begins_sip(bytes: &[u8]) -> bool {
    let Ok(header) = FrameHeader::parse(bytes) else {
        return false;
    };
    let beginning: Vec<u8> = header.unmasked(bytes).take(16).collect();
    header.opcode == Opcode::Data && !header.is_extended && is_beginning_of_sip(&beginning)
}

/// A status line, or a method followed by a blank.
fn is_beginning_of_sip(text: &[u8]) -> bool {
    let method = text
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    text.starts_with(b"SIP/2.0 ") || (method >= 3 && text.get(method) == Some(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The unmasked text frame of RFC 6455, 5.7.
    const HELLO: &[u8] = &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    const MASKED_HELLO: &[u8] = &[
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];

    #[test]
    fn the_examples_of_the_rfc() {
        for frame in [HELLO, MASKED_HELLO] {
            let header = FrameHeader::parse(frame).unwrap();
            assert_eq!(
                (header.is_final, header.opcode, header.len()),
                (true, Opcode::Data, frame.len())
            );
            assert_eq!(header.unmasked(frame).collect::<Vec<_>>(), b"Hello");
        }
        let ping = FrameHeader::parse(&[0x89, 0x05]).unwrap();
        assert_eq!((ping.opcode, ping.payload_len), (Opcode::Control, 5));
        let fragment = FrameHeader::parse(&[0x01, 0x03]).unwrap();
        assert!(!fragment.is_final);
        let long = FrameHeader::parse(&[0x82, 0x7e, 0x01, 0x00]).unwrap();
        assert_eq!((long.header_len, long.payload_len), (4, 256));
        let longer = FrameHeader::parse(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
        assert_eq!((longer.header_len, longer.payload_len), (10, 65_536));
    }

    #[test]
    fn what_is_no_frame() {
        assert_eq!(FrameHeader::parse(&[0x81]), Err(NoFrame::Incomplete));
        assert_eq!(
            FrameHeader::parse(&[0x81, 0xfe, 0, 1, 2, 3, 4]),
            Err(NoFrame::Incomplete)
        );
        assert_eq!(FrameHeader::parse(&[0x83, 0]), Err(NoFrame::Invalid));
        assert_eq!(
            FrameHeader::parse(&[0x81, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0]),
            Err(NoFrame::Invalid)
        );
    }

    #[test]
    fn the_beginning_of_sip_shows_through_the_mask() {
        let mut frame = vec![0x81, 0x94, 9, 8, 7, 6];
        frame.extend(
            b"INVITE sip:x SIP/2.0"
                .iter()
                .zip([9, 8, 7, 6].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        assert!(begins_sip(&frame));
        assert!(!begins_sip(HELLO));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(header) = FrameHeader::parse(&bytes) {
                prop_assert!(header.header_len <= bytes.len());
                prop_assert!(header.unmasked(&bytes).count() <= header.payload_len);
            }
            let _ = begins_sip(&bytes);
        }
    }
}
