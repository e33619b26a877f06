//! One call in every encapsulation. The tables are those of the plain call, and the pcap holds the
//! frames as captured or, with --no-rtp-dump, without sound.

use std::net::SocketAddr;

use proptest::prelude::*;
use shared::pcap::LinkType;
use support::{
    MS, SECOND, frames,
    ladder::{Extracted, Ladder, Row, START_NS},
    layers::{self, FRAMINGS, Hep, LINKS, TUNNELS},
    media::{Rtp, SOUND},
    sip::{Sdp, request, response},
};

const A: &str = "192.0.2.1:5060";
const B: &str = "192.0.2.2:5060";
const A_MEDIA: &str = "192.0.2.1:4000";
const B_MEDIA: &str = "192.0.2.2:6000";
const A6: &str = "[2001:db8::1]:5060";
const B6: &str = "[2001:db8::2]:5060";
const A6_MEDIA: &str = "[2001:db8::1]:4000";
const B6_MEDIA: &str = "[2001:db8::2]:6000";

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A packet of a call: time (in milliseconds), source, destination, payload.
type Line = (u64, SocketAddr, SocketAddr, Vec<u8>);

/// Returns the packets of a call with media both ways, one of which is late.
fn call(ends: [&str; 4]) -> Vec<Line> {
    let [a, b, a_media, b_media] = ends.map(end);
    let mut lines = vec![
        (
            0,
            a,
            b,
            request("INVITE", "1").sdp(&Sdp::audio(a_media)).bytes(),
        ),
        (100, b, a, response(180, "INVITE", "1").bytes()),
        (
            200,
            b,
            a,
            response(200, "INVITE", "1")
                .sdp(&Sdp::audio(b_media))
                .bytes(),
        ),
        (220, a, b, request("ACK", "1").to_tag("bob").bytes()),
        (
            2_000,
            a,
            b,
            request("BYE", "1").cseq(2).to_tag("bob").bytes(),
        ),
        (2_020, b, a, response(200, "BYE", "1").cseq(2).bytes()),
    ];
    for n in 0..20 {
        lines.push((
            300 + n * 20,
            a_media,
            b_media,
            Rtp::new(7, n as u16).bytes(),
        ));
        lines.push((
            305 + n * 21,
            b_media,
            a_media,
            Rtp::new(8, n as u16).bytes(),
        ));
    }
    lines.sort_by_key(|line| line.0);
    lines
}

fn ipv4_call() -> Vec<Line> {
    call([A, B, A_MEDIA, B_MEDIA])
}

fn ipv6_call() -> Vec<Line> {
    call([A6, B6, A6_MEDIA, B6_MEDIA])
}

fn drawn(lines: &[Line], wrap: impl Fn(&Line) -> Vec<u8>) -> Ladder {
    let mut t = Ladder::new();
    for line in lines {
        t.capture.push(START_NS + line.0 * MS, wrap(line));
    }
    t
}

/// Extracts the plain call and returns the rows that all others must equal.
fn plain(lines: &[Line]) -> (Vec<Row>, Vec<Row>) {
    let out = drawn(lines, |(_, from, to, payload)| {
        frames::udp(*from, *to, payload)
    })
    .extract();
    out.only_call()
        .is("completed")
        .has("sip_packet_count", "6")
        .has("rtp_packet_count", "40")
        .has("rtp_stream_count", "2");
    (out.calls, out.streams)
}

fn rows(out: &Extracted) -> (Vec<Row>, Vec<Row>) {
    (out.calls.clone(), out.streams.clone())
}

fn ip(line: &Line) -> Vec<u8> {
    frames::ip_udp(line.1, line.2, &line.3)
}

