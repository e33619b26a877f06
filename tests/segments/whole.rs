//! The results of the whole capture: it contains everything that the other tests rely on.

use support::{
    desk::{Desk, Files, visible},
    dice::Dice,
    ladder::{Extracted, extract_bytes},
};

use super::{
    cuts::results_with_records,
    everything::{Container, Form, Packets},
};
use crate::scenarios::records;

fn extracted(form: Form) -> Extracted {
    let got = extract_bytes(&Packets::everything(form).whole(), &["--json"]);
    assert_eq!(got.status, Some(0), "{}", got.log);
    records::check(&got);
    got
}

#[test]
fn everything_is_in_it() {
    let got = extracted(Form::Micro);
    let states = ["completed", "cancelled", "failed", "timeout", "incomplete"];
    let count = |state: &str| {
        got.calls
            .iter()
            .filter(|row| row.get("state") == state)
            .count()
    };
    assert_eq!(states.map(count), [48, 1, 5, 4, 2], "{:#?}", got.calls);
    let again: Vec<_> = got
        .calls
        .iter()
        .filter(|row| row.get("call_id") == "again")
        .collect();
    let names: Vec<_> = again
        .iter()
        .map(|row| row.get("output_pcap_filename"))
        .collect();
    assert_eq!(names.len(), 3);
    assert!(
        names[0].ends_with("_143022.pcap") && names[1].ends_with("_143022_2.pcap"),
        "{names:?}"
    );
    for (id, sip, rtp) in [
        ("stray", "8", "0"),
        ("ahead", "5", "11"),
        ("begun", "4", "10"),
        ("leg-in", "3", "30"),
        ("leg-out", "3", "30"),
        ("nat", "6", "20"),
        ("tcp", "13", "24"),
        ("websocket", "10", "24"),
        ("fragments", "21", "13"),
        ("fragments-v6", "22", "13"),
        ("tunnel-3", "6", "10"),
        ("hep", "3", "12"),
        ("too-late", "4", "0"),
        ("never-whole", "3", "0"),
        ("long", "8", "130"),
    ] {
        got.call(id)
            .has("sip_packet_count", sip)
            .has("rtp_packet_count", rtp);
    }
    for what in [
        "1   stretches of TCP streams are missing",
        "IP datagrams of which fragments are missing",
        "SIP messages of no call",
        "3   timestamps that the packets after them contradict",
    ] {
        assert!(got.log.contains(what), "{what}: {}", got.log);
    }
    got.call("overlapping-2").has("dtmf", "2");
    got.call("overlapping-3").has("dtmf", "0");
    let long = got
        .streams
        .iter()
        .find(|row| row.get("ssrc_hex") == "0x00000300")
        .unwrap();
    // Four of eighty; 39 units of 8000 Hz; 20 ms without 655 / 65536 s.
    long.has("rtcp_loss_percent", "5.00")
        .has("rtcp_jitter_ms", "4.875")
        .has("rtcp_rtt_ms", "10.01")
        .has("rtcp_mos", "4.3")
        .has("cname", "caller");
    let sum = |column: &str| {
        got.streams
            .iter()
            .map(|row| row.get(column).parse::<u64>().unwrap())
            .sum::<u64>()
    };
    for column in ["lost_packets", "out_of_order_count", "duplicate_count"] {
        assert!(sum(column) > 0, "{column}");
    }
    assert!(got.streams.iter().any(|row| row.get("ptime_ms") == "40"));
}

#[test]
fn with_two_link_types_both_file_formats_occur() {
    let names: Vec<String> = extracted(Form::TwoLinks).files().into_keys().collect();
    let ending = |ending: &str| names.iter().filter(|name| name.ends_with(ending)).count();
    assert_eq!(ending(".pcap") + ending(".pcapng"), 60);
    assert!(ending(".pcap") > 5 && ending(".pcapng") > 20, "{names:?}");
}

#[test]
fn conversations_of_two_and_of_four_legs_occur() {
    let files = results_with_records(&Packets::everything(Form::TwoLinks));
    let of = |kind: &str| files.keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!((of("conversation_"), of("call_")), (3, 60));
    let records = String::from_utf8_lossy(&files["calls.jsonl"]);
    let linked = records.lines().filter(|line| line.contains("\"x-leg\""));
    assert!(linked.count() > 0, "{records}");
}

/// The packet that contradicts a damaged time may be in the next input.
#[test]
fn an_input_may_end_with_a_damaged_time() {
    let packets = Packets::everything(Form::Micro);
    let want: Files = extracted(Form::Micro).files();
    // The times of first packets give the order of inputs.
    let is_in_order = |place: &usize| packets.packets[place + 1].ns > packets.packets[0].ns;
    for place in packets.places_of_damage().into_iter().filter(is_in_order) {
        let desk = Desk::new();
        let mut command = desk.extractor();
        command.arg("--json");
        for (n, stretch) in packets.cut_at(&[place + 1]).into_iter().enumerate() {
            let path = desk.segments.join(format!("{n}.pcap"));
            std::fs::write(&path, packets.file(stretch, Container::Plain)).unwrap();
            command.arg("--input-file").arg(path);
        }
        desk.ended(&mut command).is(0);
        desk.has(&want, &format!("cut behind packet {place}"));
    }
}

/// Files given one by one are one capture, too: the end of an input does not matter to the
/// pipeline.
#[test]
fn inputs_that_are_given_one_by_one_are_one_capture() {
    let mut dice = Dice::new(1);
    for form in [Form::Micro, Form::TwoLinks] {
        let packets = Packets::everything(form);
        let want: Files = extracted(form).files();
        for pieces in [2, 7, 50] {
            let desk = Desk::new();
            let mut command = desk.extractor();
            command.arg("--json");
            for (n, stretch) in packets
                .cut_in_order_of_time(pieces, &mut dice)
                .into_iter()
                .enumerate()
            {
                let path = desk.segments.join(format!("{n}"));
                std::fs::write(&path, packets.file(stretch, *dice.one_of(&Container::ALL)))
                    .unwrap();
                command.arg("--input-file").arg(path);
            }
            let ran = desk.ended(&mut command);
            assert_eq!(ran.status, Some(0), "{}", ran.log);
            desk.has(&want, &format!("{form:?} in {pieces} files"));
            assert_eq!(
                visible(&desk.out).len(),
                desk.everything_in_out().len(),
                "nothing hidden is left"
            );
        }
    }
}
