//! A desk with a store and a proxy in between.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use support::{
    capture::Capture,
    desk::{Desk, Files, Ran, Running, STATE, assert_same, visible},
    ladder::{Ladder, extractor},
    sip::{Sdp, request, response},
};

use super::{
    proxy::Proxy,
    store::{ACCESS_KEY, REGION, SECRET_KEY, Store},
};

pub const URI: &str = "s3://calls/office/";
pub const PREFIX: &str = "office/";
pub const CHECK: &str = ".sip-call-extractor-check";
pub const CALLS: &str = "detected_calls.csv";
pub const STREAMS: &str = "calls_statistics.csv";

/// The expected results of a capture.
pub struct Results {
    /// The files of calls.
    pub calls: Files,
    /// Both tables.
    pub tables: Files,
}

impl Results {
    /// Returns the results of a run that sends nothing, but writes the object URIs.
    pub fn of(capture: &[u8]) -> Self {
        let desk = Desk::new();
        fs::write(desk.segments.join("whole.pcap"), capture).unwrap();
        let mut command = desk.extractor();
        command
            .arg("--input-file")
            .arg(desk.segments.join("whole.pcap"))
            .args(["--s3-uri", URI]);
        desk.ended(&mut command).is(0);
        let (tables, calls) = desk
            .everything_in_out()
            .into_iter()
            .partition(|(name, _)| name.ends_with(".csv"));
        Self { calls, tables }
    }

    /// Returns the results of [`few`].
    pub fn of_few() -> &'static Self {
        static RESULTS: OnceLock<Results> = OnceLock::new();
        RESULTS.get_or_init(|| Self::of(&few().to_pcap()))
    }

    /// Returns the names of the calls' files in the order in which the calls closed.
    pub fn names(&self) -> Vec<String> {
        let mut table = csv::Reader::from_reader(self.tables[CALLS].as_slice());
        let file = table
            .headers()
            .unwrap()
            .iter()
            .position(|column| column == "output_pcap_filename")
            .unwrap();
        table
            .records()
            .map(|row| row.unwrap()[file].to_owned())
            .collect()
    }

    /// Returns all files of a run that keeps the calls' files.
    pub fn all(&self) -> Files {
        self.calls
            .iter()
            .chain(&self.tables)
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    }
}

/// Returns six consecutive calls; when the last one ends, four have been over for long enough to be
/// closed.
pub fn few() -> Capture {
    calls(6)
}

/// Returns `count` calls, each with a second of media.
pub fn calls(count: u16) -> Capture {
    let mut t = Ladder::new();
    let end = |text: &str| text.parse().unwrap();
    let (alice, bob) = (end("192.0.2.1:5060"), end("192.0.2.2:5060"));
    for n in 0..count {
        let at = u64::from(n) * 4_000;
        let media = [
            format!("192.0.2.1:{}", 10_000 + n * 4),
            format!("192.0.2.2:{}", 20_000 + n * 4),
        ];
        let media = [end(&media[0]), end(&media[1])];
        let id = format!("call-{n}");
        t.sip(
            at,
            alice,
            bob,
            request("INVITE", &id).sdp(&Sdp::audio(media[0])),
        );
        t.sip(
            at + 50,
            bob,
            alice,
            response(200, "INVITE", &id).sdp(&Sdp::audio(media[1])),
        );
        t.rtp(at + 60, media[0], media[1], u32::from(n) * 2 + 1, 1..=40);
        t.rtp(at + 61, media[1], media[0], u32::from(n) * 2 + 2, 1..=40);
        t.sip(at + 1_000, alice, bob, request("BYE", &id).cseq(2));
        t.sip(at + 1_010, bob, alice, response(200, "BYE", &id).cseq(2));
    }
    t.sort();
    t.capture
}

/// Returns a capture in `pieces` segments.
pub fn cut(capture: &Capture, pieces: usize) -> Vec<(String, Vec<u8>)> {
    let length = capture.frames.len().div_ceil(pieces);
    let segment = |(number, frames): (usize, &[(u64, Vec<u8>)])| {
        let piece = Capture {
            frames: frames.to_vec(),
            ..Capture::default()
        };
        (format!("{number:03}.pcap"), piece.to_pcap())
    };
    capture
        .frames
        .chunks(length)
        .enumerate()
        .map(segment)
        .collect()
}

/// Calls `each` for all things in parallel: most of the time is waiting.
pub fn all_at_once<T: Send>(things: impl IntoIterator<Item = T>, each: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for thing in things {
            scope.spawn(|| each(thing));
        }
    });
}

pub struct Site {
    pub desk: Desk,
    pub store: Store,
    pub proxy: Proxy,
    home: PathBuf,
}

impl Site {
    /// Creates a site with six calls as input.
    pub fn new() -> Self {
        let store = Store::new();
        let proxy = Proxy::new(store.address);
        Self::of(store, proxy)
    }

    /// Creates a site whose store's address refuses connections.
    pub fn closed() -> Self {
        let store = Store::new();
        let proxy = Proxy::closed(store.address);
        Self::of(store, proxy)
    }

    fn of(store: Store, proxy: Proxy) -> Self {
        let desk = Desk::new();
        let home = desk.folder().join("home");
        fs::create_dir(&home).unwrap();
        let site = Self {
            desk,
            store,
            proxy,
            home,
        };
        site.lay(&few().to_pcap());
        site
    }

