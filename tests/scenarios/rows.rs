//! Rows and files of the results.

use super::*;

#[test]
fn the_columns() {
    let out = ladder().extract();
    assert_eq!(
        text(&out, "detected_calls.csv"),
        "call_id,start_timestamp,output_pcap_filename,sip_from,sip_to,s3_location,\
         end_timestamp,duration_s,state,final_status,sip_packet_count,rtp_packet_count,rtp_stream_count,\
         pdd_ms,answer_ms,talk_s,hangup_by,caller_ua,callee_ua,codecs,dtmf,one_way,no_media,reason,source_ip,destination_ip,problems,capture_drops,conversation_id,conversation_links\n"
    );
    assert_eq!(
        text(&out, "calls_statistics.csv"),
        "call_id,start_timestamp,output_pcap_filename,sip_from,sip_to,ssrc_hex,src_rtp_endpoint,dst_rtp_endpoint,\
         rtp_packet_count,expected_rtp_packets,lost_packets,out_of_order_count,duplicate_count,\
         max_delta_ms,min_delta_ms,avg_delta_ms,ptime_ms,s3_location,jitter_ms,max_jitter_ms,mean_jitter_ms,\
         payload_type,codec,clock_rate,loss_percent,max_burst_loss,mos,first_timestamp,last_timestamp,\
         rtcp_loss_percent,rtcp_jitter_ms,rtcp_rtt_ms,rtcp_mos,cname\n"
    );
}

#[test]
fn when_it_began_and_ended() {
    let mut t = ladder();
    t.capture.precision = Precision::Nano;
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    packet(&mut t, 300, A_MEDIA, B_MEDIA, 0x0a1b_2c3d, 1);
    hung_up(&mut t, 61_000, "1");
    t.capture.frames.iter_mut().for_each(|(ns, _)| *ns += 789);
    let out = t.extract();
    let call = out.only_call();
    call.has("start_timestamp", "2023-12-01T14:30:22.123456Z")
        .has("end_timestamp", "2023-12-01T14:31:23.143456Z");
    call.has("duration_s", "61.020000")
        .has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap")
        .has("s3_location", "");
    assert_eq!(
        call.frames(),
        t.capture.frames,
        "nanoseconds are kept in the pcap"
    );
    out.streams[0]
        .has("call_id", "1")
        .has("start_timestamp", "2023-12-01T14:30:22.123456Z")
        .has("ssrc_hex", "0x0a1b2c3d");
    out.streams[0]
        .has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap")
        .has("s3_location", "");
    out.streams[0]
        .has("src_rtp_endpoint", "192.0.2.1:4000")
        .has("dst_rtp_endpoint", "192.0.2.2:6000");
}

#[test]
fn files_are_for_their_owner_and_group() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    let out = t.extract();
    let mode = std::fs::metadata(out.only_call().path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o640);
    let names: Vec<String> = out.files().into_keys().collect();
    assert_eq!(
        names,
        [
            "call_6b86b273_20231201_143022.pcap",
            "calls.jsonl",
            "calls_statistics.csv",
            "detected_calls.csv"
        ]
    );
}

#[test]
fn rows_are_in_the_order_in_which_calls_close() {
    let mut t = ladder();
    for (start, id, bye) in [
        (0, "closes second", 20_000),
        (500, "lingers at the end", 24_000),
        (1_000, "closes first", 5_000),
    ] {
        answered(&mut t, start, id, A_MEDIA, B_MEDIA);
        hung_up(&mut t, bye, id);
    }
    answered(&mut t, 250, "open at the end", A_MEDIA, B_MEDIA);
    answered(&mut t, 750, "also open at the end", A_MEDIA, B_MEDIA);
    meanwhile(&mut t, 26_000);
    let ids = [
        "closes first",
        "closes second",
        "open at the end",
        "lingers at the end",
        "also open at the end",
    ];
    assert_eq!(call_ids(&t.extract()), ids);
}

