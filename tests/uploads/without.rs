//! Without uploads, the program opens no network socket and starts no thread for them.

use std::{collections::BTreeSet, fs, process::Command};

use support::faults::{Threads, list};

use super::site::{Site, URI};

/// Returns the names of the program's threads, and the kinds of its sockets.
fn traces(site: &Site, command: &Command) -> BTreeSet<String> {
    let text = list(
        Threads::All,
        command,
        "socket,connect,epoll_create1,eventfd2,prctl",
        site.desk.folder(),
    );
    let what = |line: &str| {
        ["AF_INET", "epoll_create1", "eventfd2", "tokio"]
            .into_iter()
            .find(|what| line.contains(what))
    };
    text.lines().filter_map(what).map(str::to_owned).collect()
}

#[test]
fn a_run_without_uploads_has_no_runtime_and_no_sockets() {
    let site = Site::new();
    for (flags, out) in [(&[][..], "plain"), (&["--s3-uri", URI], "tracked")] {
        let mut command = site.bare();
        command
            .arg("--input-file")
            .arg(site.desk.folder().join("whole.pcap"));
        command
            .arg("--output-dir")
            .arg(site.desk.folder().join(out))
            .args(flags);
        assert_eq!(traces(&site, &command), BTreeSet::new(), "{out}");
    }
    // With uploads the same check finds a socket.
    assert!(traces(&site, &site.command(&[])).contains("AF_INET"));
    assert!(fs::read_dir(&site.desk.out).unwrap().count() > 0);
}
