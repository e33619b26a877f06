//! ERF, the records of Endace's DAG cards: "Extensible Record Format", EDM11-01.
//!
//! ```text
//! timestamp (8)  type (1)  flags (1)  record length (2)  lost (2)  wire length (2)
//! [extension headers (8 each)]  payload
//! ```
//!
//! The highest bit of the type, and of each extension header, says that an extension header
//! follows. The packet time comes from the capture file, not from the record. Bytes after the
//! record are padding, and so are bytes beyond the wire length.

use super::{Layer, be16};

/// Types by their meaning. Types with a color or a hash in place of the loss counter hold the same.
mod kind {
    pub(super) const HDLC: [u8; 4] = [1, 10, 15, 19];
    pub(super) const ETHERNET: [u8; 4] = [2, 11, 16, 20];
    pub(super) const IP: [u8; 2] = [22, 23];
}

/// The payload of a record.
pub(super) fn record(frame: &[u8]) -> Option<Layer<'_>> {
    const HEADER_LEN: usize = 16;
    const EXTENSION_LEN: usize = 8;
    const MORE: u8 = 0x80;
    const ETHERNET_PADDING: usize = 2;
    let [_, _, _, _, _, _, _, _, kind, _, r0, r1, _, _, w0, w1] =
        *frame.first_chunk::<HEADER_LEN>()?;
    let record = up_to(usize::from(be16([r0, r1])), frame);
    let mut payload = record.get(HEADER_LEN..)?;
    let mut has_extension = kind & MORE != 0;
    while has_extension {
        has_extension = payload.first()? & MORE != 0;
        payload = payload.get(EXTENSION_LEN..)?;
    }
    let wire_len = usize::from(be16([w0, w1]));
    match kind & !MORE {
        kind if kind::ETHERNET.contains(&kind) => Some(Layer::Ethernet(up_to(
            wire_len,
            payload.get(ETHERNET_PADDING..)?,
        ))),
        kind if kind::HDLC.contains(&kind) => hdlc(up_to(wire_len, payload)),
        kind if kind::IP.contains(&kind) => Some(Layer::Ip(up_to(wire_len, payload))),
        _ => Some(Layer::OtherKind),
    }
}

fn up_to(len: usize, bytes: &[u8]) -> &[u8] {
    bytes.get(..len).unwrap_or(bytes)
}

/// HDLC does not declare its payload: PPP (RFC 1662, 3.1, or without address and control), Cisco's
/// framing (RFC 1547, 4.3.1), else Frame Relay.
fn hdlc(frame: &[u8]) -> Option<Layer<'_>> {
    match *frame {
        [0xff, 0x03, ..] | [0x00, 0x21 | 0x57, ..] => Some(Layer::Ppp(frame)),
        [0x0f | 0x8f, 0x00, t0, t1, ref payload @ ..] => {
            Some(Layer::EtherType(be16([t0, t1]), payload))
        }
        _ => super::frame_relay::frame(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];

    /// A record of this type; `wire_len` counts the payload and two bytes of a checksum that was
    /// not captured.
    fn of(kind: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
        let len = (16 + extensions.len() + payload.len()) as u16;
        let header = [
            &[0, 0, 0, 0, 0x5e, 0xea, 0x69, 0x65, kind, 0x04][..],
            &len.to_be_bytes(),
            &[0, 0],
            &[0, 200],
        ]
        .concat();
        [&header, extensions, payload].concat()
    }

    #[test]
    fn what_a_record_holds() {
        for kind in [2, 11, 16, 20] {
            let bytes = of(kind, &[], &[&[0, 0][..], IP].concat());
            assert_eq!(record(&bytes), Some(Layer::Ethernet(IP)), "{kind}");
        }
        assert_eq!(record(&of(22, &[], IP)), Some(Layer::Ip(IP)));
        for kind in [1, 10, 15, 19] {
            let ppp = [&[0xff, 3, 0, 0x21][..], IP].concat();
            assert_eq!(
                record(&of(kind, &[], &ppp)),
                Some(Layer::Ppp(&ppp)),
                "{kind}"
            );
            let cisco = [&[0x0f, 0, 8, 0][..], IP].concat();
            assert_eq!(
                record(&of(kind, &[], &cisco)),
                Some(Layer::EtherType(0x0800, IP)),
                "{kind}"
            );
            let relay = [&[0x18, 0x41, 3, 0xcc][..], IP].concat();
            assert_eq!(
                record(&of(kind, &[], &relay)),
                Some(Layer::Ip(IP)),
                "{kind}"
            );
        }
        for kind in [3, 4, 27, 48] {
            assert_eq!(record(&of(kind, &[], IP)), Some(Layer::OtherKind), "{kind}");
        }
    }

    #[test]
    fn extension_headers_follow_each_other() {
        let two = [[0x83, 0, 0, 0, 0, 0, 0, 1], [0x05, 0, 0, 0, 0, 0, 0, 2]].concat();
        assert_eq!(
            record(&of(0x82, &two, &[&[0, 0][..], IP].concat())),
            Some(Layer::Ethernet(IP))
        );
        assert_eq!(record(&of(0x82, &two[..8], &[])), None, "cut");
    }

    #[test]
    fn padding_is_no_payload() {
        let mut bytes = of(2, &[], &[&[0, 0][..], IP].concat());
        bytes.extend([0; 6]);
        assert_eq!(
            record(&bytes),
            Some(Layer::Ethernet(IP)),
            "behind the record"
        );
        let mut bytes = of(2, &[], &[&[0, 0][..], IP, &[0; 6]].concat());
        bytes[15] = 4;
        assert_eq!(record(&bytes), Some(Layer::Ethernet(IP)), "within it");
        assert_eq!(record(&bytes[..15]), None);
    }
}
