//! Captures that are made to be expensive: the cost of each grows with its bytes, not with their
//! square, and an innocent call in it loses nothing.
//!
//! CPU time is that of the process alone, so other load does not count. The bounds are wide: a
//! quadratic algorithm exceeds them by far.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use support::{
    MS, frames,
    ladder::{Ladder, START_NS, extractor},
    media::Rtp,
    sip::{Sdp, request, response},
};

const A: SocketAddr = end([192, 0, 2, 20], 5060);
const B: SocketAddr = end([192, 0, 2, 21], 5060);
const SHARED: SocketAddr = end([192, 0, 2, 21], 30_000);
const INNOCENT: [SocketAddr; 2] = [end([192, 0, 2, 77], 4000), end([192, 0, 2, 78], 6000)];
const INNOCENT_PACKETS: u16 = 200;
/// All messages of a capture are sent within this time, in milliseconds.
const SPAN: u64 = 2_500;

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

fn peer(number: u64, port: u16) -> SocketAddr {
    let [.., a, b, c] = number.to_be_bytes();
    end([100, 64 | a, b, c], port)
}

/// A kind of capture: draws `n` messages or pairs of them, beginning at one second.
type Kind = fn(&mut Ladder, u64);

fn at(index: u64, n: u64) -> u64 {
    1_000 + index * SPAN / n
}

fn invites(t: &mut Ladder, n: u64, media: impl Fn(u64) -> SocketAddr) {
    for index in 0..n {
        t.sip(
            at(index, n),
            A,
            B,
            request("INVITE", &format!("h{index}")).sdp(&Sdp::audio(media(index))),
        );
    }
}

/// Addresses that send to the shared endpoint all the time.
fn strangers(t: &mut Ladder, n: u64) {
    for index in 0..n {
        t.udp(
            500 + index * 400 / n,
            peer(index, 7000),
            SHARED,
            &Rtp::new(index as u32, 1).bytes(),
        );
        t.udp(
            at(index, n),
            peer(index, 7000),
            SHARED,
            &Rtp::new(index as u32, 2).bytes(),
        );
    }
}