/// Checks that the call is found when `wrap` encapsulates its IP packets.
#[track_caller]
fn check(
    lines: &[Line],
    want: &(Vec<Row>, Vec<Row>),
    link: layers::Link,
    name: &str,
    wrap: impl Fn(Vec<u8>) -> Vec<u8>,
) {
    let mut t = drawn(lines, |line| link.1(&wrap(ip(line))));
    t.capture.link = link.0;
    let out = t.extract();
    assert_eq!(rows(&out), *want, "{name} on {}: {}", link.0, out.log);
    assert_eq!(
        out.only_call().frames(),
        t.capture.frames,
        "{name} on {}",
        link.0
    );
    let out = t.flag("--no-rtp-dump").extract();
    assert_eq!(rows(&out), *want, "{name} on {} without sound", link.0);
    assert_eq!(
        out.only_call().frames(),
        without_sound(&t.capture.frames),
        "{name} on {} without sound",
        link.0
    );
    let out = t.flag("--headers-only").extract();
    assert_eq!(rows(&out), *want, "{name} on {} cut", link.0);
    let capture = std::fs::read(out.only_call().path()).unwrap();
    let again = support::ladder::extract_piped(&capture, &[]);
    assert_eq!(rows(&again), *want, "{name} on {} cut, again", link.0);
    let sounds = |(_, frame): &(u64, Vec<u8>)| {
        let mut runs = frame.chunk_by(|a, b| a == b);
        runs.any(|run| run[0] == SOUND && run.len() > 1)
    };
    assert!(
        !out.only_call().frames().iter().any(sounds),
        "{name} on {} cut",
        link.0
    );
}

/// Returns the frames without their sound: all sound bytes of `Rtp` are equal.
fn without_sound(frames: &[(u64, Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
    let mute = |frame: &Vec<u8>| {
        let runs = frame.chunk_by(|a, b| a == b);
        runs.flat_map(|run| {
            if run[0] == SOUND && run.len() > 1 {
                vec![0; run.len()]
            } else {
                run.to_vec()
            }
        })
        .collect()
    };
    frames
        .iter()
        .map(|(ns, frame)| (*ns, mute(frame)))
        .collect()
}

#[test]
fn on_every_link_type() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        LINKS
            .iter()
            .for_each(|link| check(&lines, &want, *link, "nothing", |ip| ip));
    }
}

/// Wireshark names the endpoints, and extracts SIP from TCP.
#[test]
fn in_exported_pdus() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        for transport in [2, 3] {
            let mut t = drawn(&lines, |line| {
                let (name, transport) = if line.3[0] == 0x80 {
                    ("rtp", 3)
                } else {
                    ("sip", transport)
                };
                layers::exported(name, transport, line.1, line.2, &line.3)
            });
            t.capture.link = LinkType::UPPER_PDU;
            let out = t.extract();
            assert_eq!(rows(&out), want, "{}", out.log);
            assert_eq!(out.only_call().frames(), t.capture.frames);
            let out = t.flag("--no-rtp-dump").extract();
            assert_eq!(out.only_call().frames(), without_sound(&t.capture.frames));
        }
    }
}

#[test]
fn kinds_that_are_not_read_are_counted() {
    let mut t = drawn(&ipv4_call(), |line| {
        layers::exported("diameter", 3, line.1, line.2, &line.3)
    });
    t.capture.link = LinkType::UPPER_PDU;
    let out = t.extract();
    assert!(
        out.calls.is_empty()
            && out
                .log
                .contains("46   records of ERF, exported PDUs and the like"),
        "{}",
        out.log
    );
}

#[test]
fn in_every_framing() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        for (name, frame) in FRAMINGS {
            check(&lines, &want, (LINKS[0].0, <[u8]>::to_vec), name, |ip| {
                frame(&ip)
            });
        }
    }
}

#[test]
fn in_every_tunnel() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        for tunnel in TUNNELS {
            check(&lines, &want, LINKS[0], &format!("{tunnel:?}"), |ip| {
                tunnel.carry(&ip, FRAMINGS[0])
            });
        }
    }
}

/// Transport mode, as between a phone and its P-CSCF: the IP header stays outside, and there is an
/// integrity check value.
#[test]
fn in_esp_with_the_null_cipher() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        for icv_len in [12, 16, 0] {
            check(&lines, &want, LINKS[0], "ESP", |ip| {
                let (header, udp) = ip.split_at(if ip[0] >> 4 == 4 { 20 } else { 40 });
                layers::ip_with(header, 50, &layers::esp(17, udp, icv_len))
            });
        }
    }
}

#[test]
fn esp_that_is_encrypted_is_counted() {
    let mut t = drawn(&ipv4_call(), |_| {
        LINKS[0].1(&layers::ipv4(50, &[0x5a; 120]))
    });
    let out = t.extract();
    assert!(
        out.calls.is_empty() && out.log.contains("46   ESP packets, encrypted"),
        "{}",
        out.log
    );
    let mut t = drawn(&ipv4_call(), |line| {
        let mut frame = LINKS[0].1(&layers::ipv4(50, &layers::esp(4, &ip(line), 12)));
        frame.truncate(frame.len() - 1);
        frame
    });
    let out = t.extract();
    assert!(
        out.calls.is_empty() && out.log.contains("46   ESP packets, encrypted"),
        "snapped: {}",
        out.log
    );
}

