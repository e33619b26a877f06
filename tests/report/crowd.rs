//! Many records, and hostile ones, without captures.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Value, json};
use support::dice::Dice;

fn below(dice: &mut Dice, end: u64) -> u64 {
    dice.below(end as usize) as u64
}

const DAYS: [&str; 4] = ["2026-11-29", "2026-11-30", "2026-12-01", "2026-12-02"];

/// A time of these days, in microseconds since the first.
fn time(us: u64) -> String {
    let (s, us) = (us / 1_000_000, us % 1_000_000);
    let (day, h, m, s) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    let day = DAYS[day as usize % DAYS.len()];
    format!("{day}T{h:02}:{m:02}:{s:02}.{us:06}Z")
}

/// Writes so many records, a second apart.
pub(super) fn write(path: &Path, calls: u64, has_texts: bool) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for number in 0..calls {
        writeln!(file, "{}", record(number, has_texts)).unwrap();
    }
}

/// Writes records of several days, twelve minutes apart.
pub(super) fn write_days(path: &Path, calls: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for number in 0..calls {
        let record = record_at(number, number * 720_000_000, true);
        writeln!(file, "{record}").unwrap();
    }
}

/// A record of a call with messages and two streams, one of so many within a day.
pub(super) fn record(number: u64, has_texts: bool) -> Value {
    record_at(number, number % 86_000 * 1_000_000, has_texts)
}

fn record_at(number: u64, at_us: u64, has_texts: bool) -> Value {
    let mut dice = Dice::new(number);
    let start = at_us + below(&mut dice, 900_000);
    let (from, to) = (
        4_930_000_000 + below(&mut dice, 9_999_999),
        4_940_000_000 + below(&mut dice, 9_999_999),
    );
    let ends = [
        format!("192.0.2.{}", number % 250 + 1),
        "198.51.100.1".to_owned(),
    ];
    let id = format!("{:016x}@{}", below(&mut dice, u64::MAX), ends[0]);
    let lines = [
        (0, 0, "INVITE", "1 INVITE"),
        (20, 1, "100 Trying", "1 INVITE"),
        (900, 1, "180 Ringing", "1 INVITE"),
        (5_000, 1, "200 OK", "1 INVITE"),
        (5_040, 0, "ACK", "1 ACK"),
        (30_000, 0, "INVITE", "2 INVITE"),
        (30_050, 1, "200 OK", "2 INVITE"),
        (30_090, 0, "ACK", "2 ACK"),
        (65_000, 1, "BYE", "1 BYE"),
        (65_020, 0, "200 OK", "1 BYE"),
    ];
    // Records without texts are for crowds, and short.
    let (most_messages, intervals) = if has_texts { (10, 13) } else { (5, 2) };
    let messages: Vec<Value> = lines
        .iter()
        .take(most_messages)
        .map(|(ms, sender, what, cseq)| {
            let line = if what.starts_with(|c: char| c.is_ascii_digit()) {
                format!("SIP/2.0 {what}")
            } else {
                format!("{what} sip:+{to}@pbx.example.com SIP/2.0")
            };
            let (sender, receiver) = (&ends[*sender], &ends[1 - sender]);
            let mut message = json!({
                "timestamp": time(start + ms * 1000), "from": format!("{sender}:5060"),
                "to": format!("{receiver}:5060"), "start_line": line, "cseq": cseq,
                "from_tag": "a", "to_tag": "b", "size_bytes": 700 + below(&mut dice, 90),
            });
            if has_texts {
                message["text"] = text(&line, cseq, &id, [from, to], sender, &mut dice).into();
            }
            message
        })
        .collect();
    let streams = [0, 1].map(|side| stream(number, start, side, intervals, &ends, &mut dice));
    let is_bad = number.is_multiple_of(9);
    json!({
        "schema_version": 1, "call_id": id, "start_timestamp": time(start),
        "start_ns": (1_795_910_400_000_000 + start) * 1000, "end_timestamp": time(start + 65_020_000),
        "end_ns": (1_795_910_400_000_000 + start + 65_020_000) * 1000, "duration_s": 65.02,
        "output_pcap_filename": format!("call_{number:08x}_20261129_000000.pcap"),
        "sip_from": format!("\"Caller {}\" <sip:+{from}@pbx.example.com>;tag=a", number % 700),
        "sip_to": format!("<sip:+{to}@pbx.example.com>"), "source": format!("{}:5060", ends[0]),
        "destination": format!("{}:5060", ends[1]), "source_ip": ends[0], "destination_ip": ends[1],
        "state": if number.is_multiple_of(13) { "failed" } else { "completed" }, "final_status": 200,
        "pdd_ms": 900, "answer_ms": 5000, "talk_s": 60.0, "caller_ua": "Yealink SIP-T46U 108.86.0.20",
        "callee_ua": "Asterisk PBX 20.5.0", "sip_packet_count": 10, "rtp_packet_count": 6000,
        "rtp_stream_count": 2, "codecs": ["PCMA"], "dtmf_count": 0,
        "dtmf_presses": [{"timestamp": time(start + 9_000_000), "ssrc": number * 2, "digit": "5"}],
        "problems": if is_bad { vec!["loss"] } else { vec![] }, "legs": [], "dialogs": [], "legs_omitted": 0,
        "messages": messages, "messages_omitted": 0, "media": [], "media_omitted": 0, "streams": streams,
    })
}

