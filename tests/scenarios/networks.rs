//! Overlapping networks: two tenants with the same addresses, distinguished by their
//! encapsulation.

use super::*;

/// Encapsulates a frame for a tenant.
type Wrap = fn(&[u8], u8) -> Vec<u8>;

const ETHERNET_LEN: usize = 14;

/// Returns the frame with a VLAN tag.
pub(crate) fn vlan(frame: &[u8], id: u8) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0x20, id], &frame[12..]].concat()
}

fn stacked(frame: &[u8], id: u8) -> Vec<u8> {
    [
        &frame[..12],
        &[0x88, 0xa8, 0, 7, 0x81, 0, 0, id],
        &frame[12..],
    ]
    .concat()
}

fn mpls(frame: &[u8], id: u8) -> Vec<u8> {
    [
        &frame[..12],
        &[0x88, 0x47, 0, 0x10, 0, 64, 0, id, 0x01, 64],
        &frame[ETHERNET_LEN..],
    ]
    .concat()
}

fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    frames::udp(
        end([10, 9, 9, 1], 50_000),
        end([10, 9, 9, 2], port),
        payload,
    )
}

fn vxlan(frame: &[u8], id: u8) -> Vec<u8> {
    in_udp(4789, &[&[8, 0, 0, 0, 0, 0, id, 0], frame].concat())
}

fn geneve(frame: &[u8], id: u8) -> Vec<u8> {
    in_udp(6081, &[&[0, 0, 0x65, 0x58, 0, 0, id, 0], frame].concat())
}

fn gtp(frame: &[u8], id: u8) -> Vec<u8> {
    let packet = &frame[ETHERNET_LEN..];
    let len = (packet.len() as u16).to_be_bytes();
    in_udp(
        2152,
        &[&[0x30, 0xff, len[0], len[1], 0, 0, 0, id], packet].concat(),
    )
}

fn gre(frame: &[u8], id: u8) -> Vec<u8> {
    const GRE: u8 = 47;
    let payload = [&[0x20, 0, 8, 0, 0, 0, 0, id], &frame[ETHERNET_LEN..]].concat();
    let mut outer = frames::udp(end([10, 9, 9, 1], 1), end([10, 9, 9, 2], 2), &payload);
    outer.drain(ETHERNET_LEN + 20..ETHERNET_LEN + 28);
    let len = (20 + payload.len() as u16).to_be_bytes();
    outer[ETHERNET_LEN + 2..ETHERNET_LEN + 4].copy_from_slice(&len);
    outer[ETHERNET_LEN + 9] = GRE;
    outer
}

const WRAPS: [(&str, Wrap); 7] = [
    ("VLAN", vlan),
    ("stacked VLANs", stacked),
    ("MPLS", mpls),
    ("VXLAN", vxlan),
    ("Geneve", geneve),
    ("GTP-U", gtp),
    ("GRE key", gre),
];

/// Encapsulates all frames from number `since` on.
fn wrap_since(t: &mut Ladder, since: usize, wrap: impl Fn(&[u8]) -> Vec<u8>) {
    t.capture.frames[since..]
        .iter_mut()
        .for_each(|(_, frame)| *frame = wrap(frame));
}

/// Draws calls of two tenants with the same addresses and ports at the same time.
fn two_tenants(
    wrap_sip: impl Fn(&[u8], u8) -> Vec<u8>,
    wrap_media: impl Fn(&[u8], u8) -> Vec<u8>,
) -> Ladder {
    let mut t = ladder();
    for (id, ssrc) in [(10u8, 0x10), (20, 0x20)] {
        let name = format!("tenant-{id}");
        let at = u64::from(id);
        let since = t.capture.frames.len();
        answered(&mut t, at, &name, A_MEDIA, B_MEDIA);
        hung_up(&mut t, 3_000 + at, &name);
        wrap_since(&mut t, since, |frame| wrap_sip(frame, id));
        let since = t.capture.frames.len();
        t.rtp(300 + at, A_MEDIA, B_MEDIA, ssrc, 1..=50);
        t.rtp(305 + at, B_MEDIA, A_MEDIA, ssrc + 1, 1..=50);
        wrap_since(&mut t, since, |frame| wrap_media(frame, id));
    }
    t
}