#[test]
fn a_fifth_tunnel_is_counted() {
    let mut t = drawn(&ipv4_call(), |line| {
        LINKS[0].1(&(0..5).fold(ip(line), |ip, _| layers::ipv4(4, &ip)))
    });
    let out = t.extract();
    assert!(
        out.calls.is_empty() && out.log.contains("46   packets in more tunnels"),
        "{}",
        out.log
    );
}

/// Tunnels make packets longer than the MTU: each is fragmented, and the packet in it may be a
/// fragment itself.
#[test]
fn fragments_in_fragments_of_every_tunnel() {
    let lines = ipv4_call();
    let (calls, streams) = plain(&lines);
    for tunnel in TUNNELS {
        let mut t = Ladder::new();
        for (index, line) in lines.iter().enumerate() {
            let pieces = frames::fragmented(&FRAMINGS[0].1(&ip(line)), 104, index as u16);
            for (number, inner) in pieces.iter().enumerate() {
                let outer = LINKS[0].1(&layers::ipv4(4, &tunnel.carry(&inner[14..], FRAMINGS[2])));
                for frame in frames::fragmented(&outer, 160, (index * 50 + number) as u16) {
                    t.capture.push(START_NS + line.0 * MS, frame);
                }
            }
        }
        let out = t.extract();
        assert_eq!(out.streams, streams, "{tunnel:?}");
        out.only_call()
            .has("start_timestamp", calls[0].get("start_timestamp"))
            .is("completed")
            .has("duration_s", "2.020000");
        assert_eq!(out.only_call().frames(), t.capture.frames, "{tunnel:?}");
        let out = t.flag("--no-rtp-dump").extract();
        assert_eq!(out.streams, streams, "{tunnel:?} without sound");
        assert_eq!(
            out.only_call().frames(),
            without_sound(&t.capture.frames),
            "{tunnel:?} without sound"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn in_any_nesting(
        is_v6 in any::<bool>(),
        link in 0..LINKS.len(),
        nesting in proptest::collection::vec((0..TUNNELS.len(), 0..FRAMINGS.len()), 1..=4),
    ) {
        let lines = if is_v6 { ipv6_call() } else { ipv4_call() };
        let want = plain(&lines);
        let names: Vec<_> = nesting.iter().map(|(tunnel, framing)| (TUNNELS[*tunnel], FRAMINGS[*framing].0)).collect();
        check(&lines, &want, LINKS[link], &format!("{names:?}"), |ip| {
            nesting.iter().fold(ip, |ip, (tunnel, framing)| TUNNELS[*tunnel].carry(&ip, FRAMINGS[*framing]))
        });
    }
}

// HEP.

fn hep<'a>(line: &'a Line, over: u8) -> Hep<'a> {
    let protocol = if line.3[0] == 0x80 { 4 } else { 1 };
    Hep {
        from: line.1,
        to: line.2,
        over,
        ns: START_NS + line.0 * MS,
        protocol,
        payload: &line.3,
    }
}

/// The agent reports after a day, in the same order, but at another pace.
fn told(lines: &[Line], wrap: impl Fn(&Line) -> Vec<u8>) -> Ladder {
    let mut t = Ladder::new();
    for (index, line) in lines.iter().enumerate() {
        t.capture.push(
            START_NS + 86_400 * SECOND + index as u64 * 3 * MS,
            wrap(line),
        );
    }
    t
}

#[test]
fn hep3_tells_who_and_when() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        for over in [6, 17] {
            let mut t = told(&lines, |line| LINKS[0].1(&hep(line, over).ip()));
            let out = t.extract();
            assert_eq!(rows(&out), want, "{}", out.log);
            assert_eq!(
                out.only_call().frames(),
                t.capture.frames,
                "with the times of their records"
            );
            let out = t.flag("--no-rtp-dump").extract();
            assert_eq!(out.only_call().frames(), without_sound(&t.capture.frames));
        }
    }
}

