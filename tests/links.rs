//! The extractor follows no symbolic link that an attacker has put into its directories.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use support::{
    desk::{Desk, STATE, files},
    ladder::Ladder,
    media::Rtp,
    sip::{Sdp, request, response},
};

const ALICE: &str = "192.0.2.1:5060";
const BOB: &str = "192.0.2.2:5060";

/// Returns a call in two segments; it ends in the second one.
pub fn segments() -> [(String, Vec<u8>); 2] {
    let [alice, bob] = [ALICE, BOB].map(|end| end.parse().unwrap());
    let media = ["192.0.2.1:10000", "192.0.2.2:20000"].map(|end| end.parse().unwrap());
    let [mut first, mut second] = [Ladder::new(), Ladder::new()];
    first.sip(
        0,
        alice,
        bob,
        request("INVITE", "call-1").sdp(&Sdp::audio(media[0])),
    );
    first.sip(
        100,
        bob,
        alice,
        response(200, "INVITE", "call-1").sdp(&Sdp::audio(media[1])),
    );
    for n in 0..500 {
        first.udp(
            110 + 20 * n,
            media[0],
            media[1],
            &Rtp::new(7, n as u16).bytes(),
        );
    }
    second.sip(20_000, alice, bob, request("BYE", "call-1"));
    second.sip(20_010, bob, alice, response(200, "BYE", "call-1"));
    let named = |second: u8, t: Ladder| {
        (
            format!("edge1_eth0_20231201T1430{second:02}.000000Z_000001.pcap"),
            t.capture.to_pcap(),
        )
    };
    [named(22, first), named(42, second)]
}

/// Returns a desk with both segments, and a file that an attacker wants overwritten.
fn desk() -> (Desk, PathBuf) {
    let desk = Desk::new();
    desk.deliver_all(&segments());
    fs::create_dir(&desk.out).unwrap();
    let victim = desk.folder().join("victim");
    fs::write(&victim, "precious").unwrap();
    (desk, victim)
}

#[track_caller]
fn is_untouched(victim: &Path) {
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_new_file_of_a_run_replaces_a_link_or_another_name() {
    let (plain, _) = desk();
    plain.run(&["--final"]).is(0);
    let call = files(&plain.out)
        .into_keys()
        .find(|name| name.starts_with("call_"))
        .unwrap();
    let second = call.replace(".pcap", "_2.pcap");
    let hidden = [
        format!(".{call}.part"),
        ".detected_calls.csv.0.part".to_owned(),
        format!("{STATE}.new"),
        STATE.to_owned(),
    ];
    for (names, want) in [(vec![call.clone()], &second), (hidden.to_vec(), &call)] {
        let (desk, victim) = desk();
        // The state file is also read, so its link leads to a valid state.
        names.iter().for_each(|name| {
            symlink(
                if name == STATE {
                    Path::new("nothing")
                } else {
                    &victim
                },
                desk.out.join(name),
            )
            .unwrap();
        });
        let ran = desk.run(&["--final"]).is(0);
        is_untouched(&victim);
        assert!(!desk.out.join("nothing").exists());
        assert!(
            fs::symlink_metadata(desk.out.join(want)).is_ok_and(|metadata| metadata.is_file()),
            "{}",
            ran.log
        );
    }
}

#[test]
fn a_continued_file_must_not_have_become_a_link() {
    let (desk, victim) = desk();
    let (last, bytes) = &segments()[1];
    fs::remove_file(desk.segments.join(last)).unwrap();
    desk.run(&[]).is(0);
    let part = files(&desk.out)
        .into_keys()
        .find(|name| name.starts_with(".call_"))
        .unwrap();
    let path = desk.out.join(&part);
    fs::rename(&path, desk.folder().join("kept")).unwrap();
    symlink(&victim, &path).unwrap();
    desk.deliver(last, bytes);
    let ran = desk.run(&["--final"]).is(1);
    ran.says(&part).says("it is a symbolic link, which is not followed; remove it, or name the file that it leads to");
    is_untouched(&victim);
    fs::rename(desk.folder().join("kept"), &path).unwrap();
    desk.run(&["--final"]).is(0);
}

#[test]
fn a_table_that_is_a_link_is_named() {
    for flags in [&[][..], &["--detected-calls-filename", "tables/calls.csv"]] {
        let (desk, victim) = desk();
        fs::create_dir(desk.out.join("tables")).unwrap();
        let name = flags.last().unwrap_or(&"detected_calls.csv");
        // A dangling link would create its target.
        for to in [victim.clone(), desk.folder().join("nothing")] {
            let _ = fs::remove_file(desk.out.join(name));
            symlink(&to, desk.out.join(name)).unwrap();
            let ran = desk.run(&[&["--final"], flags].concat()).is(1);
            ran.says(name)
                .says("it is a symbolic link, which is not followed");
        }
        is_untouched(&victim);
        assert!(!desk.folder().join("nothing").exists());
        fs::remove_file(desk.out.join(name)).unwrap();
        desk.run(&[&["--final"], flags].concat()).is(0);
    }
}

#[test]
fn a_linked_directory_is_the_operators_own() {
    let (desk, _) = desk();
    let [real, inputs] = ["real", "inputs"].map(|name| desk.folder().join(name));
    fs::rename(&desk.out, &real).unwrap();
    symlink(&real, &desk.out).unwrap();
    symlink(&desk.segments, &inputs).unwrap();
    let mut command = desk.extractor();
    desk.ended(command.arg("--input-dir").arg(inputs).args([
        "--final",
        "--after-processing",
        "delete",
    ]))
    .is(0);
    assert_eq!(
        files(&real)
            .keys()
            .filter(|name| name.starts_with("call_"))
            .count(),
        1
    );
    assert!(desk.delivered().is_empty());
}
