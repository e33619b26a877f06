//! L2TP: version 2 over UDP (RFC 2661), version 3 over UDP and over IP (RFC 3931). Only data
//! messages are read.
//!
//! In version 3, the packet does not say how long the cookie is (0, 4 or 8 bytes), whether a word
//! with a sequence number follows it, nor whether the frame is PPP or Ethernet: the two endpoints
//! have negotiated that. So the reader tries each combination, and accepts one only if it leads to
//! an IP packet that fills the payload exactly.

use super::{
    Layer, be16,
    ip::{self, UNKNOWN_LEN},
    link,
};

/// The UDP port of one side; the other side may use another.
pub(super) const PORT: u16 = 1701;
/// The IP protocol.
pub(super) const PROTOCOL: u8 = 115;

/// RFC 2661, 3.1, and RFC 3931, 4.1.2.1: a bit that tells control from data, other flags, and the
/// version in the last four bits.
pub(super) fn in_udp(packet: &[u8], wire_len: usize) -> Option<Layer<'_>> {
    match *packet.first_chunk()? {
        [flags, 2] => version_2(packet, flags),
        [0, 3] => pseudowire(packet.get(4..)?, wire_len.checked_sub(4)?),
        _ => None,
    }
}

/// RFC 3931, 4.1.1: only the session header.
pub(super) fn in_ip(packet: &[u8], wire_len: usize) -> Option<Layer<'_>> {
    pseudowire(packet, wire_len)
}

/// ```text
/// T L x x S x O P  x x x x version  [length (2)]  tunnel (2)  session (2)  [Ns (2)  Nr (2)]
/// [offset (2)  padding]  PPP
/// ```
fn version_2(packet: &[u8], flags: u8) -> Option<Layer<'_>> {
    const LENGTH: u8 = 0x40;
    const SEQUENCE: u8 = 0x08;
    const OFFSET: u8 = 0x02;
    const PRIORITY: u8 = 0x01;
    if flags & !(LENGTH | SEQUENCE | OFFSET | PRIORITY) != 0 {
        return None;
    }
    let word_at = |at: usize| Some(usize::from(be16(*packet.get(at..)?.first_chunk()?)));
    let has = |flag: u8| usize::from(flags & flag != 0);
    let end = if flags & LENGTH == 0 {
        packet.len()
    } else {
        word_at(2)?.min(packet.len())
    };
    let offset_at = has(LENGTH)
        .saturating_mul(2)
        .saturating_add(has(SEQUENCE).saturating_mul(4))
        .saturating_add(6);
    let start = if flags & OFFSET == 0 {
        offset_at
    } else {
        word_at(offset_at)?.checked_add(offset_at)?.checked_add(2)?
    };
    Some(Layer::Ppp(packet.get(start..end)?))
}

/// RFC 3931, 4.1: the session (0 marks control messages), a cookie, perhaps the word of 4.6, and
/// the frame.
fn pseudowire(packet: &[u8], wire_len: usize) -> Option<Layer<'_>> {
    const SESSION_LEN: usize = 4;
    const COOKIES_AND_WORDS: [usize; 4] = [0, 4, 8, 12];
    let is_control = *packet.first_chunk::<SESSION_LEN>()? == [0; SESSION_LEN];
    let wire_len = WireLen {
        len: wire_len,
        is_known: wire_len != UNKNOWN_LEN,
    };
    let frame_at = |len: usize| {
        let len = len.saturating_add(SESSION_LEN);
        frame(packet.get(len..)?, wire_len.behind(len)?)
    };
    if is_control {
        None
    } else {
        COOKIES_AND_WORDS.into_iter().find_map(frame_at)
    }
}

/// The length on the wire. For a datagram of which only the first fragment is there, it is an upper
/// bound.
#[derive(Clone, Copy)]
struct WireLen {
    len: usize,
    is_known: bool,
}

impl WireLen {
    fn behind(self, len: usize) -> Option<Self> {
        Some(Self {
            len: self.len.checked_sub(len)?,
            ..self
        })
    }

    /// Returns true if `packet` is IP and fills the length exactly; with `may_be_padded`, it may be
    /// shorter.
    fn is_filled_by(self, packet: &[u8], may_be_padded: bool) -> bool {
        let declared = ip::extent(packet).and_then(|extent| extent.declared_len);
        declared.is_some_and(|len| {
            len == self.len || (len < self.len && (may_be_padded || !self.is_known))
        })
    }
}

/// The shortest Ethernet frames are padded: IEEE 802.3, 4.2.3.3.
fn frame(frame: &[u8], wire_len: WireLen) -> Option<Layer<'_>> {
    const SHORTEST: usize = 64;
    if leads_to_ip(
        Layer::Ethernet(frame),
        frame,
        wire_len,
        wire_len.len <= SHORTEST,
    ) {
        Some(Layer::Ethernet(frame))
    } else if leads_to_ip(Layer::Ppp(frame), frame, wire_len, false) {
        Some(Layer::Ppp(frame))
    } else {
        None
    }
}