#[test]
fn hep3_in_tunnels() {
    let lines = ipv4_call();
    let want = plain(&lines);
    let mut t = told(&lines, |line| {
        let vxlan = |ip: Vec<u8>| TUNNELS[11].carry(&ip, FRAMINGS[11]);
        FRAMINGS[5].1(&vxlan(vxlan(vxlan(hep(line, 17).ip()))))
    });
    let out = t.extract();
    assert_eq!(rows(&out), want, "{}", out.log);
}

#[test]
fn hep3_in_fragments() {
    let lines = ipv4_call();
    let (calls, streams) = plain(&lines);
    let mut t = Ladder::new();
    for (index, line) in lines.iter().enumerate() {
        for frame in frames::fragmented(&LINKS[0].1(&hep(line, 17).ip()), 160, index as u16) {
            t.capture
                .push(START_NS + 5 * SECOND + index as u64 * 3 * MS, frame);
        }
    }
    let out = t.extract();
    assert_eq!(out.streams, streams);
    for column in [
        "start_timestamp",
        "end_timestamp",
        "duration_s",
        "state",
        "rtp_packet_count",
    ] {
        out.only_call().has(column, calls[0].get(column));
    }
    assert_eq!(out.only_call().frames(), t.capture.frames);
    let out = t.flag("--no-rtp-dump").extract();
    assert_eq!(out.only_call().frames(), without_sound(&t.capture.frames));
}

#[test]
fn hep3_without_a_time_has_that_of_its_record() {
    let lines = ipv4_call();
    let mut t = drawn(&lines, |line| {
        LINKS[0].1(
            &Hep {
                ns: 0,
                ..hep(line, 17)
            }
            .ip(),
        )
    });
    assert_eq!(rows(&t.extract()), plain(&lines));
}

#[test]
fn times_that_hep_tells_end_no_call() {
    let lines = ipv4_call();
    // An hour, less than an hour, and years ahead; once, twice, and from there on.
    for ahead in [3_500, 10_000, 100_000_000] {
        for damaged in [300..=300, 300..=340, 300..=u64::MAX] {
            let mut t = drawn(&lines, |line| {
                let ns = START_NS
                    + line.0 * MS
                    + if damaged.contains(&line.0) {
                        ahead * SECOND
                    } else {
                        0
                    };
                LINKS[0].1(
                    &Hep {
                        ns,
                        ..hep(line, 17)
                    }
                    .ip(),
                )
            });
            let out = t.extract();
            out.only_call()
                .is("completed")
                .has("rtp_packet_count", "40");
            assert!(!out.log.contains("timestamps"), "{}", out.log);
        }
    }
}

#[test]
fn hep_of_version_2_tells_the_time_and_that_of_version_1_does_not() {
    for lines in [ipv4_call(), ipv6_call()] {
        let want = plain(&lines);
        let mut t = told(&lines, |line| LINKS[0].1(&hep(line, 17).ip_of_version(2)));
        assert_eq!(rows(&t.extract()), want);
        let mut t = drawn(&lines, |line| {
            LINKS[0].1(
                &Hep {
                    ns: 0,
                    ..hep(line, 6)
                }
                .ip_of_version(1),
            )
        });
        let out = t.extract();
        assert_eq!(rows(&out), want);
        let out = t.flag("--no-rtp-dump").extract();
        assert_eq!(out.only_call().frames(), without_sound(&t.capture.frames));
    }
}

#[test]
fn hep_is_read_on_its_ports_only() {
    let lines = ipv4_call();
    for (port, flag, is_read) in [
        (9061, "--debug", true),
        (9062, "--debug", false),
        (9062, "--hep-ports=9062,1", true),
        (9060, "--hep-ports=9062,1", false),
        (5060, "--hep-ports=any", true),
        (9060, "--hep-ports=", false),
    ] {
        let mut t = told(&lines, |line| LINKS[0].1(&hep(line, 17).ip_to(port))).flag(flag);
        let out = t.extract();
        assert_eq!(!out.calls.is_empty(), is_read, "{port} {flag}: {}", out.log);
        if is_read {
            assert_eq!(rows(&out), plain(&lines), "{port} {flag}");
        }
    }
    let out = told(&lines, |line| LINKS[0].1(&hep(line, 17).ip()))
        .flag("--hep-ports=9060-9061")
        .extract_as_drawn();
    assert_eq!(out.status, Some(2));
    assert!(out.log.contains("`9060-9061` is not a port"), "{}", out.log);
}

