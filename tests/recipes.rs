//! Runs the commands of `docs/recipes.md`, `docs/find.md` and `docs/records.md` unchanged.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use support::{
    capture::gzip,
    ladder::Ladder,
    sip::{Sdp, request, response},
};

/// Writes twenty calls from 1000, 1001 ..., as one capture and as two segments.
fn deliver(folder: &Path) {
    let mut t = Ladder::new();
    let end = |text: String| text.parse().unwrap();
    for call in 0..20_u64 {
        let id = format!("call-{call}");
        let (a, b) = (
            end(format!("192.0.2.1:{}", 4000 + 2 * call)),
            end(format!("192.0.2.2:{}", 6000 + 2 * call)),
        );
        let (alice, bob) = (
            end("192.0.2.1:5060".to_owned()),
            end("192.0.2.2:5060".to_owned()),
        );
        let at = call * 700;
        let invite = String::from_utf8(request("INVITE", &id).sdp(&Sdp::audio(a)).bytes()).unwrap();
        t.udp(
            at,
            alice,
            bob,
            invite
                .replace("sip:alice@", &format!("sip:+{}@", 1000 + call))
                .as_bytes(),
        );
        t.sip(
            at + 100,
            bob,
            alice,
            response(200, "INVITE", &id).sdp(&Sdp::audio(b)),
        );
        // The seventh has no sound; each later call loses more packets.
        for sequence in (0..100).filter(|sequence| call != 7 && sequence % 20 >= call) {
            t.rtp(
                at + 200 + sequence * 20,
                a,
                b,
                call as u32,
                sequence as u16..=sequence as u16,
            );
            t.rtp(
                at + 205 + sequence * 20,
                b,
                a,
                100 + call as u32,
                sequence as u16..=sequence as u16,
            );
        }
        t.sip(
            at + 2_500,
            alice,
            bob,
            request("BYE", &id).to_tag("bob").cseq(2),
        );
    }
    t.sort();
    let capture = t.capture.to_pcap();
    fs::write(folder.join("big.pcap"), &capture).unwrap();
    fs::write(folder.join("big.pcap.gz"), gzip(&capture)).unwrap();
    fs::create_dir(folder.join("spool")).unwrap();
    fs::write(folder.join("spool/whole.pcap"), &capture).unwrap();
    fs::create_dir(folder.join("bin")).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_sip-call-extractor"),
        folder.join("bin/sip-call-extractor"),
    )
    .unwrap();
}

/// Returns the code blocks of a page that are commands.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_recipes_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    deliver(folder.path());
    let page = page("recipes.md");
    let blocks = blocks(&page);
    assert_eq!(blocks.len(), 8, "ten recipes, of which two want root");
    let mut said = Vec::new();
    for block in blocks {
        let commands = block
            .lines()
            .filter(|line| {
                line.starts_with("sip-") || line.contains("| sip-") || line.starts_with("python3")
            })
            .count();
        assert!((1..=2).contains(&commands), "{block}");
        let mut shell = shell(block, folder.path());
        // The AWS SDK must not search for credentials.
        shell
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("TZ", "UTC");
        if block.contains("s3://") && !cfg!(feature = "uploads") {
            continue;
        }
        let output = shell.output().unwrap();
        let log = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let want = if block.contains("# ends with 3") {
            3
        } else {
            0
        };
        assert_eq!(output.status.code(), Some(want), "{block}\n{log}");
        said.push((block, log));
    }
    let rows = |directory: &str| {
        fs::read_to_string(folder.path().join(directory).join("detected_calls.csv"))
            .unwrap()
            .lines()
            .count()
            - 1
    };
    assert_eq!(["calls", "one", "today"].map(rows), [20, 10, 20]);
    // The last eight calls still linger.
    assert_eq!(
        ["from-cron", "sent", "piped", "unpacked", "as-before"].map(rows),
        [12, 20, 20, 20, 20]
    );
    let log = |words: &str| {
        &said
            .iter()
            .find(|(block, _)| block.contains(words))
            .unwrap()
            .1
    };
    let why = log("explain");
    assert!(
        why.contains("192.0.2.1:4014") && why.contains("has no RTP"),
        "{why}"
    );
    assert!(
        log("-o today")
            .lines()
            .any(|line| line.contains("44.44 % lost") && line.contains("call-10")),
        "{}",
        log("-o today")
    );
    assert_eq!(log("-o from-cron"), "");
    assert!(log("-o sent").contains("127.0.0.1"), "{}", log("-o sent"));
}