const KINDS: [(&str, Kind); 12] = [
    ("requests of one Call-ID without a call", |t, n| {
        (0..n).for_each(|index| {
            t.sip(
                at(index, n),
                A,
                B,
                request("OPTIONS", "stray").cseq(index as u32),
            );
        });
    }),
    ("a flood of INVITEs", |t, n| {
        invites(t, n, |index| {
            end([203, 0, 113, 1], 10_000 + (index % 40_000) as u16)
        });
    }),
    ("a load test with one media port", |t, n| {
        for index in 0..n {
            let id = format!("load-{index}");
            t.sip(
                at(index, n),
                A,
                B,
                request("INVITE", &id).sdp(&Sdp::audio(end([192, 0, 2, 20], 20_000))),
            );
            t.sip(
                at(index, n) + 1,
                B,
                A,
                response(200, "INVITE", &id).sdp(&Sdp::audio(SHARED)),
            );
        }
    }),
    ("calls that give one endpoint", |t, n| {
        invites(t, n, |_| SHARED);
    }),
    ("strangers at an endpoint that many give", |t, n| {
        strangers(t, n);
        invites(t, n / 4, |_| SHARED);
    }),
    (
        "strangers at an endpoint that calls give one after the other",
        |t, n| {
            strangers(t, n);
            for index in 0..n / 8 {
                let id = format!("turn-{index}");
                let at = at(index, n / 8);
                t.sip(at, A, B, request("INVITE", &id).sdp(&Sdp::audio(SHARED)));
                t.sip(at + 1, A, B, request("CANCEL", &id));
                t.sip(at + 1, B, A, response(487, "INVITE", &id));
            }
        },
    ),
    ("clients of one server", |t, n| {
        for index in 0..n / 4 {
            let id = format!("client-{index}");
            let at = at(index, n / 4);
            t.sip(
                at,
                A,
                B,
                request("INVITE", &id).sdp(&Sdp::audio(peer(index, 9000))),
            );
            t.sip(
                at,
                B,
                A,
                response(200, "INVITE", &id).sdp(&Sdp::audio(SHARED)),
            );
        }
        for index in 0..n {
            t.udp(
                1_000 + index * 3_000 / n,
                peer(index % (n / 4), 9000),
                SHARED,
                &Rtp::new(index as u32, 1).bytes(),
            );
        }
    }),
    ("guesses of one endpoint", |t, n| {
        strangers(t, n);
        for index in 0..n / 8 {
            let private = end([10, 0, 0, 5], SHARED.port());
            let id = format!("guess-{index}");
            t.sip(
                at(index, n / 8),
                end([192, 0, 2, 21], 5060),
                A,
                request("INVITE", &id).sdp(&Sdp::audio(private)),
            );
        }
    }),
    ("guesses of one endpoint one after the other", |t, n| {
        strangers(t, n);
        for index in 0..n / 8 {
            let private = end([10, 0, 0, 5], SHARED.port());
            let id = format!("in-turn-{index}");
            let (at, phone) = (at(index, n / 8), end([192, 0, 2, 21], 5060));
            t.sip(
                at,
                phone,
                A,
                request("INVITE", &id).sdp(&Sdp::audio(private)),
            );
            t.sip(at + 1, phone, A, request("CANCEL", &id));
            t.sip(at + 1, A, phone, response(487, "INVITE", &id));
        }
    }),
    ("halves of messages over TCP", |t, n| {
        for index in 0..n {
            let message = request("INVITE", &format!("half-{index}")).bytes();
            let frame = frames::tcp(peer(index, 5060), B, 1, 0x18, &message[..100]);
            t.capture.push(START_NS + at(index, n) * MS, frame);
        }
    }),
    ("messages in a connection", |t, n| {
        let mut sequence = 1;
        for index in 0..n {
            let message = request("OPTIONS", "one").cseq(index as u32).bytes();
            t.capture.push(
                START_NS + at(index, n) * MS,
                frames::tcp(A, B, sequence, 0x18, &message),
            );
            sequence += message.len() as u32;
        }
    }),
    ("descriptions with many media", |t, n| {
        for index in 0..n / 64 {
            let mut sdp = Sdp::audio(end([203, 0, 113, 1], 10_000));
            for media in 0..64 {
                sdp = sdp.line(&format!(
                    "m=audio {} RTP/AVP 0",
                    10_000 + 2 * (index * 64 + media) % 50_000
                ));
            }
            t.sip(
                at(index, n / 64),
                A,
                B,
                request("INVITE", "many").cseq(index as u32 + 1).sdp(&sdp),
            );
        }
    }),
];

/// A normal call without any relation to the others.
fn innocent(t: &mut Ladder) {
    let [caller, callee] = INNOCENT;
    let (a, b) = (
        SocketAddr::new(caller.ip(), 5060),
        SocketAddr::new(callee.ip(), 5060),
    );
    t.sip(
        1_000,
        a,
        b,
        request("INVITE", "innocent").sdp(&Sdp::audio(caller)),
    );
    t.sip(
        1_100,
        b,
        a,
        response(200, "INVITE", "innocent").sdp(&Sdp::audio(callee)),
    );
    t.rtp(1_200, caller, callee, 1, 1..=INNOCENT_PACKETS);
    t.sip(
        5_400,
        a,
        b,
        request("BYE", "innocent").to_tag("bob").cseq(2),
    );
}

/// The cost of extracting a capture.
#[derive(Clone, Copy, Debug)]
struct Cost {
    bytes: usize,
    /// CPU time in user mode, in milliseconds: kernel time depends on the file system.
    cpu_ms: u64,
    /// The peak memory.
    peak_kib: u64,
}

