//! baresip calls baresip: another implementation of dialogs, audio and RTCP.

use std::fs;

use support::lab::{Lab, Program, V6};

use super::comparison::check;

const CALLER: usize = 0;
const CALLEE: usize = 1;
const NAMES: [&str; 2] = ["alice", "bob"];

fn phone(lab: &Lab, index: usize, more: &str) -> Program {
    let name = NAMES[index];
    let line = format!("baresip -f {} {more}", lab.folder().join(name).display());
    Program::start(
        lab.phones[index].command(&line),
        &format!("baresip-{name}"),
        lab.folder(),
    )
}

/// Makes a call of some seconds. Returns the number of streams whose reception is reported: the
/// first report comes after five seconds.
pub fn made_and_found(lab: Lab, transport: &str, seconds: u32) -> usize {
    fs::write(lab.folder().join("tone.wav"), tone()).unwrap();
    (0..2).for_each(|index| configure(&lab, index, transport));
    let tap = lab.tap();
    let mut callee = phone(&lab, CALLEE, "");
    callee.says("baresip is ready");
    // baresip hangs up when it ends.
    let mut caller = phone(
        &lab,
        CALLER,
        &format!(
            "-t {seconds} -e /dial\u{a0}sip:bob@{}",
            at_host(&lab, CALLEE)
        ),
    );
    callee.says("terminated (duration");
    assert!(caller.end().success());
    let checked = check(lab, tap, 1);
    assert!(checked.count("rtp") > 200, "more than two seconds each way");
    assert!(checked.count("rtcp") > 0);
    checked.reported
}

#[test]
fn over_udp() {
    let reported = made_and_found(Lab::new(), "udp", 7);
    assert_eq!(reported, 2, "both ends report");
}

#[test]
fn over_tcp() {
    made_and_found(Lab::new(), "tcp", 3);
}

#[test]
fn over_tcp_and_ipv6_with_media_over_ipv4() {
    made_and_found(Lab::new().at(V6), "tcp", 3);
}

/// Writes a configuration without sound cards: a file is played to the peer, and received audio is
/// discarded.
fn configure(lab: &Lab, index: usize, transport: &str) {
    let folder = lab.folder().join(NAMES[index]);
    let host = at_host(lab, index);
    let config = format!(
        "sip_listen {host}:5060\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\n\
         module_tmp account.so\nmodule_app menu.so\naudio_source aufile,{}\naudio_player aubridge,nowhere\n\
         audio_alert aubridge,nowhere\n",
        lab.folder().join("tone.wav").display()
    );
    let user = NAMES[index];
    let account = format!("<sip:{user}@{host};transport={transport}>;regint=0;answermode=auto\n");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config"), config).unwrap();
    fs::write(folder.join("accounts"), account).unwrap();
    fs::write(folder.join("contacts"), "").unwrap();
}

fn at_host(lab: &Lab, index: usize) -> String {
    let address = lab.addresses[index];
    if address.is_ipv6() {
        format!("[{address}]")
    } else {
        address.to_string()
    }
}

/// Returns seven seconds of a tone, 8000 samples of 16 bits per second.
fn tone() -> Vec<u8> {
    let samples: Vec<u8> = (0..56_000)
        .flat_map(|at| (((f64::from(at) * 0.345).sin() * 8000.0) as i16).to_le_bytes())
        .collect();
    let len = samples.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((len + 36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend([16, 0, 0, 0, 1, 0, 1, 0]);
    file.extend(8000u32.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend(len.to_le_bytes());
    file.extend(samples);
    file
}
