//! Tunnels: one packet inside another. Each reader removes one header and returns the next layer.
//!
//! A reader returns `None` for everything that its RFC does not allow, because a payload on the
//! port of a tunnel may be anything. A new reader must do the same.

use super::{Datagram, ErspanSession, Layer, be16, esp, l2tp, link, nsh};

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(super) const ETHERTYPE_VLAN: u16 = 0x8100;
pub(super) const ETHERTYPE_QINQ: u16 = 0x88a8;
pub(super) const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
pub(super) const ETHERTYPE_BACKBONE: u16 = 0x88e7;
const ETHERTYPE_MACSEC: u16 = 0x88e5;
const ETHERTYPE_BRIDGED: u16 = 0x6558;
pub(super) const ETHERTYPE_MPLS: u16 = 0x8847;
pub(super) const ETHERTYPE_MPLS_UPSTREAM: u16 = 0x8848;
const ETHERTYPE_PPPOE: u16 = 0x8864;
const ETHERTYPE_PPP: u16 = 0x880b;
const ETHERTYPE_ERSPAN: u16 = 0x88be;
const ETHERTYPE_ERSPAN_III: u16 = 0x22eb;

/// The next layer in a frame of this ether type.
pub(super) fn in_ether_type(ether_type: u16, payload: &[u8]) -> Option<Layer<'_>> {
    match ether_type {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Some(Layer::Ip(payload)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD => link::vlan(payload),
        ETHERTYPE_BACKBONE => link::backbone(payload),
        ETHERTYPE_MACSEC => link::macsec(payload),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => mpls(payload),
        ETHERTYPE_PPPOE => pppoe(payload),
        ETHERTYPE_PPP => Some(Layer::Ppp(payload)),
        ETHERTYPE_BRIDGED => Some(Layer::Ethernet(payload)),
        nsh::ETHERTYPE => nsh::inner(payload),
        _ => Some(Layer::Other),
    }
}

/// The next layer in an IP packet of this protocol, if the protocol is a tunnel.
pub(super) fn in_ip(protocol: u8, payload: &[u8], wire_len: usize) -> Option<Layer<'_>> {
    const IPV4: u8 = 4;
    const IPV6: u8 = 41;
    match protocol {
        IPV4 | IPV6 => Some(Layer::Ip(payload)),
        PROTOCOL_GRE => gre(payload),
        l2tp::PROTOCOL => l2tp::in_ip(payload, wire_len),
        _ => None,
    }
}

pub(super) const PROTOCOL_GRE: u8 = 47;

/// Returns true if datagrams between these ports may be tunnels.
#[inline]
pub(super) fn may_be_tunnel(source: u16, destination: u16) -> bool {
    matches!(
        destination,
        VXLAN | VXLAN_LINUX | VXLAN_GPE | GENEVE | GTP_U | TZSP | l2tp::PORT | esp::PORT
    ) || matches!(source, l2tp::PORT | esp::PORT)
}

pub(super) const VXLAN: u16 = 4789;
pub(super) const VXLAN_LINUX: u16 = 8472;
pub(super) const VXLAN_GPE: u16 = 4790;
pub(super) const GENEVE: u16 = 6081;
pub(super) const GTP_U: u16 = 2152;
const TZSP: u16 = 37_008;

/// The next layer in a datagram, if it is a tunnel by its port and its header.
pub(super) fn in_udp<'a>(datagram: &Datagram<'a>) -> Option<Layer<'a>> {
    match datagram.destination.port() {
        VXLAN | VXLAN_LINUX => vxlan(datagram.payload),
        VXLAN_GPE => vxlan_gpe(datagram.payload),
        GENEVE => geneve(datagram.payload),
        GTP_U => gtp_u(datagram.payload),
        TZSP => tzsp(datagram.payload),
        destination if [destination, datagram.source.port()].contains(&l2tp::PORT) => {
            l2tp::in_udp(datagram.payload, datagram.wire_len)
        }
        _ => None,
    }
}