/// Returns the number of RTP packets in the row of each call.
fn rtp_of(out: &Extracted) -> Vec<(String, String)> {
    let calls = out.calls.iter().map(|row| {
        (
            row.get("call_id").to_owned(),
            row.get("rtp_packet_count").to_owned(),
        )
    });
    calls.collect()
}

#[test]
fn the_media_of_tenants_with_the_same_addresses_are_told_apart() {
    for (what, wrap) in WRAPS {
        let out = two_tenants(wrap, wrap).extract();
        for (id, ssrc) in [(10, 0x10), (20, 0x20)] {
            let call = out.call(&format!("tenant-{id}"));
            call.is("completed")
                .has("rtp_packet_count", "100")
                .has("rtp_stream_count", "2")
                .has("sip_packet_count", "6");
            let ssrcs: Vec<String> = call
                .streams()
                .iter()
                .map(|stream| stream.get("ssrc_hex").to_owned())
                .collect();
            assert_eq!(
                ssrcs,
                [format!("{ssrc:#010x}"), format!("{:#010x}", ssrc + 1)],
                "{what}"
            );
        }
    }
}

#[test]
fn signalling_in_one_network_and_media_in_another_is_one_call() {
    for (what, wrap) in WRAPS {
        let mut t = ladder();
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        hung_up(&mut t, 3_000, "1");
        wrap_since(&mut t, 0, |frame| wrap(frame, 99));
        let since = t.capture.frames.len();
        t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
        wrap_since(&mut t, since, |frame| wrap(frame, 10));
        assert_eq!(
            rtp_of(&t.extract()),
            [("1".to_owned(), "50".to_owned())],
            "{what}"
        );
    }
}

#[test]
fn without_a_near_call_all_get_the_packets() {
    let out = two_tenants(|frame, _| vlan(frame, 99), |frame, _| frame.to_vec()).extract();
    let all = |name: &str| (name.to_owned(), "200".to_owned());
    assert_eq!(rtp_of(&out), [all("tenant-10"), all("tenant-20")]);
}

#[test]
fn a_tenant_that_gave_one_end_comes_before_another_that_gave_both() {
    let mut t = ladder();
    answered(&mut t, 0, "other", A_MEDIA, B_MEDIA);
    wrap_since(&mut t, 0, |frame| vlan(frame, 20));
    let since = t.capture.frames.len();
    t.sip(10, A, B, invite("own").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    wrap_since(&mut t, since, |frame| vlan(frame, 10));
    let out = t.extract();
    out.call("own").has("rtp_packet_count", "50");
    out.call("other").has("rtp_packet_count", "0");
}

#[test]
fn packets_that_are_seen_with_a_tag_and_without_are_one_stream() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    let tagged: Vec<_> = t
        .capture
        .frames
        .iter()
        .map(|(ns, frame)| (*ns, vlan(frame, 10)))
        .collect();
    t.capture.frames.extend(tagged);
    let out = t.extract();
    out.only_call()
        .has("rtp_packet_count", "100")
        .has("rtp_stream_count", "1")
        .has("sip_packet_count", "8");
    out.streams[0]
        .has("duplicate_count", "50")
        .has("lost_packets", "0");
}

#[test]
fn fragments_of_two_tenants_are_not_put_together() {
    let mut t = ladder();
    for (id, codec) in [(10u8, "first"), (20, "second")] {
        let name = format!("tenant-{id}");
        let long = invite(&name)
            .sdp(&Sdp::audio(A_MEDIA).line(&format!("a=note:{codec}-{}", "x".repeat(1_500))));
        let whole = frames::udp(A, B, &long.bytes());
        for (place, fragment) in frames::fragmented(&whole, 1_000, 7).into_iter().enumerate() {
            let at = START + u64::from(id) * MS + place as u64 * 20 * MS;
            t.capture.push(at, vlan(&fragment, id));
        }
    }
    let out = t.extract();
    for name in ["tenant-10", "tenant-20"] {
        out.call(name).is("incomplete").has("sip_packet_count", "2");
    }
}
