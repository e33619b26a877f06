//! A test's directories: one of segments, one of results, and the extractor between them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::ladder::extractor;

/// Files by name, with their bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

pub const STATE: &str = ".sip-call-extractor.state";

/// A temporary folder, removed when it is dropped.
pub struct Desk {
    folder: TempDir,
    pub segments: PathBuf,
    pub out: PathBuf,
}

/// The outcome of a run.
pub struct Ran {
    /// `None` if a signal ended it.
    pub status: Option<i32>,
    pub log: String,
}

impl Ran {
    #[track_caller]
    pub fn is(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}", self.log);
        self
    }

    #[track_caller]
    pub fn says(&self, words: &str) -> &Self {
        assert!(self.log.contains(words), "no `{words}` in {}", self.log);
        self
    }
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [segments, out] = ["segments", "out"].map(|name| folder.path().join(name));
        fs::create_dir(&segments).unwrap();
        Self {
            folder,
            segments,
            out,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Delivers a closed segment as the agent does.
    pub fn deliver(&self, name: &str, bytes: &[u8]) {
        deliver_to(&self.segments, name, bytes);
    }

    pub fn deliver_all(&self, segments: &[(String, Vec<u8>)]) {
        segments
            .iter()
            .for_each(|(name, bytes)| self.deliver(name, bytes));
    }

    /// Returns the names in the directory of segments, without hidden files.
    pub fn delivered(&self) -> Vec<String> {
        visible(&self.segments).into_keys().collect()
    }

    /// Returns the extractor, set to write here.
    pub fn extractor(&self) -> Command {
        let mut command = extractor();
        command.arg("--output-dir").arg(&self.out);
        command
    }

    /// Returns the extractor, set to read the directory of segments.
    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.extractor();
        command.arg("--input-dir").arg(&self.segments).args(flags);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, flags: &[&str]) -> Ran {
        self.ended(&mut self.command(flags))
    }

    pub fn ended(&self, command: &mut Command) -> Ran {
        ran(&command.output().unwrap())
    }

    /// Starts it in the background.
    pub fn start(&self, flags: &[&str]) -> Running {
        self.start_command(self.command(flags))
    }

    pub fn start_command(&self, mut command: Command) -> Running {
        let log = tempfile::Builder::new()
            .prefix("log")
            .tempfile_in(self.folder())
            .unwrap()
            .keep()
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.0)
            .spawn()
            .unwrap();
        Running { child, log: log.1 }
    }

    pub fn everything_in_out(&self) -> Files {
        if self.out.exists() {
            files(&self.out)
        } else {
            Files::new()
        }
    }

    /// Checks that the results are these, and that there is nothing else but the state.
    #[track_caller]
    pub fn has(&self, want: &Files, what: &str) {
        let mut got = self.everything_in_out();
        got.remove(STATE);
        assert_same(want, &got, what);
    }

    /// Checks that the visible files are a part of the results: complete files, and rows that stay.
    #[track_caller]
    pub fn shows_only(&self, want: &Files, what: &str) {
        if !self.out.exists() {
            return;
        }
        for (name, bytes) in visible(&self.out) {
            let wanted = want
                .get(&name)
                .unwrap_or_else(|| panic!("{what}: {name} is there, and should never be"));
            let is_right = if name.ends_with(".csv") || name.ends_with(".jsonl") {
                wanted.starts_with(&bytes)
            } else {
                *wanted == bytes
            };
            assert!(
                is_right,
                "{what}: {name} is not as it will be: {} bytes of {}",
                bytes.len(),
                wanted.len()
            );
        }
    }
}

/// A running program; it is killed if it still runs at the end of a test.
pub struct Running {
    child: std::process::Child,
    log: PathBuf,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal once the program has its handlers.
    pub fn signal(&self, name: &str) {
        assert!(
            within(Duration::from_secs(20), || self.listens()),
            "it does not listen to signals: {}",
            self.log()
        );
        let sent = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// True if it has a handler for SIGTERM, which is set together with the others.
    fn listens(&self) -> bool {
        const SIGTERM_BIT: u64 = 1 << 14;
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap_or("0");
        u64::from_str_radix(caught.trim(), 16).unwrap() & SIGTERM_BIT != 0
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    pub fn says(&mut self, words: &str) {
        let is_said = within(Duration::from_secs(20), || {
            self.log().contains(words) || !self.is_running()
        });
        assert!(
            is_said && self.log().contains(words),
            "no `{words}` in {}",
            self.log()
        );
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends(mut self) -> Ran {
        let has_ended = within(Duration::from_secs(30), || !self.is_running());
        assert!(has_ended, "it goes on: {}", self.log());
        let status = self.child.wait().unwrap().code();
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        Ran { status, log }
    }

    /// Sends a signal that ends it, and waits.
    #[track_caller]
    pub fn end(self, signal: &str) -> Ran {
        self.signal(signal);
        self.ends()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a file into a directory atomically.
pub fn deliver_to(directory: &Path, name: &str, bytes: &[u8]) {
    let part = directory.join(format!(".{name}.part"));
    fs::write(&part, bytes).unwrap();
    fs::rename(part, directory.join(name)).unwrap();
}

/// Polls a condition, and returns true if it holds within `time`.
pub fn within(time: Duration, is_so: impl FnMut() -> bool) -> bool {
    is_so_by(Instant::now() + time, is_so)
}

fn is_so_by(deadline: Instant, mut is_so: impl FnMut() -> bool) -> bool {
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn ran(output: &Output) -> Ran {
    let log = String::from_utf8(output.stderr.clone()).expect("the log is UTF-8");
    assert!(!log.contains("panicked"), "{log}");
    Ran {
        status: output.status.code(),
        log,
    }
}

/// Reads all files of a directory.
pub fn files(directory: &Path) -> Files {
    let read = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // A file may vanish during the listing.
        fs::read(entry.path()).ok().map(|bytes| (name, bytes))
    };
    fs::read_dir(directory).unwrap().filter_map(read).collect()
}

/// Returns the files that are not hidden.
pub fn visible(directory: &Path) -> Files {
    files(directory)
        .into_iter()
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

/// Compares results, and shows the differences.
#[track_caller]
pub fn assert_same(want: &Files, got: &Files, what: &str) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    if names(want) != names(got) {
        let lacks: Vec<_> = want
            .keys()
            .filter(|name| !got.contains_key(*name))
            .collect();
        let beyond: Vec<_> = got
            .keys()
            .filter(|name| !want.contains_key(*name))
            .collect();
        panic!("{what}: missing {lacks:?}, and in their place {beyond:?}");
    }
    for (name, want) in want {
        let got = &got[name];
        if want != got {
            panic!("{what}: {name} differs: {}", difference(want, got));
        }
    }
}

fn difference(want: &[u8], got: &[u8]) -> String {
    let at = want
        .iter()
        .zip(got)
        .take_while(|(want, got)| want == got)
        .count();
    let lengths = format!(
        "{} bytes wanted, {} found, the same up to {at}",
        want.len(),
        got.len()
    );
    let line_start = want[..at]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    match (std::str::from_utf8(want), std::str::from_utf8(got)) {
        (Ok(_), Ok(_)) => {
            let line = |text: &[u8]| {
                let rest = text.get(line_start..).unwrap_or_default();
                String::from_utf8_lossy(
                    rest.split(|byte| *byte == b'\n').next().unwrap_or_default(),
                )
                .into_owned()
            };
            format!("{lengths}\nwanted {}\nfound  {}", line(want), line(got))
        }
        _ => lengths,
    }
}