/// The label stack of RFC 3032, 2.1. The stack does not declare its payload: IP is recognised by
/// its version; everything else is Ethernet, perhaps after a control word (RFC 4385, 3). MAC
/// addresses may begin like IP, so a payload with the ether type of IP in the right place is
/// Ethernet.
fn mpls(mut stack: &[u8]) -> Option<Layer<'_>> {
    const BOTTOM: u8 = 0x01;
    loop {
        let [_, _, low, _] = *stack.first_chunk()?;
        stack = stack.get(4..)?;
        if low & BOTTOM != 0 {
            break;
        }
    }
    match *stack.first()? {
        0x45..=0x4f | 0x60..=0x6f if !is_ip_over_ethernet(stack) => Some(Layer::Ip(stack)),
        0x00..=0x0f if !is_ip_over_ethernet(stack) => Some(Layer::Ethernet(stack.get(4..)?)),
        _ => Some(Layer::Ethernet(stack)),
    }
}

fn is_ip_over_ethernet(frame: &[u8]) -> bool {
    match frame.get(12..).and_then(<[u8]>::first_chunk) {
        Some([0x08, 0x00, version]) => matches!(version, 0x45..=0x4f),
        Some([0x86, 0xdd, version]) => matches!(version, 0x60..=0x6f),
        _ => false,
    }
}

/// RFC 2516, 4: version and type 1, code 0 (a session), session, length.
pub(super) fn pppoe(packet: &[u8]) -> Option<Layer<'_>> {
    let [0x11, 0, _, _, high, low] = *packet.first_chunk()? else {
        return Some(Layer::Other);
    };
    let body = packet.get(6..)?;
    Some(Layer::Ppp(
        body.get(..usize::from(be16([high, low]))).unwrap_or(body),
    ))
}

/// RFC 1661, 2, and RFC 1662, 3.1: address and control (`ff 03`) may be absent, and so may the
/// first byte of the protocol if it is 0.
pub(super) fn ppp(frame: &[u8]) -> Option<Layer<'_>> {
    let frame = frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame);
    let (protocol, payload) = match *frame {
        [low, ref payload @ ..] if low & 1 != 0 => (u16::from(low), payload),
        [high, low, ref payload @ ..] => (be16([high, low]), payload),
        _ => return None,
    };
    match protocol {
        0x0021 | 0x0057 => Some(Layer::Ip(payload)),
        0x0281 | 0x0283 => mpls(payload),
        _ => Some(Layer::Other),
    }
}

/// RFC 2784 with the key and sequence number of RFC 2890, the routing of RFC 1701, and version 1 of
/// RFC 2637 (PPTP).
fn gre(packet: &[u8]) -> Option<Layer<'_>> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    let [f0, f1, p0, p1] = *packet.first_chunk()?;
    let (flags, protocol) = (be16([f0, f1]), be16([p0, p1]));
    let is_set = |flag: u16| flags & flag != 0;
    let is_pptp = flags & 7 == 1;
    if flags & 7 > 1 {
        return None;
    }
    let mut rest = packet.get(4..)?;
    let words = usize::from(is_set(CHECKSUM | ROUTING)).saturating_add(usize::from(is_set(KEY)));
    let words = words
        .saturating_add(usize::from(is_set(SEQUENCE)))
        .saturating_add(usize::from(is_pptp && is_set(ACKNOWLEDGEMENT)));
    rest = rest.get(words.saturating_mul(4)..)?;
    if is_set(ROUTING) {
        rest = after_source_routes(rest)?;
    }
    match protocol {
        // Type I has no ERSPAN header.
        ETHERTYPE_ERSPAN if !is_set(SEQUENCE) => Some(Layer::Mirrored(None, rest)),
        ETHERTYPE_ERSPAN | ETHERTYPE_ERSPAN_III => erspan(rest),
        _ => Some(Layer::EtherType(protocol, rest)),
    }
}

