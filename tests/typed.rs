//! The command line as users type it, and the program's responses.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    process::{Command, Output, Stdio},
    time::Duration,
};

use support::{
    desk::{Files, visible, within},
    ladder::{Ladder, extractor},
    sip::{Sdp, request, response},
};
use tempfile::TempDir;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Draws two consecutive calls with media; the second has media in one direction only.
fn two_calls() -> Ladder {
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(end);
    for (at, id, port) in [(0, "first", 4000), (10_000, "second", 4010)] {
        let [a_media, b_media] = [a, b].map(|end| SocketAddr::new(end.ip(), port));
        t.sip(at, a, b, request("INVITE", id).sdp(&Sdp::audio(a_media)));
        t.sip(
            at + 100,
            b,
            a,
            response(200, "INVITE", id).sdp(&Sdp::audio(b_media)),
        );
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

/// A folder with a shell.
struct Shell {
    folder: TempDir,
}

/// The outcome of a command line.
struct Answer {
    status: Option<i32>,
    said: String,
}

impl Shell {
    /// Writes `one.pcap` and `two.pcap` with a call each, and the whole capture in `spool/`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let whole = two_calls().capture;
        let parts = whole.frames.split_at(whole.frames.len() / 2);
        for (name, frames) in [("one.pcap", parts.0), ("two.pcap", parts.1)] {
            let part = support::capture::Capture {
                frames: frames.to_vec(),
                ..whole.clone()
            };
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
        command
            .arg("-c")
            .arg(format!("exec \"$0\" {line}"))
            .arg(program)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG");
        command
    }

    /// Runs the program with these arguments.
    fn types(&self, line: &str) -> Answer {
        answer(&self.command(line).output().unwrap())
    }

    /// The same at a terminal with `columns` columns.
    fn types_at_terminal(&self, columns: u16, line: &str, environment: &[(&str, &str)]) -> String {
        let program = extractor().get_program().to_owned();
        let mut command = Command::new("script");
        command
            .arg("-qec")
            .arg(format!("stty cols {columns} rows 24; \"$PROGRAM\" {line}"))
            .arg("/dev/null");
        command
            .current_dir(self.folder.path())
            .env("PROGRAM", program)
            .env("TERM", "xterm-256color");
        for name in ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        let output = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn results(&self, directory: &str) -> Files {
        visible(&self.path(directory))
    }
}

fn answer(output: &Output) -> Answer {
    let said = String::from_utf8([&output.stderr[..], &output.stdout].concat()).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    Answer {
        status: output.status.code(),
        said,
    }
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

    #[track_caller]
    fn keeps_to_itself(&self, words: &str) -> &Self {
        assert!(!self.said.contains(words), "`{words}` in {}", self.said);
        self
    }
}

#[test]
fn captures_are_named_as_they_are() {
    let shell = Shell::new();
    shell
        .types("--input-file one.pcap --input-file two.pcap --output-dir flags")
        .is(0);
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
    assert!(
        shell.path("detected_calls.csv").exists(),
        "the results go to where one is"
    );
    for line in ["-h", "--help", "-help"] {
        shell
            .types(line)
            .is(0)
            .says("sip-call-extractor [OPTIONS] FILE...");
    }
    shell.types("-V").is(0).says("sip-call-extractor ");
    shell.types("-version").is(0).says("sip-call-extractor ");
}

#[test]
fn captures_that_cannot_be_read_together() {
    let shell = Shell::new();
    shell.types("").is(2).says("no captures: name files");
    shell
        .types("spool one.pcap")
        .is(2)
        .says("`spool` is a directory, and `one.pcap` is none");
    shell
        .types("--input-dir spool one.pcap")
        .is(2)
        .says("`one.pcap` is none");
    shell
        .types("spool -i one.pcap")
        .is(2)
        .says("`spool` is a directory");
    shell
        .types("nowhere.pcap")
        .is(1)
        .says("nowhere.pcap is not used: ")
        .says("No such file");
    // If the results were here, the calls' files would match `*.pcap`, too.
    shell.types("one.pcap two.pcap").is(0);
    let before = shell.results(".");
    shell
        .types("*.pcap")
        .is(2)
        .says("is a call's file in the output directory")
        .says("--output-dir");
    assert_eq!(shell.results("."), before);
    shell.types("call_*.pcap -o other").is(0);
}

#[test]
fn those_who_know_the_original_program() {
    let shell = Shell::new();
    shell
        .types("--interface eth0 --filter 'udp port 5060' --output-dir x")
        .is(2)
        .says("sip-capture-agent captures live traffic")
        .says("sip-capture-agent --interface eth0 --filter 'udp port 5060' --output-dir segments");
    shell
        .types("-interface any")
        .is(2)
        .says("sip-capture-agent --interface any --output-dir segments");
    shell.types("-filter=udp").is(2).says("--filter udp");
    shell
        .types("-sip-ports-range 5060-5061 -input-file one.pcap -output-dir a -debug=true")
        .is(0)
        .says("call opened");
    shell.types("--auto-upload-to-s3=false one.pcap -o b").is(0);
    shell
        .types("--debug=perhaps one.pcap -o c")
        .is(2)
        .says("--debug");
    let truth = shell.types("--auto-upload-to-s3=true one.pcap -o d").is(2);
    #[cfg(feature = "uploads")]
    truth.says("--s3-uri");
    let _ = truth;
    shell.types("-unknown one.pcap").is(2);
    shell.types("one.pcap -output e").is(2).says("--output-dir");
}

#[test]
fn how_much_is_said() {
    let shell = Shell::new();
    shell
        .types("spool/whole.pcap -o usual")
        .is(0)
        .keeps_to_itself("call opened")
        .says("calls                  2   2 completed\n");
    assert!(
        shell
            .types("spool/whole.pcap -q -o quiet")
            .is(0)
            .said
            .is_empty()
    );
    assert!(
        shell
            .types("spool/whole.pcap -q --log-format json -o json")
            .is(0)
            .said
            .is_empty()
    );
    shell
        .types("-q nowhere.pcap -o failed")
        .is(1)
        .says("nowhere.pcap");
    for flag in ["-v", "--debug", "--verbose", "-vv"] {
        shell
            .types(&format!(
                "spool/whole.pcap {flag} -o {}",
                flag.replace('-', "x")
            ))
            .is(0)
            .says("call opened");
    }
    shell
        .types("-q -v one.pcap")
        .is(2)
        .says("cannot be used with");
    // A service logs each call.
    shell
        .types("spool --final -o service")
        .is(0)
        .says("call opened")
        .says("call closed");
}

#[test]
fn why_is_said_to_those_who_ask() {
    let shell = Shell::new();
    let [a, b, other] = ["192.0.2.1:5060", "192.0.2.2:5060", "192.0.2.9:7000"].map(end);
    let mut t = two_calls();
    t.sip(6_000, a, b, request("REGISTER", "nobody's\u{1b}"));
    t.rtp(6_000, other, end("192.0.2.8:7000"), 9, 1..=30);
    t.sort();
    fs::write(shell.path("why.pcap"), t.capture.to_pcap()).unwrap();
    let verbose = shell.types("-v why.pcap -o verbose").is(0);
    verbose
        .says("message of no call: no INVITE has opened one")
        .says("REGISTER sip:")
        .keeps_to_itself("\u{1b}");
    verbose
        .says("description gives endpoints call_id=first from=192.0.2.1:5060")
        .says("endpoints=\"192.0.2.1:4000, 192.0.2.1:4001 (RTCP, implied)\"");
    verbose.says("RTP of no call: no call that was open at its time gave either endpoint source=192.0.2.9:7000 destination=192.0.2.8:7000");
    verbose.says("no RTP came to an endpoint that a description gives call_id=second endpoint=192.0.2.1:4010");
    verbose.says("no RTP came from an endpoint that a description gives call_id=second endpoint=192.0.2.2:4010");
    verbose.keeps_to_itself("description gives call_id=first endpoint");
    let usual = shell.types("why.pcap -o usual").is(0);
    usual
        .keeps_to_itself("RTP of no call")
        .keeps_to_itself("description");
    assert_eq!(shell.results("usual"), shell.results("verbose"));
}

#[test]
fn a_terminal_is_as_wide_as_it_is() {
    let shell = Shell::new();
    let mut t = two_calls();
    // Timestamps go back by more than an hour: that message is long.
    t.capture.frames[4].0 += 7_200_000 * support::MS;
    fs::write(shell.path("odd.pcap"), t.capture.to_pcap()).unwrap();
    for columns in [60, 80, 132] {
        let shown = shell.types_at_terminal(columns, &format!("odd.pcap -o out-{columns}"), &[]);
        assert!(
            shown.contains("calls") && shown.contains("contradict"),
            "{shown}"
        );
        for line in shown.split(['\r', '\n']) {
            let text = console::strip_ansi_codes(line);
            let text = text.trim_end();
            assert!(
                text.chars().count() <= columns.into(),
                "{} columns at a terminal of {columns}: {text}",
                text.chars().count()
            );
        }
        assert!(shown.contains('%'), "there is a bar: {shown}");
    }
    assert_eq!(shell.results("out-60"), shell.results("out-132"));
}

#[test]
fn colours_are_for_those_who_want_them() {
    let shell = Shell::new();
    let shows = |name: &str, environment: &[(&str, &str)]| {
        let shown = shell.types_at_terminal(80, &format!("-v one.pcap -o {name}"), environment);
        assert!(shown.contains("call opened"), "{shown}");
        shown
    };
    let is_coloured = |shown: &str| shown.contains("\u{1b}[32m") || shown.contains("\u{1b}[34m");
    assert!(is_coloured(&shows("plain", &[])));
    assert!(!is_coloured(&shows("no-color", &[("NO_COLOR", "1")])));
    assert!(!is_coloured(&shows("clicolor", &[("CLICOLOR", "0")])));
    let dumb = shows("dumb", &[("TERM", "dumb")]);
    assert!(
        !dumb.contains('\u{1b}') && !dumb.contains('%'),
        "neither colours nor a bar: {dumb}"
    );
}

#[test]
fn ctrl_c_loses_nothing_and_says_so() {
    let shell = Shell::new();
    let begin = || {
        // Tests that run in the background ignore the signal, and so would the program.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(extractor().get_program())
            .args(["-", "-o", "out"])
            .current_dir(shell.folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = begin();
    let whole = fs::read(shell.path("spool/whole.pcap")).unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&whole[..1_000])
        .unwrap();
    assert!(within(Duration::from_secs(20), || catches(child.id(), 2)));
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&output.status),
        Some(2),
        "{said}"
    );
    assert!(
        said.contains("stopped; the same command goes on from here"),
        "{said}"
    );
    let mut child = begin();
    child.stdin.take().unwrap().write_all(&whole).unwrap();
    assert!(child.wait().unwrap().success());
    // A process that ignores the signal, as background jobs of scripts do, goes on.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' INT; exec \"$0\" - -o ignored"])
        .arg(extractor().get_program());
    let mut child = command
        .current_dir(shell.folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&whole[..1_000])
        .unwrap();
    assert!(within(Duration::from_secs(20), || shell
        .path("ignored")
        .exists()));
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&whole[1_000..])
        .unwrap();
    assert!(child.wait().unwrap().success());
    shell.types("spool/whole.pcap -o want").is(0);
    assert_eq!(shell.results("out"), shell.results("want"));
}

/// True if a process has a handler for a signal.
fn catches(process: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
}

#[test]
fn rows_end_as_those_before_them() {
    let shell = Shell::new();
    shell.types("one.pcap -o out --columns classic").is(0);
    let read = |name: &str| fs::read_to_string(shell.path(name)).unwrap();
    let tables = ["out/detected_calls.csv", "out/calls_statistics.csv"];
    for table in tables {
        assert!(!read(table).contains('\r'), "{}", read(table));
    }
    // Older versions wrote CRLF.
    for table in tables {
        fs::write(shell.path(table), read(table).replace('\n', "\r\n")).unwrap();
    }
    shell.types("two.pcap -o out --columns classic").is(0);
    for table in tables {
        let text = read(table);
        assert!(
            text.lines().count() > 2 && text.matches('\n').count() == text.matches("\r\n").count(),
            "{text:?}"
        );
    }
    let last = Command::new("awk")
        .args(["-F,", "END { print $NF }"])
        .arg(shell.path("out/detected_calls.csv"))
        .output()
        .unwrap();
    assert_eq!(last.stdout, b"1\r\n", "one stream");
    fs::remove_dir_all(shell.path("out")).unwrap();
    shell
        .types("one.pcap two.pcap -o out --columns classic")
        .is(0);
    let ones = Command::new("grep")
        .args(["-c", ",1$"])
        .arg(shell.path("out/detected_calls.csv"))
        .output()
        .unwrap();
    assert_eq!(ones.stdout, b"1\n", "what is at the end of a row is found");
}

#[test]
fn calls_of_a_number() {
    let shell = Shell::new();
    let mut t = two_calls();
    for (at, from, to) in [
        (
            20_000,
            "\"+49 30\" <sip:+49(30)123-4@pbx>;tag=1",
            "<sip:0044-20-555@pbx>",
        ),
        (21_000, "<sip:alice@pbx>", "<tel:4930999>"),
    ] {
        let mut invite = request("INVITE", &format!("number-{at}"));
        (invite.from, invite.to) = (from.to_owned(), to.to_owned());
        t.sip(at, end("192.0.2.1:5060"), end("192.0.2.2:5060"), invite);
    }
    t.sort();
    fs::write(shell.path("numbers.pcap"), t.capture.to_pcap()).unwrap();
    for (number, (flags, want)) in [
        ("--number 49301234", &["number-20000"][..]),
        ("--number ^4420555$", &["number-20000"]),
        ("--number ^4930", &["number-20000", "number-21000"]),
        ("--number ^4930 --from alice", &["number-21000"]),
        (
            "--number ^44 --number 999$",
            &["number-20000", "number-21000"],
        ),
        ("--number alice", &[]),
        ("--number 0044", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        shell
            .types(&format!("numbers.pcap -o {number} {flags}"))
            .is(0);
        let table =
            fs::read_to_string(shell.path(&format!("{number}/detected_calls.csv"))).unwrap();
        let ids: Vec<&str> = table
            .lines()
            .skip(1)
            .map(|row| row.split(',').next().unwrap())
            .collect();
        assert_eq!(ids, want, "{flags}");
    }
    for flag in [
        "--from",
        "--to",
        "--call-id",
        "--no-rtp-dump-for-from-pattern",
    ] {
        shell
            .types(&format!("one.pcap {flag} +4930"))
            .is(2)
            .says(r"write '\+4930'");
    }
    shell
        .types("one.pcap --number +4930")
        .is(2)
        .says("numbers stand without their plus sign; write '^4930'");
    shell
        .types(r"one.pcap --number '^\+4930'")
        .is(2)
        .says("write '^4930'");
}

#[test]
fn times_as_people_write_them() {
    let shell = Shell::new();
    let calls = |name: &str, line: &str| {
        let answer = answer(
            &shell
                .command(&format!("spool/whole.pcap -o {name} {line}"))
                .env("TZ", "CET-1")
                .output()
                .unwrap(),
        )
        .is(0);
        let table = fs::read_to_string(shell.path(&format!("{name}/detected_calls.csv"))).unwrap();
        (table.lines().count() - 1, answer)
    };
    // The calls begin at 14:30:22 and 14:30:32, UTC, and last five seconds.
    let (count, answer) = calls("a", "--since '2023-12-01 15:30:30'");
    assert_eq!(count, 1);
    answer.says("--since 2023-12-01 15:30:30 is taken as 2023-12-01 15:30:30 +01:00, local time (2023-12-01T14:30:30Z)");
    let (count, answer) = calls("b", "--since '2023-12-01 14:30:30Z'");
    assert_eq!(count, 1);
    answer.keeps_to_itself("taken as");
    assert_eq!(
        calls("c", "--since 2023-12-01 --until 2023-12-01").0,
        2,
        "a day is all of it"
    );
    assert_eq!(calls("d", "--since -2h").0, 0);
    assert_eq!(calls("e", "--since=-1d").0, 0);
    assert_eq!(calls("f", "--until yesterday").0, 2);
    assert_eq!(calls("g", "--until -2h --since 2023-12-01").0, 2);
    calls("h", "--since today")
        .1
        .says("--since today is taken as ");
    shell
        .types("one.pcap --since soon")
        .is(2)
        .says("`soon` is no time")
        .says("2024-03-01T09:00:00Z");
}

#[test]
fn a_second_run_says_what_it_appends_to() {
    let shell = Shell::new();
    let rows = |name: &str| {
        fs::read_to_string(shell.path(name))
            .unwrap()
            .lines()
            .count()
            - 1
    };
    shell
        .types("one.pcap -o out")
        .is(0)
        .keeps_to_itself("appending");
    shell
        .types("one.pcap -o out")
        .is(0)
        .says("rows are appended to out/detected_calls.csv, which has 1 rows")
        .says("--overwrite");
    assert_eq!(
        (
            rows("out/detected_calls.csv"),
            rows("out/calls_statistics.csv")
        ),
        (2, 4)
    );
    // Runs over a directory from cron append to their table.
    shell.types("spool -o service").is(0);
    shell
        .types("spool -o service")
        .is(0)
        .keeps_to_itself("appending");
}

#[test]
fn to_overwrite_is_to_replace_rows_too() {
    let shell = Shell::new();
    let whole = "spool/whole.pcap -o out --overwrite";
    shell.types(whole).is(0);
    let want = shell.results("out");
    shell
        .types(whole)
        .is(0)
        .says("rows of calls that come again are replaced");
    assert_eq!(
        shell.results("out"),
        want,
        "the same command gives the same"
    );
    // Rows of other captures stay.
    shell.types("one.pcap -o out --overwrite").is(0);
    let table =
        |out: &str| fs::read_to_string(shell.path(&format!("{out}/detected_calls.csv"))).unwrap();
    let ids = |out: &str| {
        table(out)
            .lines()
            .skip(1)
            .map(|row| row.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("out"), ["second", "first"]);
    let first = shell.path("out/calls_statistics.csv");
    assert_eq!(
        fs::read_to_string(&first)
            .unwrap()
            .matches("\nfirst,")
            .count(),
        2
    );
    // A call without streams in the new run has no stream rows any more; tables keep their line
    // ends and modes.
    let crlf = |name: &str| {
        fs::write(
            shell.path(name),
            fs::read_to_string(shell.path(name))
                .unwrap()
                .replace('\n', "\r\n"),
        )
        .unwrap();
    };
    crlf("out/detected_calls.csv");
    crlf("out/calls_statistics.csv");
    let mut silent = two_calls();
    silent.capture.frames.retain(|(_, frame)| {
        frame.len() > 300 || frame[42..].starts_with(b"BYE") || frame[42..].starts_with(b"SIP")
    });
    fs::write(shell.path("silent.pcap"), silent.capture.to_pcap()).unwrap();
    shell.types("silent.pcap -o out --overwrite").is(0);
    assert_eq!(ids("out"), ["first", "second"]);
    assert_eq!(fs::read_to_string(&first).unwrap().lines().count(), 1);
    assert_eq!(table("out").matches("\r\n").count(), 3);
    // A table in another directory is overwritten, too.
    shell
        .types("one.pcap -o out --overwrite --detected-calls-filename ../calls.csv")
        .is(0);
    shell
        .types("one.pcap -o out --overwrite --detected-calls-filename ../calls.csv")
        .is(0);
    assert_eq!(
        fs::read_to_string(shell.path("calls.csv"))
            .unwrap()
            .lines()
            .count(),
        2
    );
}

/// A run that replaces rows is killed at any write; the next run completes as if nothing had
/// happened.
#[test]
fn rows_are_replaced_once_whatever_is_killed() {
    let shell = Shell::new();
    let segments = |out: &str| {
        format!("spool -o {out} --final --overwrite --unit-bytes 2000 --window-bytes 1000")
    };
    shell.types(&segments("want")).is(0);
    shell
        .types(&format!("{} --reset-state", segments("want")))
        .is(0);
    let want = shell.results("want");
    assert_eq!(
        String::from_utf8_lossy(&want["detected_calls.csv"])
            .lines()
            .count(),
        3
    );
    for calls in 1..40 {
        let out = format!("out-{calls}");
        shell.types(&segments(&out)).is(0);
        // strace kills the program at the given call among those that change something.
        let script = format!(
            "strace -f -qq -o /dev/null -e trace=rename,renameat,renameat2,unlink,unlinkat,ftruncate \
             -e inject=rename,renameat,renameat2,unlink,unlinkat,ftruncate:signal=SIGKILL:when={calls} \"$0\" {} --reset-state",
            segments(&out)
        );
        let program = extractor().get_program().to_owned();
        let status = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(program)
            .current_dir(shell.folder.path())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let is_done = status.success();
        shell.types(&segments(&out)).is(0);
        assert_eq!(shell.results(&out), want, "killed at call {calls}");
        let left = fs::read_dir(shell.path(&out))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != support::desk::STATE);
        assert_eq!(
            left.count(),
            want.len(),
            "nothing hidden is left, killed at call {calls}"
        );
        if is_done {
            assert!(calls > 5, "it was killed");
            return;
        }
    }
}

/// Scanners and floods have no files, but rows: they are found again all the same.
#[test]
fn the_same_command_gives_the_same_tables() {
    let shell = Shell::new();
    let mut t = two_calls();
    let [a, b] = ["192.0.2.9:5060", "192.0.2.2:5060"].map(end);
    for (n, at) in (20_000..).step_by(10).take(40).enumerate() {
        t.sip(at, a, b, request("INVITE", &format!("flood{n}")));
    }
    t.sort();
    let capture = t.capture.to_pcap();
    fs::write(shell.path("scan.pcap"), &capture).unwrap();
    fs::create_dir(shell.path("scans")).unwrap();
    fs::write(shell.path("scans/scan.pcap"), &capture).unwrap();
    fs::copy(shell.path("spool/whole.pcap"), shell.path("before.pcap")).unwrap();
    let small = "--unit-bytes 2000 --window-bytes 1000";
    for (n, what) in [
        "scan.pcap --min-messages 3 --max-open-calls 10".to_owned(),
        format!("scan.pcap --min-messages 9 {small}"),
        format!("scan.pcap --max-open-calls 5 {small}"),
        "scans --final --reset-state --min-messages 3 --max-open-calls 10".to_owned(),
        format!("scans --final --reset-state --min-messages 3 {small}"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("{what} -o out{n} --overwrite");
        shell.types(&line).is(0);
        let want = shell.results(&format!("out{n}"));
        let table = String::from_utf8_lossy(&want["detected_calls.csv"]).into_owned();
        assert_eq!(table.lines().count(), 43, "{line}");
        assert!(table.matches(".pcap,").count() < 10, "{line}: {table}");
        for _ in 0..2 {
            shell.types(&line).is(0);
            assert_eq!(shell.results(&format!("out{n}")), want, "{line}");
        }
    }
    // A call that had a file, and has none now, has one row.
    shell.types("before.pcap -o changed --overwrite").is(0);
    let scanned = "before.pcap -o changed --overwrite --min-messages 9";
    shell.types(scanned).is(0);
    let table = fs::read_to_string(shell.path("changed/detected_calls.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
}

/// Calls of one Call-ID and one time are as many as there are, however they are cut.
#[test]
fn calls_that_nothing_tells_apart_are_not_replaced_by_each_other() {
    let shell = Shell::new();
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.9:5060", "192.0.2.2:5060"].map(end);
    for at in [0, 60_000, 120_000] {
        t.sip(at, a, b, request("INVITE", "again"));
        t.sip(at + 10, b, a, response(404, "INVITE", "again"));
        t.rtp(at + 30_000, a, b, 1, 1..=1);
    }
    // Only what comes between them shows that time goes on.
    let mut capture = t.capture.clone();
    let begin = capture.frames[0].0;
    for place in [3, 6] {
        capture.frames[place].0 = begin;
    }
    fs::write(shell.path("same.pcap"), capture.to_pcap()).unwrap();
    let line = |out: &str| format!("same.pcap -o {out} --overwrite --min-messages 9");
    shell.types(&line("whole")).is(0);
    let small = format!("{} --unit-bytes 1 --window-bytes 1", line("cut"));
    shell.types(&small).is(0);
    let want = shell.results("whole");
    let table = String::from_utf8_lossy(&want["detected_calls.csv"]);
    assert_eq!(
        table.matches("again,2023-12-01T14:30:22.123456Z,,").count(),
        3,
        "{table}"
    );
    assert_eq!(shell.results("cut"), want);
    shell.types(&small).is(0);
    assert_eq!(shell.results("cut"), want);
}

/// Words for a time mean another one at each run: a run that was stopped goes on with the one that
/// it began with, and cron's window moves.
#[test]
fn words_for_times_do_not_keep_a_run_from_going_on() {
    let shell = Shell::new();
    // Killed at a rename, it has a state and is not done.
    let day = "spool/whole.pcap -o out --since -90000h --unit-bytes 1 --window-bytes 1000";
    let script = format!(
        "strace -f -qq -o /dev/null -e trace=rename,renameat,renameat2 \
         -e inject=rename,renameat,renameat2:signal=SIGKILL:when=3 \"$0\" {day}"
    );
    let program = extractor().get_program().to_owned();
    let status = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(program)
        .current_dir(shell.folder.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    assert!(shell.path("out").join(support::desk::STATE).exists());
    shell
        .types(&day.replace("-90000h", "-80000h"))
        .is(1)
        .says("written with --since -90000h, and this run has --since -80000h");
    shell
        .types(day)
        .is(0)
        .says("--since -90000h keeps its meaning from the start of the interrupted run: 20");
    shell
        .types("spool/whole.pcap -o want --since 2001-01-01")
        .is(0);
    assert_eq!(shell.results("out"), shell.results("want"));

    // Cron: calls are open, and the next run has another moment.
    let cron = "spool -o cron --since -90000h --until -1h";
    shell.types(cron).is(0).says("--since -90000h is taken as");
    fs::copy(shell.path("one.pcap"), shell.path("spool/later.pcap")).unwrap();
    shell.types(cron).is(0).keeps_to_itself("keeps its meaning");
    shell.types(&format!("{cron} --final")).is(0);
    let table = fs::read_to_string(shell.path("cron/detected_calls.csv")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn standard_input_is_called_so() {
    let shell = Shell::new();
    shell
        .types("- -o out < /dev/null")
        .is(1)
        .says("standard input is not used: ")
        .keeps_to_itself("- is not used");
}