#[test]
fn rows_of_calls_that_close_at_once_are_by_start_then_call_id() {
    let mut t = ladder();
    for (start, id) in [(0, "b"), (0, "a"), (10, "0")] {
        answered(&mut t, start, id, A_MEDIA, B_MEDIA);
        hung_up(&mut t, 1_000, id);
    }
    meanwhile(&mut t, 20_000);
    assert_eq!(call_ids(&t.extract()), ["a", "b", "0"]);
}

#[test]
fn a_timeout_closes_a_call_when_it_is_over() {
    let mut t = ladder();
    answered(&mut t, 0, "silent until 300.22 s", A_MEDIA, B_MEDIA);
    for (id, bye) in [
        ("lingers until 300.12 s", 295_100),
        ("lingers until 301.02 s", 296_000),
    ] {
        answered(&mut t, 290_000, id, C_MEDIA, RELAY);
        hung_up(&mut t, bye, id);
    }
    meanwhile(&mut t, 400_000);
    assert_eq!(
        call_ids(&t.extract()),
        [
            "lingers until 300.12 s",
            "silent until 300.22 s",
            "lingers until 301.02 s"
        ]
    );
}

#[test]
fn statistics_of_a_call_stand_together_by_first_packet() {
    let mut t = ladder();
    answered(&mut t, 0, "first", A_MEDIA, B_MEDIA);
    answered(&mut t, 10, "second", C_MEDIA, RELAY);
    for (at, ssrc) in [(400, 3), (300, 9)] {
        t.rtp(at, A_MEDIA, B_MEDIA, ssrc, 1..=10);
        t.rtp(at + 5, C_MEDIA, RELAY, ssrc + 1, 1..=10);
    }
    hung_up(&mut t, 1_000, "second");
    hung_up(&mut t, 2_000, "first");
    meanwhile(&mut t, 20_000);
    let out = t.extract();
    let rows: Vec<_> = out
        .streams
        .iter()
        .map(|row| (row.get("call_id"), row.get("ssrc_hex")))
        .collect();
    assert_eq!(
        rows,
        [
            ("second", "0x0000000a"),
            ("second", "0x00000004"),
            ("first", "0x00000009"),
            ("first", "0x00000003")
        ]
    );
}

#[test]
fn values_off_the_wire_are_text() {
    let id = "=1+1,\"x\"\u{1b}[31m";
    let mut message = invite(id);
    message.from =
        "\"Smith, \\\"J\\\"\r\n J\u{f6}rg\u{7}\" <sip:smith@example.com>;tag=alice".to_owned();
    message.to = "@SUM(1+1)*cmd|' /C calc'!A0 <sip:bob@example.com>".to_owned();
    let mut t = ladder();
    t.sip(0, A, B, message);
    answered(&mut t, 10, "neighbour", A_MEDIA, B_MEDIA);
    let out = t.extract();
    assert_eq!(out.calls.len(), 2);
    let call = &out.each_call()[0];
    call.has("call_id", "'=1+1,\"x\"\u{fffd}[31m").has(
        "sip_to",
        "'@SUM(1+1)*cmd|' /C calc'!A0 <sip:bob@example.com>",
    );
    call.has(
        "sip_from",
        "\"Smith, \\\"J\\\" J\u{f6}rg\u{fffd}\" <sip:smith@example.com>;tag=alice",
    );
    let text = text(&out, "detected_calls.csv");
    assert!(
        text.contains("\n\"'=1+1,\"\"x\"\"\u{fffd}[31m\",2023-12-01T14:30:22.123456Z,call_"),
        "{text}"
    );
}

fn text(out: &Extracted, name: &str) -> String {
    String::from_utf8(out.files()[name].clone()).unwrap()
}

fn call_ids(out: &Extracted) -> Vec<&str> {
    out.calls.iter().map(|row| row.get("call_id")).collect()
}