/// The key of RFC 2890, 2.1, if there is one. The key of PPTP (RFC 2637, 4.1) holds the length of
/// the payload and a call's number: it names no network.
pub(super) fn gre_key(packet: &[u8]) -> Option<u32> {
    const CHECKSUM_OR_ROUTING: u8 = 0xc0;
    const KEY: u8 = 0x20;
    let [flags, version, ..] = *packet.first_chunk::<4>()?;
    if flags & KEY == 0 || version & 7 != 0 {
        return None;
    }
    let at = if flags & CHECKSUM_OR_ROUTING == 0 {
        4
    } else {
        8
    };
    Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// RFC 1701: source route entries, each with its length, up to an entry with family and length 0.
fn after_source_routes(mut entries: &[u8]) -> Option<&[u8]> {
    loop {
        let [f0, f1, _, len] = *entries.first_chunk()?;
        entries = entries.get(usize::from(len).saturating_add(4)..)?;
        if be16([f0, f1]) == 0 && len == 0 {
            return Some(entries);
        }
    }
}

/// draft-foschiano-erspan, 4.2 and 4.3. Version 1 is type II, with eight bytes; version 2 is type
/// III, with twelve, and with eight more if its last bit is set.
fn erspan(packet: &[u8]) -> Option<Layer<'_>> {
    let [v0, v1, s0, s1, ..] = *packet.first_chunk::<8>()?;
    let session = ErspanSession {
        span_id: be16([s0, s1]) & 0x03ff,
        vlan: be16([v0, v1]) & 0x0fff,
    };
    let len = match v0 >> 4 {
        1 => 8,
        2 if packet.get(11)? & 1 == 0 => 12,
        2 => 20,
        _ => return None,
    };
    Some(Layer::Mirrored(Some(session), packet.get(len..)?))
}

/// RFC 7348, 5: the flag for a valid network identifier must be set.
fn vxlan(packet: &[u8]) -> Option<Layer<'_>> {
    let [flags, ..] = *packet.first_chunk::<8>()?;
    (flags & 0x08 != 0).then(|| packet.get(8..).map(Layer::Ethernet))?
}

/// draft-ietf-nvo3-vxlan-gpe, 3: VXLAN that declares its payload.
fn vxlan_gpe(packet: &[u8]) -> Option<Layer<'_>> {
    let [flags, _, _, next, ..] = *packet.first_chunk::<8>()?;
    let inner = packet.get(8..)?;
    match next {
        _ if flags & 0x04 == 0 => vxlan(packet),
        1 | 2 => Some(Layer::Ip(inner)),
        3 => Some(Layer::Ethernet(inner)),
        4 => Some(Layer::EtherType(nsh::ETHERTYPE, inner)),
        _ => None,
    }
}

/// RFC 8926, 3.4: version 0, options in words of four bytes.
fn geneve(packet: &[u8]) -> Option<Layer<'_>> {
    let [first, _, p0, p1, ..] = *packet.first_chunk::<8>()?;
    if first >> 6 != 0 {
        return None;
    }
    let options = usize::from(first & 0x3f).saturating_mul(4);
    Some(Layer::EtherType(
        be16([p0, p1]),
        packet.get(options.saturating_add(8)..)?,
    ))
}

/// 3GPP TS 29.281, 5.1: version 1, a G-PDU, and a chain of extension headers, each with its length.
fn gtp_u(packet: &[u8]) -> Option<Layer<'_>> {
    const G_PDU: u8 = 0xff;
    let [flags, G_PDU, ..] = *packet.first_chunk::<8>()? else {
        return None;
    };
    if flags & 0xf0 != 0x30 {
        return None;
    }
    let mut rest = packet.get(8..)?;
    if flags & 0x07 != 0 {
        let [_, _, _, mut next] = *rest.first_chunk()?;
        rest = rest.get(4..)?;
        while flags & 0x04 != 0 && next != 0 {
            let len = usize::from(*rest.first()?).saturating_mul(4);
            next = *rest.get(len.checked_sub(1)?)?;
            rest = rest.get(len..)?;
        }
    }
    matches!(rest.first()? >> 4, 4 | 6).then_some(Layer::Ip(rest))
}