/// A page of the documents.
fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::read_to_string(docs.join(name)).unwrap()
}

/// The shell that runs a block in a folder, with the programs in its `bin`.
fn shell(block: &str, folder: &Path) -> Command {
    let path = format!(
        "{}:{}",
        folder.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", block])
        .current_dir(folder)
        .env("PATH", path);
    shell
}

/// The standard output of a block that must succeed.
fn said(block: &str, folder: &Path) -> String {
    let output = shell(block, folder).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}\n{log}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the command `duckdb -c` of the Python package, which comes without it.
#[cfg(feature = "parquet")]
fn deliver_duckdb(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let python = crate::duckdb::python();
    let command = folder.join("bin/duckdb");
    let script = format!(
        "#!{}\nimport duckdb, sys\nassert sys.argv[1] == '-c'\nfor row in duckdb.sql(sys.argv[2]).fetchall():\n    print(*row, sep='\\t')\n",
        python.display()
    );
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn calls_are_found() {
    let folder = tempfile::tempdir().unwrap();
    deliver(folder.path());
    let page = page("find.md");
    let blocks = blocks(&page);
    assert_eq!(blocks.len(), 10);
    let said: Vec<String> = blocks
        .into_iter()
        .map(|block| said(block, folder.path()))
        .collect();
    // A line of titles, and one for each call.
    let lines: Vec<usize> = said.iter().map(|list| list.lines().count()).collect();
    assert_eq!(lines, [0, 0, 2, 11, 2, 2, 21, 14, 2, 3], "{said:#?}");
    assert!(said[2].contains("call-7"), "{}", said[2]);
    assert!(folder.path().join("spool/whole.pcap.idx").exists());
    let files = |directory: &str| {
        let names = fs::read_dir(folder.path().join(directory)).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("call_")).count()
    };
    assert_eq!(["one", "two"].map(files), [1, 2]);
}

#[test]
fn records_are_read_with_jq_and_duckdb() {
    let folder = tempfile::tempdir().unwrap();
    deliver(folder.path());
    let page = page("records.md");
    #[cfg(feature = "parquet")]
    deliver_duckdb(folder.path());
    let said: Vec<String> = blocks(&page)
        .into_iter()
        .filter(|block| cfg!(feature = "parquet") || !block.contains("lake"))
        .map(|block| said(block, folder.path()))
        .collect();
    let [failed, worst, ladder, endpoints, of_duckdb @ ..] = &said[..] else {
        panic!("{} recipes", said.len())
    };
    if cfg!(feature = "parquet") {
        let [days, streams] = of_duckdb else {
            panic!("{} recipes for DuckDB", of_duckdb.len())
        };
        assert_eq!(days, "2023-12-01\tcompleted\t20\t48.0\n");
        let streams: Vec<&str> = streams.lines().collect();
        assert_eq!(streams.len(), 3, "{streams:?}");
        assert!(streams[0].starts_with("call-1"), "{streams:?}");
    }
    assert_eq!(failed, "", "no call failed");
    assert_eq!(worst.lines().count(), 5, "{worst}");
    assert!(
        worst.lines().all(|line| line.contains("\tcall-1")),
        "{worst}"
    );
    let ladder: Vec<&str> = ladder.lines().collect();
    assert_eq!(ladder.len(), 3, "{ladder:?}");
    assert!(
        ladder[0].starts_with("14:30:27.023 192.0.2.1:5060 -> 192.0.2.2:5060 INVITE "),
        "{ladder:?}"
    );
    assert_eq!(
        endpoints,
        "caller\tsendrecv\t192.0.2.1:4014\ncallee\tsendrecv\t192.0.2.2:6014\n"
    );
}