    /// Writes the capture that is given as a file.
    pub fn lay(&self, capture: &[u8]) {
        fs::write(self.capture(), capture).unwrap();
    }

    fn capture(&self) -> PathBuf {
        self.desk.folder().join("whole.pcap")
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the program with credentials, in an environment without other sources of them.
    pub fn bare(&self) -> Command {
        let mut command = extractor();
        self.lives_here(&mut command);
        command
    }

    fn lives_here(&self, command: &mut Command) {
        let of_others =
            |name: &str| name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy");
        for name in std::env::vars()
            .map(|(name, _)| name)
            .filter(|name| of_others(name))
        {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", &self.home);
    }

    /// Returns the flags for uploads.
    pub fn flags(&self) -> Vec<String> {
        self.flags_to(URI)
    }

    fn flags_to(&self, uri: &str) -> Vec<String> {
        let url = self.proxy.url();
        [
            "--auto-upload-to-s3",
            "--s3-uri",
            uri,
            "--s3-region",
            REGION,
            "--s3-endpoint-url",
            &url,
            "--s3-path-style",
        ]
        .map(str::to_owned)
        .into()
    }

    /// Returns the program, set to read the file.
    pub fn command(&self, flags: &[&str]) -> Command {
        self.command_to(&self.desk.out, flags)
    }

    /// The same, with other results directory.
    pub fn command_to(&self, out: &Path, flags: &[&str]) -> Command {
        let mut command = self.bare();
        command
            .arg("--input-file")
            .arg(self.capture())
            .arg("--output-dir")
            .arg(out)
            .args(self.flags())
            .args(flags);
        command
    }

    /// Runs over the file, with another destination of objects.
    pub fn run_to(&self, uri: &str) -> Ran {
        let mut command = self.bare();
        command
            .arg("--input-file")
            .arg(self.capture())
            .arg("--output-dir")
            .arg(&self.desk.out)
            .args(self.flags_to(uri));
        self.desk.ended(&mut command)
    }

    pub fn run(&self, flags: &[&str]) -> Ran {
        self.desk.ended(&mut self.command(flags))
    }

    /// Returns the program, set to read the directory of segments.
    pub fn directory_command(&self, flags: &[&str]) -> Command {
        let mut command = self.desk.command(&[]);
        self.lives_here(&mut command);
        command.args(self.flags()).args(flags);
        command
    }

    pub fn run_directory(&self, flags: &[&str]) -> Ran {
        self.desk.ended(&mut self.directory_command(flags))
    }

    pub fn watch(&self, flags: &[&str]) -> Running {
        self.desk
            .start_command(self.directory_command(&[&["--watch"], flags].concat()))
    }

    /// Returns the calls in the store, by file name.
    pub fn stored(&self) -> Files {
        self.store
            .under(PREFIX)
            .into_iter()
            .filter(|(name, _)| name.starts_with("call_"))
            .collect()
    }

    /// Returns the calls in the results directory.
    pub fn local(&self) -> Files {
        let out = &self.desk.out;
        let there = if out.exists() {
            visible(out)
        } else {
            Files::new()
        };
        there
            .into_iter()
            .filter(|(name, _)| name.starts_with("call_"))
            .collect()
    }

    pub fn has_state(&self) -> bool {
        self.desk.out.join(STATE).exists()
    }

    /// Returns how often calls were put with a response of success.
    pub fn puts(&self) -> Vec<(String, usize)> {
        self.proxy
            .puts()
            .into_iter()
            .filter(|(key, _)| key.contains("call_"))
            .collect()
    }

    /// Checks that the store has all calls and only these, and that the directory has the tables
    /// and nothing else but a state.
    #[track_caller]
    pub fn is_done(&self, want: &Results, what: &str) {
        assert_same(
            &want.calls,
            &self.stored(),
            &format!("{what}: in the store"),
        );
        self.desk.has(&want.tables, what);
    }

    /// The same after a run over a file, which leaves no state.
    #[track_caller]
    pub fn is_done_and_forgotten(&self, want: &Results, what: &str) {
        self.is_done(want, what);
        assert!(!self.has_state(), "{what}: the state is left");
        assert_eq!(self.store.broken_off(), 0, "{what}: parts are left");
    }

    /// Checks that all is extracted, and that every call is in the store or here.
    #[track_caller]
    pub fn has_lost_nothing(&self, want: &Results, what: &str) {
        let (local, stored) = (self.local(), self.stored());
        for (name, bytes) in &want.calls {
            let is_safe = [&local, &stored]
                .iter()
                .any(|files| files.get(name) == Some(bytes));
            assert!(is_safe, "{what}: {name} is neither here nor in the store");
        }
        for (name, bytes) in local.iter().chain(&stored) {
            assert!(
                want.calls.get(name) == Some(bytes),
                "{what}: {name} is not as it should be"
            );
        }
        for (name, rows) in &want.tables {
            assert!(
                self.desk.everything_in_out().get(name) == Some(rows),
                "{what}: {name} is not complete"
            );
        }
    }

    /// Checks that all calls are here, as after a run in which no upload succeeded.
    #[track_caller]
    pub fn keeps_all(&self, want: &Results, what: &str) {
        self.desk.has(&want.all(), what);
        assert!(
            self.has_state(),
            "{what}: no state knows what is to be sent"
        );
    }
}

/// True if a request is about a call, and not from a check.
pub fn is_of_a_call(key: &str) -> bool {
    key.contains("call_")
}