/// Returns true if a layer of `frame` holds IP that fills the frame. Each iteration removes some
/// bytes.
fn leads_to_ip(mut layer: Layer<'_>, frame: &[u8], wire_len: WireLen, may_be_padded: bool) -> bool {
    loop {
        match layer {
            Layer::Ip(packet) => {
                let at = packet.as_ptr().addr().saturating_sub(frame.as_ptr().addr());
                return wire_len
                    .behind(at)
                    .is_some_and(|wire_len| wire_len.is_filled_by(packet, may_be_padded));
            }
            below_ip => match link::inner(below_ip) {
                Some(inner) => layer = inner,
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(len: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, len];
        packet.resize(len.into(), 7);
        packet
    }

    fn ethernet(tags: &[u8], ip: &[u8]) -> Vec<u8> {
        [&[2; 12], tags, &[8, 0], ip].concat()
    }

    fn read_udp(packet: &[u8]) -> Option<Layer<'_>> {
        in_udp(packet, packet.len())
    }

    #[test]
    fn version_2_with_all_that_may_stand_in_it() {
        let ppp = [&[0xff, 3, 0, 0x21][..], &ip(20)].concat();
        let len = (ppp.len() + 8) as u8;
        for header in [
            &[0, 2, 0, 1, 0, 9][..],
            &[0x40, 2, 0, len, 0, 1, 0, 9],
            &[0x08, 2, 0, 1, 0, 9, 0, 0, 0, 0],
            &[0x03, 2, 0, 1, 0, 9, 0, 2, 5, 5],
            &[0x4b, 2, 0, len + 8, 0, 1, 0, 9, 0, 0, 0, 0, 0, 2, 5, 5],
        ] {
            let bytes = [header, &ppp].concat();
            assert_eq!(read_udp(&bytes), Some(Layer::Ppp(&ppp)), "{header:?}");
        }
        let padded = [&[0x40, 2, 0, len, 0, 1, 0, 9], &ppp[..], &[0; 9]].concat();
        assert_eq!(
            read_udp(&padded),
            Some(Layer::Ppp(&ppp)),
            "no more than it says"
        );
    }

    #[test]
    fn what_is_no_data_of_version_2() {
        assert_eq!(
            read_udp(&[0xc8, 2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0]),
            None,
            "control"
        );
        assert_eq!(read_udp(&[0x20, 2, 0, 1, 0, 9]), None, "a reserved bit");
        assert_eq!(
            read_udp(&[0x02, 2, 0, 1, 0, 9, 0xff, 0xff]),
            None,
            "padded beyond its end"
        );
        assert_eq!(
            read_udp(&[0x40, 2, 0, 3, 0, 1, 0, 9]),
            None,
            "shorter than its header"
        );
        assert_eq!(read_udp(&[0, 1, 0, 0]), None, "L2F");
        assert_eq!(read_udp(&[0]), None);
    }

    #[test]
    fn version_3_with_cookies_of_all_lengths() {
        let ppp = [&[0xff, 3, 0, 0x21][..], &ip(60)].concat();
        for frame in [
            ethernet(&[], &ip(60)),
            ethernet(&[0x81, 0, 0, 5, 0x81, 0, 0, 6], &ip(60)),
            ppp,
        ] {
            for before in [0, 4, 8, 12] {
                let packet = [&[0, 0, 0, 9][..], &vec![0x55; before], &frame].concat();
                let want = if frame[0] == 2 {
                    Layer::Ethernet(&frame)
                } else {
                    Layer::Ppp(&frame)
                };
                assert_eq!(in_ip(&packet, packet.len()), Some(want), "{before}");
                let over_udp = [&[0, 3, 0, 0][..], &packet].concat();
                assert_eq!(read_udp(&over_udp), Some(want), "{before}");
            }
        }
    }

    #[test]
    fn version_3_must_fit_exactly() {
        let packet = |frame: &[u8]| [&[0, 0, 0, 9][..], frame].concat();
        let long = packet(&[ethernet(&[], &ip(60)), vec![0]].concat());
        assert_eq!(in_ip(&long, long.len()), None, "a byte too many");
        let short = [ethernet(&[], &ip(28)), vec![0; 18]].concat();
        assert_eq!(
            in_ip(&packet(&short), short.len() + 4),
            Some(Layer::Ethernet(&short)),
            "filled up"
        );
        let whole = packet(&ethernet(&[], &ip(60)));
        let snapped = &whole[..50];
        assert_eq!(
            in_ip(snapped, whole.len()),
            Some(Layer::Ethernet(&snapped[4..]))
        );
        assert_eq!(in_ip(snapped, snapped.len()), None);
        assert_eq!(
            in_ip(snapped, UNKNOWN_LEN),
            Some(Layer::Ethernet(&snapped[4..])),
            "a first fragment"
        );
        let control = [&[0, 0, 0, 0][..], &ethernet(&[], &ip(60))].concat();
        assert_eq!(in_ip(&control, control.len()), None);
        let other = packet(&[&[2; 12][..], &[8, 6], &ip(60)].concat());
        assert_eq!(in_ip(&other, other.len()), None, "ARP");
    }
}
