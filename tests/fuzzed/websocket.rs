//! WebSocket frames: lengths are consistent, later bytes do not change a decision, and written
//! frames are read back unchanged.

use sip_call_extractor::sip::{FrameHeader, MAX_MESSAGE_LEN, NoFrame, Opcode, begins_sip};

use super::Input;

pub fn check(input: &[u8]) {
    any_bytes(input);
    written(Input(input));
}

fn any_bytes(bytes: &[u8]) {
    let parsed = FrameHeader::parse(bytes);
    if let Ok(header) = &parsed {
        assert!(
            matches!(header.header_len, 2 | 4 | 6 | 8 | 10 | 14)
                && header.header_len <= bytes.len()
        );
        assert!(
            header.payload_len <= MAX_MESSAGE_LEN
                && header.len() == header.header_len + header.payload_len
                && !header.is_empty()
        );
        let captured = (bytes.len() - header.header_len).min(header.payload_len);
        let text: Vec<u8> = header.unmasked(bytes).collect();
        assert_eq!(text.len(), captured);
        // Masking is its own inverse.
        let again: Vec<u8> = header
            .unmasked(&[&bytes[..header.header_len], &text].concat())
            .collect();
        assert_eq!(again, bytes[header.header_len..][..captured]);
    }
    for end in 0..bytes.len().min(32) {
        match FrameHeader::parse(&bytes[..end]) {
            Err(NoFrame::Incomplete) => assert!(end < 14),
            decided => assert_eq!(decided, parsed),
        }
        assert!(!begins_sip(&bytes[..end]) || begins_sip(bytes));
    }
}

fn written(mut input: Input<'_>) {
    let [first, kind, a, b, c, d] = [(); 6].map(|()| input.byte());
    let text = input.0;
    let mask = [a, b, c, d];
    let is_masked = kind & 1 != 0;
    let (len, extended) = match text.len() {
        len @ ..126 if kind & 6 == 0 => (len as u8, Vec::new()),
        len @ ..=0xffff if kind & 4 == 0 => (126, (len as u16).to_be_bytes().to_vec()),
        len => (127, (len as u64).to_be_bytes().to_vec()),
    };
    let masked: Vec<u8> = text
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    let frame = match is_masked {
        true => [&[first, 0x80 | len][..], &extended, &mask, &masked].concat(),
        false => [&[first, len][..], &extended, text].concat(),
    };
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 | 2 => Opcode::Data,
        8..=10 => Opcode::Control,
        _ => return assert_eq!(FrameHeader::parse(&frame), Err(NoFrame::Invalid)),
    };
    let header = FrameHeader::parse(&frame).expect("a frame as others write it");
    assert_eq!(
        (
            header.opcode,
            header.is_final,
            header.is_extended,
            header.len()
        ),
        (opcode, first & 0x80 != 0, first & 0x70 != 0, frame.len())
    );
    assert!(header.unmasked(&frame).eq(text.iter().copied()));
}