fn text(
    line: &str,
    cseq: &str,
    id: &str,
    [from, to]: [u64; 2],
    sender: &str,
    dice: &mut Dice,
) -> String {
    let mut text = format!(
        "{line}\r\nVia: SIP/2.0/UDP {sender}:5060;branch=z9hG4bK{:016x};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:+{from}@pbx.example.com>;tag=a\r\nTo: <sip:+{to}@pbx.example.com>;tag=b\r\nCall-ID: {id}\r\nCSeq: {cseq}\r\n\
         Contact: <sip:+{from}@{sender}:5060>\r\nAllow: INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, OPTIONS, UPDATE\r\n",
        below(dice, u64::MAX)
    );
    if line.contains("INVITE") || line.ends_with("200 OK") {
        let port = 20_000 + below(dice, 9_000);
        write!(
            text,
            "Content-Type: application/sdp\r\n\r\nv=0\r\no=- {port} 1 IN IP4 {sender}\r\ns=-\r\nc=IN IP4 {sender}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
        )
        .unwrap();
    }
    text
}

fn stream(
    number: u64,
    start: u64,
    side: usize,
    intervals: u64,
    ends: &[String; 2],
    dice: &mut Dice,
) -> Value {
    let first = start + 5_050_000;
    let grid = first / 5_000_000 * 5_000_000;
    let series: Vec<Value> = (0..intervals)
        .map(|place| {
            let lost = if number.is_multiple_of(9) && below(dice, 3) == 0 { below(dice, 20) } else { 0 };
            json!({
                "start_timestamp": time(grid + place * 5_000_000), "length_s": 5.0, "packets": 250 - lost, "lost": lost,
                "jitter_ms": (below(dice, 4000) as f64) / 1000.0, "mos": 4.41 - (lost as f64) * 0.05,
            })
        })
        .collect();
    let lost: u64 = series.iter().map(|one| one["lost"].as_u64().unwrap()).sum();
    json!({
        "ssrc": number * 2 + side as u64, "ssrc_hex": format!("0x{:08x}", number * 2 + side as u64),
        "src_rtp_endpoint": format!("{}:4000", ends[side]), "dst_rtp_endpoint": format!("{}:4000", ends[1 - side]),
        "first_timestamp": time(first), "last_timestamp": time(start + 65_000_000), "payload_type": 8, "codec": "PCMA",
        "clock_rate": 8000, "ptime_ms": 20, "rtp_packet_count": 3250 - lost, "expected_rtp_packets": 3250,
        "lost_packets": lost, "out_of_order_count": 0, "duplicate_count": 0,
        "loss_percent": (lost as f64 / 32.5 * 100.0).round() / 100.0, "max_burst_loss": lost.min(9), "max_delta_ms": 41.2,
        "min_delta_ms": 0.1, "avg_delta_ms": 20.0, "jitter_ms": 2.1, "max_jitter_ms": 4.0, "mean_jitter_ms": 2.0,
        "mos": 4.41 - (lost as f64) * 0.02, "series": series,
        "rtcp_series": (0..intervals).map(|place| json!({
            "start_timestamp": time(grid + place * 5_000_000), "length_s": 5.0,
            "loss_percent": below(dice, 4) as f64 * 0.39, "jitter_ms": below(dice, 4000) as f64 / 1000.0,
            "rtt_ms": 20.0 + below(dice, 2000) as f64 / 100.0,
        })).collect::<Vec<_>>(),
    })
}

/// Records with text in every place that tries to become HTML, script, or another text.
pub(super) fn hostile() -> String {
    let long = "x".repeat(10_000);
    let tries = [
        "<img src=x onerror=\"window.ran=1\">",
        "</script><script>window.ran=1</script>",
        "--></style><svg onload=window.ran=1>",
        "javascript:window.ran=1",
        "\u{202e}gnp.exe\u{2066}\u{200f}",
        "{{7*7}}${window.ran=1}'\"`\u{0}\u{1b}[31m",
        &long,
    ];
    let mut text = String::new();
    for (number, attempt) in (0..).zip(tries) {
        let mut record = record(number, true);
        spoil(&mut record, attempt);
        record["state"] = "completed".into();
        // The first has it where the page expects words of its own, too.
        if number == 0 {
            record["state"] = attempt.into();
            record["problems"] = json!([attempt]);
        }
        writeln!(text, "{record}").unwrap();
    }
    text
}

/// Replaces all text that a phone, or a hostile file, may have written.
fn spoil(value: &mut Value, attempt: &str) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if !name.ends_with("timestamp") {
                    spoil(value, attempt);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| spoil(value, attempt)),
        Value::String(text) => *text = attempt.to_owned(),
        _ => {}
    }
}