#[test]
fn hep3_about_other_things_is_counted() {
    let mut t = drawn(&ipv4_call(), |line| LINKS[0].1(&hep(line, 17).ip()));
    let report = Hep {
        protocol: 5,
        payload: b"{\"ssrc\":7}",
        ..hep(&(900, end(A_MEDIA), end(B_MEDIA), vec![0]), 17)
    }
    .ip();
    t.capture.push(START_NS + 900 * MS, LINKS[0].1(&report));
    let out = t.extract();
    out.only_call().has("rtp_packet_count", "40");
    assert_eq!(out.only_call().frames().len(), 46);
    assert!(
        out.log
            .contains("1   HEP packets that tell of something else"),
        "{}",
        out.log
    );
}

// ERSPAN.

/// Three calls of sessions 7, 8 and 1023 (VLANs 70, 80 and 4095), one in type I, and one that is
/// not mirrored.
fn mirrored() -> Ladder {
    let mut t = Ladder::new();
    let erspan: [layers::Framing; 5] = [
        ("seven", |ip| {
            LINKS[0].1(&layers::erspan_ii(7, 70, &FRAMINGS[2].1(ip)))
        }),
        ("eight", |ip| {
            LINKS[0].1(&layers::erspan_iii(8, 80, &FRAMINGS[0].1(ip)))
        }),
        ("last", |ip| {
            LINKS[0].1(&layers::erspan_ii(1_023, 4_095, &FRAMINGS[0].1(ip)))
        }),
        ("first type", |ip| {
            LINKS[0].1(&layers::erspan_i(&FRAMINGS[0].1(ip)))
        }),
        ("none", |ip| LINKS[0].1(ip)),
    ];
    for (index, (id, wrap)) in erspan.into_iter().enumerate() {
        let message = request("INVITE", id).bytes();
        t.capture.push(
            START_NS + index as u64 * MS,
            wrap(&frames::ip_udp(end(A), end(B), &message)),
        );
    }
    t
}

fn found(flags: &[&str]) -> (Vec<String>, String) {
    let mut t = flags.iter().fold(mirrored(), |t, flag| t.flag(flag));
    let out = t.extract();
    let mut ids: Vec<_> = out
        .calls
        .iter()
        .map(|row| row.get("call_id").to_owned())
        .collect();
    ids.sort();
    (ids, out.log)
}

#[test]
fn erspan_sessions_and_vlans_may_be_chosen() {
    for (flags, want) in [
        (
            &[][..],
            &["eight", "first type", "last", "none", "seven"][..],
        ),
        (
            &["--erspan-span-ids", ""],
            &["eight", "first type", "last", "none", "seven"],
        ),
        (&["--erspan-span-ids", "7"], &["none", "seven"]),
        (
            &["--erspan-span-ids", "7, 1023"],
            &["last", "none", "seven"],
        ),
        (
            &["--erspan-span-ids", "7", "--erspan-span-ids", "8"],
            &["eight", "none", "seven"],
        ),
        (&["--erspan-vlans", "80,4095"], &["eight", "last", "none"]),
        (
            &["--erspan-span-ids", "7,8", "--erspan-vlans", "80"],
            &["eight", "none"],
        ),
        (&["--erspan-span-ids", "0"], &["none"]),
    ] {
        let (ids, log) = found(flags);
        assert_eq!(ids, want, "{flags:?}");
        let passed_over = 5 - want.len();
        assert_eq!(
            log.contains(&format!("{passed_over}   frames of other ERSPAN sessions")),
            passed_over > 0,
            "{log}"
        );
    }
}

#[test]
fn erspan_numbers_that_are_none() {
    for (flag, value, most) in [
        ("--erspan-span-ids", "1024", 1023),
        ("--erspan-span-ids", "1,,2", 1023),
        ("--erspan-span-ids", "1-3", 1023),
        ("--erspan-vlans", "4096", 4095),
        ("--erspan-vlans", "all", 4095),
    ] {
        let out = mirrored()
            .flag(&format!("{flag}={value}"))
            .extract_as_drawn();
        assert_eq!(out.status, Some(2), "{flag} {value}");
        assert!(
            out.log.contains(flag) && out.log.contains(&format!("from 0 to {most}")),
            "{}",
            out.log
        );
    }
}
