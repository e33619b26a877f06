//! What a person types, and what the program says to it.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output, Stdio},
};

use support::{
    desk::{Files, visible},
    ladder::{Ladder, extractor},
    sip::{Sdp, request, response},
};
use tempfile::TempDir;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two calls with media one after the other; of the second, nothing comes back.
fn two_calls() -> Ladder {
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(end);
    for (at, id, port) in [(0, "first", 4000), (10_000, "second", 4010)] {
        let [a_media, b_media] = [a, b].map(|end| SocketAddr::new(end.ip(), port));
        t.sip(at, a, b, request("INVITE", id).sdp(&Sdp::audio(a_media)));
        t.sip(at + 100, b, a, response(200, "INVITE", id).sdp(&Sdp::audio(b_media)));
        t.rtp(at + 200, a_media, b_media, 1, 1..=20);
        if id == "first" {
            t.rtp(at + 210, b_media, a_media, 2, 1..=20);
        }
        t.sip(at + 5_000, a, b, request("BYE", id).cseq(2));
        t.sip(at + 5_010, b, a, response(200, "BYE", id).cseq(2));
    }
    t.sort();
    t
}

/// A folder in which somebody sits at a shell.
struct Shell {
    folder: TempDir,
}

/// What came of a line.
struct Answer {
    status: Option<i32>,
    said: String,
}

impl Shell {
    /// `one.pcap` and `two.pcap` are there, a call in each, and the whole in `spool/`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let whole = two_calls().capture;
        let parts = whole.frames.split_at(whole.frames.len() / 2);
        for (name, frames) in [("one.pcap", parts.0), ("two.pcap", parts.1)] {
            let part = support::capture::Capture { frames: frames.to_vec(), ..whole.clone() };
            fs::write(folder.path().join(name), part.to_pcap()).unwrap();
        }
        fs::create_dir(folder.path().join("spool")).unwrap();
        fs::write(folder.path().join("spool/whole.pcap"), whole.to_pcap()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = extractor();
        let program = command.get_program().to_owned();
        command = Command::new("sh");
        command.arg("-c").arg(format!("exec \"$0\" {line}")).arg(program).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command
    }

    /// What follows the program's name.
    fn types(&self, line: &str) -> Answer {
        answer(&self.command(line).output().unwrap())
    }

    fn results(&self, directory: &str) -> Files {
        visible(&self.path(directory))
    }
}

fn answer(output: &Output) -> Answer {
    let said = String::from_utf8([&output.stderr[..], &output.stdout].concat()).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    Answer { status: output.status.code(), said }
}

impl Answer {
    #[track_caller]
    fn is(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}", self.said);
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(self.said.contains(words), "no `{words}` in {}", self.said);
        self
    }
}

#[test]
fn captures_are_named_as_they_are() {
    let shell = Shell::new();
    shell.types("--input-file one.pcap --input-file two.pcap --output-dir flags").is(0);
    let want = shell.results("flags");
    assert_eq!(want.len(), 4);
    for (number, line) in [
        "one.pcap two.pcap -o OUT",
        "-o OUT *.pcap",
        "-oOUT -i two.pcap one.pcap",
        "-qi one.pcap -o=OUT -- two.pcap",
        "spool/whole.pcap --output-dir OUT",
        "-output-dir OUT -input-file=spool/whole.pcap --debug=false",
        "-o OUT - < spool/whole.pcap",
        "spool --final -o OUT",
        "--final -o OUT spool/",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out-{number}");
        shell.types(&line.replace("OUT", &out)).is(0);
        assert_eq!(shell.results(&out), want, "{line}");
    }
    shell.types("one.pcap").is(0);
    assert!(shell.path("detected_calls.csv").exists(), "the results go to where one is");
    for line in ["-h", "--help", "-help"] {
        shell.types(line).is(0).says("sip-call-extractor [OPTIONS] FILE...");
    }
    shell.types("-V").is(0).says("sip-call-extractor ");
    shell.types("-version").is(0).says("sip-call-extractor ");
}

#[test]
fn captures_that_cannot_be_read_together() {
    let shell = Shell::new();
    shell.types("").is(2).says("no captures: name files");
    shell.types("spool one.pcap").is(2).says("`spool` is a directory, and `one.pcap` is none");
    shell.types("--input-dir spool one.pcap").is(2).says("`one.pcap` is none");
    shell.types("spool -i one.pcap").is(2).says("`spool` is a directory");
    shell.types("nowhere.pcap").is(1).says("nowhere.pcap is not used: ").says("No such file");
    // With `*.pcap` where the results are, the calls' files would be captures, too.
    shell.types("one.pcap two.pcap").is(0);
    let before = shell.results(".");
    shell.types("*.pcap").is(2).says("is a call's file in the output directory").says("--output-dir");
    assert_eq!(shell.results("."), before);
    shell.types("call_*.pcap -o other").is(0);
}

#[test]
fn those_who_know_the_original_program() {
    let shell = Shell::new();
    shell
        .types("--interface eth0 --filter 'udp port 5060' --output-dir x")
        .is(2)
        .says("live capture is sip-capture-agent's")
        .says("sip-capture-agent --interface eth0 --filter 'udp port 5060' --output-dir segments");
    shell.types("-interface any").is(2).says("sip-capture-agent --interface any --output-dir segments");
    shell.types("-filter=udp").is(2).says("--filter udp");
    shell.types("-sip-ports-range 5060-5061 -input-file one.pcap -output-dir a -debug=true").is(0).says("call opened");
    shell.types("--auto-upload-to-s3=false one.pcap -o b").is(0);
    shell.types("--debug=perhaps one.pcap -o c").is(2).says("--debug");
    let truth = shell.types("--auto-upload-to-s3=true one.pcap -o d").is(2);
    #[cfg(feature = "uploads")]
    truth.says("--s3-uri");
    let _ = truth;
    shell.types("-unknown one.pcap").is(2);
    shell.types("one.pcap -output e").is(2).says("--output-dir");
}

#[test]
fn rows_end_as_those_before_them() {
    let shell = Shell::new();
    shell.types("one.pcap -o out").is(0);
    let read = |name: &str| fs::read_to_string(shell.path(name)).unwrap();
    let tables = ["out/detected_calls.csv", "out/calls_statistics.csv"];
    for table in tables {
        assert!(!read(table).contains('\r'), "{}", read(table));
    }
    // Versions before wrote CRLF.
    for table in tables {
        fs::write(shell.path(table), read(table).replace('\n', "\r\n")).unwrap();
    }
    shell.types("two.pcap -o out").is(0);
    for table in tables {
        let text = read(table);
        assert!(text.lines().count() > 2 && text.matches('\n').count() == text.matches("\r\n").count(), "{text:?}");
    }
    let last = Command::new("awk").args(["-F,", "END { print $NF }"]).arg(shell.path("out/detected_calls.csv")).output().unwrap();
    assert_eq!(last.stdout, b"1\r\n");
    fs::remove_dir_all(shell.path("out")).unwrap();
    shell.types("one.pcap two.pcap -o out").is(0);
    let ones = Command::new("grep").args(["-c", ",1$"]).arg(shell.path("out/detected_calls.csv")).output().unwrap();
    assert_eq!(ones.stdout, b"1\n", "what is at the end of a row is found");
}