/// TaZmen Sniffer Protocol: version 1, a received or sent packet, its protocol, tags up to the end
/// tag.
fn tzsp(packet: &[u8]) -> Option<Layer<'_>> {
    const ETHERNET: [u8; 2] = [0, 1];
    const WLAN: [u8; 2] = [0, 18];
    const PADDING: u8 = 0;
    const END: u8 = 1;
    let [1, 0 | 1, p0, p1] = *packet.first_chunk()? else {
        return None;
    };
    let mut tags = packet.get(4..)?;
    loop {
        match *tags {
            [END, ref inner @ ..] => {
                return match [p0, p1] {
                    ETHERNET => Some(Layer::Ethernet(inner)),
                    WLAN => Some(Layer::Wlan(inner)),
                    _ => None,
                };
            }
            [PADDING, ref rest @ ..] => tags = rest,
            [_, len, ref rest @ ..] => tags = rest.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];
    const FRAME: &[u8] = &[2, 0, 0, 0];

    fn with(header: &[u8], inner: &[u8]) -> Vec<u8> {
        [header, inner].concat()
    }

    #[test]
    fn mpls_tells_ip_from_ethernet() {
        assert_eq!(
            mpls(&with(&[0, 0x10, 0, 64, 0, 0x20, 1, 64], IP)),
            Some(Layer::Ip(IP))
        );
        assert_eq!(
            mpls(&with(&[0, 0x10, 1, 64, 0, 0, 0, 0], FRAME)),
            Some(Layer::Ethernet(FRAME))
        );
        assert_eq!(
            mpls(&with(&[0, 0x10, 1, 64], &[0xa2, 1])),
            Some(Layer::Ethernet(&[0xa2, 1]))
        );
        assert_eq!(mpls(&[0, 0x10, 0, 64]), None, "no bottom");
        // Addresses 64:a0:e7:... and 00:00:00:...
        for first in [0x64, 0x45, 0x00] {
            let frame = [&[first, 0xa0, 0xe7][..], &[0; 9], &[8, 0], IP].concat();
            assert_eq!(
                mpls(&with(&[0, 0x10, 1, 64], &frame)),
                Some(Layer::Ethernet(&frame)),
                "{first:#x}"
            );
        }
    }

    #[test]
    fn pppoe_and_ppp() {
        assert_eq!(
            pppoe(&with(&[0x11, 0, 0, 7, 0, 6, 0, 0x21], IP)),
            Some(Layer::Ppp(&[0, 0x21, 0x45, 0, 0, 20]))
        );
        assert_eq!(
            pppoe(&[0x11, 9, 0, 0, 0, 0]),
            Some(Layer::Other),
            "discovery"
        );
        for header in [
            &[0xff, 0x03, 0, 0x21][..],
            &[0, 0x21],
            &[0x21],
            &[0xff, 0x03, 0x57],
        ] {
            assert_eq!(ppp(&with(header, IP)), Some(Layer::Ip(IP)), "{header:?}");
        }
        assert_eq!(ppp(&[0xc0, 0x21, 1]), Some(Layer::Other), "link control");
        assert_eq!(ppp(&[0xff, 0x03, 0x00]), None);
    }

    #[test]
    fn gre_with_all_that_may_stand_in_it() {
        let ip = Some(Layer::EtherType(ETHERTYPE_IPV4, IP));
        assert_eq!(gre(&with(&[0, 0, 8, 0], IP)), ip);
        assert_eq!(gre(&with(&[0x20, 0, 8, 0, 0, 0, 0, 9], IP)), ip, "key");
        assert_eq!(
            gre(&with(&[&[0xb0, 0, 8, 0][..], &[0; 12]].concat(), IP)),
            ip,
            "checksum, key, sequence"
        );
        let routed = [
            &[0x40, 0, 8, 0, 0, 0, 0, 0][..],
            &[0, 2, 0, 4, 1, 1, 1, 1],
            &[0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(gre(&with(&routed, IP)), ip, "routing");
        assert_eq!(
            gre(&with(
                &[&[0x30, 0x81, 0x88, 0x0b][..], &[0; 12]].concat(),
                IP
            )),
            Some(Layer::EtherType(ETHERTYPE_PPP, IP)),
            "PPTP"
        );
        assert_eq!(gre(&with(&[0, 2, 8, 0], IP)), None, "version 2");
    }

    #[test]
    fn erspan_in_its_three_types() {
        let erspan = |gre: [u8; 4], header: &[u8]| [&gre[..], &[0; 4], header, FRAME].concat();
        let session = Some(ErspanSession {
            span_id: 0x3ff,
            vlan: 0xabc,
        });
        assert_eq!(
            gre(&with(&[0, 0, 0x88, 0xbe], FRAME)),
            Some(Layer::Mirrored(None, FRAME))
        );
        let second = [0x1a, 0xbc, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(
            gre(&erspan([0x10, 0, 0x88, 0xbe], &second)),
            Some(Layer::Mirrored(session, FRAME))
        );
        let third = [0x2a, 0xbc, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            gre(&erspan([0x10, 0, 0x22, 0xeb], &third)),
            Some(Layer::Mirrored(session, FRAME))
        );
        let mut long = [&third[..], &[0; 8]].concat();
        long[11] = 1;
        assert_eq!(
            gre(&erspan([0x10, 0, 0x22, 0xeb], &long)),
            Some(Layer::Mirrored(session, FRAME))
        );
        assert_eq!(
            gre(&erspan([0x10, 0, 0x88, 0xbe], &[0; 8])),
            None,
            "version 0"
        );
    }

    #[test]
    fn tunnels_over_udp() {
        assert_eq!(
            vxlan(&with(&[8, 0, 0, 0, 0, 0, 7, 0], FRAME)),
            Some(Layer::Ethernet(FRAME))
        );
        assert_eq!(vxlan(&with(&[0, 0, 0, 0, 0, 0, 7, 0], FRAME)), None);
        assert_eq!(
            vxlan_gpe(&with(&[0x0c, 0, 0, 1, 0, 0, 7, 0], IP)),
            Some(Layer::Ip(IP))
        );
        let nsh = Some(Layer::EtherType(nsh::ETHERTYPE, IP));
        assert_eq!(vxlan_gpe(&with(&[0x0c, 0, 0, 4, 0, 0, 7, 0], IP)), nsh);
        assert_eq!(
            geneve(&with(&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 9, 9, 9, 9], FRAME)),
            Some(Layer::EtherType(ETHERTYPE_BRIDGED, FRAME))
        );
        assert_eq!(
            gtp_u(&with(&[0x30, 0xff, 0, 4, 0, 0, 0, 1], IP)),
            Some(Layer::Ip(IP))
        );
        let extended = [0x34, 0xff, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0];
        assert_eq!(gtp_u(&with(&extended, IP)), Some(Layer::Ip(IP)));
        assert_eq!(
            gtp_u(&with(&[0x30, 1, 0, 4, 0, 0, 0, 1], IP)),
            None,
            "an echo request"
        );
        assert_eq!(
            tzsp(&with(&[1, 0, 0, 1, 10, 1, 5, 0, 1], FRAME)),
            Some(Layer::Ethernet(FRAME))
        );
        assert_eq!(
            tzsp(&with(&[1, 0, 0, 18, 0, 1], FRAME)),
            Some(Layer::Wlan(FRAME))
        );
        assert_eq!(tzsp(&[1, 0, 0, 1, 10]), None, "no end tag");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for read in [mpls, pppoe, ppp, gre, vxlan, vxlan_gpe, geneve, gtp_u, tzsp] {
                if let Some(
                    Layer::Ethernet(inner)
                    | Layer::EtherType(_, inner)
                    | Layer::Ip(inner)
                    | Layer::Ppp(inner)
                    | Layer::Wlan(inner)
                    | Layer::Mirrored(_, inner),
                ) = read(&bytes)
                {
                    prop_assert!(bytes.ends_with(inner) || bytes.windows(inner.len().max(1)).any(|window| window == inner));
                }
            }
        }
    }
}