fn cost(mut t: Ladder, what: &str) -> Cost {
    t.sort();
    let capture = t.capture.to_pcap();
    let folder = tempfile::tempdir().unwrap();
    let (input, out, log) = (
        folder.path().join("input.pcap"),
        folder.path().join("out"),
        folder.path().join("log"),
    );
    fs::write(&input, &capture).unwrap();
    let mut command = extractor();
    command
        .arg("--input-file")
        .arg(&input)
        .arg("--output-dir")
        .arg(&out)
        .args(["--threads", "2", "--min-messages", "3"]);
    let mut child = command
        .stderr(fs::File::create(&log).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (cpu_ms, peak_kib) = watch(&mut child);
    let log = fs::read_to_string(&log).unwrap();
    assert!(
        matches!(child.wait().unwrap().code(), Some(0 | 3)),
        "{what}: {log}"
    );
    let calls = fs::read_to_string(out.join("detected_calls.csv")).unwrap();
    let row = calls
        .lines()
        .find(|row| row.starts_with("innocent,"))
        .unwrap_or_else(|| panic!("{what}: the innocent call is gone"));
    assert!(
        row.contains(&format!(",completed,200,3,{INNOCENT_PACKETS},")),
        "{what}: {row}"
    );
    Cost {
        bytes: capture.len(),
        cpu_ms,
        peak_kib,
    }
}

/// Watches a process until it ends. It is a zombie until the caller waits for it, so its final
/// times can be read.
fn watch(child: &mut Child) -> (u64, u64) {
    let of =
        |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
    let mut peak_kib = 0;
    loop {
        let stat = of("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let high = of("status").lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        peak_kib = peak_kib.max(high.unwrap_or(0));
        // The state, and `utime` of proc(5): hundredths of a second.
        if matches!(fields.first(), Some(&"Z") | None) {
            let ticks: u64 = fields
                .get(11)
                .and_then(|ticks| ticks.parse().ok())
                .unwrap_or(0);
            return (ticks * 10, peak_kib);
        }
        thread::sleep(Duration::from_millis(3));
    }
}

fn plain() -> Cost {
    let mut t = Ladder::new();
    innocent(&mut t);
    for stream in 0..100 {
        t.rtp(
            1_000,
            peer(stream, 4000),
            peer(stream, 6000),
            stream as u32,
            1..=600,
        );
    }
    cost(t, "plain traffic")
}

#[test]
fn no_kind_of_capture_costs_the_square() {
    let plain = plain();
    eprintln!("plain traffic: {plain:?}");
    // The kernel counts in hundredths of a second; and other tests run at the same time.
    let ns_a_byte = (plain.cpu_ms * 1_000_000 / plain.bytes as u64).max(2);
    for (what, kind) in KINDS {
        let of = |n| {
            let mut t = Ladder::new();
            innocent(&mut t);
            kind(&mut t, n);
            let (one, other) = (cost(t.clone(), what), cost(t, what));
            if one.cpu_ms < other.cpu_ms {
                one
            } else {
                other
            }
        };
        let (once, twice) = (of(4_000), of(8_000));
        eprintln!("{what}: {once:?}, {twice:?}");
        let most_ms = 300 + twice.bytes as u64 * ns_a_byte * 200 / 1_000_000;
        assert!(
            twice.cpu_ms <= most_ms,
            "{what}: {twice:?} is more than 200 times plain traffic ({plain:?}) a byte"
        );
        assert!(
            twice.cpu_ms <= once.cpu_ms * 3 + 300,
            "{what}: {once:?}, and twice as much {twice:?}"
        );
        let grown_kib = twice.peak_kib.saturating_sub(once.peak_kib);
        let more_bytes = (twice.bytes - once.bytes) as u64;
        assert!(
            grown_kib * 1024 <= more_bytes * 60 + (16 << 20),
            "{what}: {once:?}, and twice as much {twice:?}"
        );
    }
}
