//! The command line.

mod calls;
mod operands;
mod times;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind, value_parser};
use nix::unistd::gethostname;
use shared::{
    config_file,
    log::LogFormat,
    s3_uri::S3Uri,
    units::{ByteSize, GoDuration, SipPorts},
};

use self::calls::CallArguments;
use crate::{
    calls::Rules,
    config::{Config, Directories, Source, UnitLen},
    outputs::{
        Settings, is_of_a_call,
        uploads::{self, Class, Cleanup, Encryption, Tags},
    },
    packet::{Decoder, HepPorts},
    progress::Verbosity,
    segments::{AfterProcessing, whole_path},
    windows::Sizes,
};

/// Extracts every SIP call of a capture: one pcap per call with its signalling and media,
/// `detected_calls.csv` with a row per call, `calls_statistics.csv` with a row per RTP stream.
///
/// FILE is a capture; several are one capture, in the order of their first packets. DIR is a
/// directory with segments: see --input-dir.
///
/// Exit status: 0 all done; 1 failed; 2 wrong usage; 3 done, but something of the input or of the
/// uploads was left behind (the log and the closing summary say what).
#[derive(Debug, Parser)]
#[command(name = "sip-call-extractor", version, max_term_width = 100)]
#[command(
    override_usage = "sip-call-extractor [OPTIONS] FILE...\n       sip-call-extractor [OPTIONS] DIR..."
)]
#[command(group(ArgGroup::new("captures").args(["input_file", "input_dir"])))]
pub struct Arguments {
    /// Capture to read (pcap or pcapng, also compressed with gzip or zstd; `-` is standard input).
    /// May be repeated: the files are then one capture, in the order of their first packets.
    /// The same as to name it without a flag.
    #[arg(long, short, value_name = "FILE")]
    input_file: Vec<PathBuf>,

    /// Directory with segments to read: all closed ones that were not read before, in capture
    /// order. Calls that are open at the end go on in the next run. May be repeated, once for each
    /// capture point: their packets are merged by time. The same as to name it without a flag.
    #[arg(long, value_name = "DIR")]
    input_dir: Vec<PathBuf>,

    /// Stay, and read each segment when it is closed, until SIGTERM or SIGINT.
    #[arg(long, requires = "input_dir", conflicts_with_all = ["close_all", "input_file"])]
    watch: bool,

    /// Close the calls that are open at the end instead of carrying them over to the next run.
    #[arg(
        long = "final",
        id = "close_all",
        requires = "input_dir",
        conflicts_with = "input_file"
    )]
    close_all: bool,

    /// What becomes of a segment whose results are durable: keep, delete or move:DIR.
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "keep",
        requires = "input_dir",
        conflicts_with = "input_file"
    )]
    after_processing: AfterProcessing,

    /// Leave out a packet that is the same, from its IP header on, as one at most 50 ms before it.
    #[arg(long, requires = "input_dir", conflicts_with = "input_file")]
    dedup: bool,

    /// With --watch and several --input-dir: how long a capture point may deliver nothing before
    /// the others are not held back for it any more.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m0s",
        requires = "input_dir",
        conflicts_with = "input_file"
    )]
    source_timeout: GoDuration,

    /// Do not wait for the disk: for scratch work. What is killed can be gone on with all the same,
    /// but not what a loss of power broke off.
    #[arg(long)]
    no_sync: bool,

    /// Forget what runs before left: open calls are given up, segments that are there are read
    /// again, finished calls are not touched.
    #[arg(long)]
    reset_state: bool,

    /// Try segments again that were set aside because they could not be read.
    #[arg(long, requires = "input_dir", conflicts_with = "input_file")]
    retry_failed: bool,

    /// How large a capture may be when it is decompressed, such as 20GiB. If nothing is said: as
    /// large as there is room for in the output directory, with some left for results.
    #[arg(long, value_name = "SIZE")]
    max_decompressed: Option<ByteSize>,

    /// Ports on which SIP is looked for: START-END, one port, or `any` to find SIP by its content
    /// on every port.
    #[arg(long, value_name = "START-END", default_value = "any")]
    sip_ports_range: SipPorts,

    /// Ports to which agents send HEP (Homer), separated by commas; `any` for all. On others it is
    /// left alone.
    #[arg(long, value_name = "LIST", default_value = "9060,9061")]
    hep_ports: HepPorts,

    /// Numbers of the ERSPAN sessions that are wanted, separated by commas; all if there are none.
    /// May be repeated. Frames that ERSPAN did not bring are always read.
    #[arg(long, value_name = "LIST")]
    erspan_span_ids: Vec<Numbers<1023>>,

    /// Numbers of the VLANs that are wanted out of ERSPAN, likewise.
    #[arg(long, value_name = "LIST")]
    erspan_vlans: Vec<Numbers<4095>>,

    /// Directory for the results; it is made if it is not there.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,

    /// How long a call may be silent, SIP and media, before it is given up; 0 for any time.
    #[arg(long, value_name = "DURATION", default_value = "5m0s")]
    call_timeout: GoDuration,

    /// How long after its BYE, CANCEL or refusal what still arrives belongs to a call.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    linger: GoDuration,

    /// How far before the SDP that names its endpoint media is taken.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    media_lookback: GoDuration,

    /// How many calls may be open at once. Beyond that, the oldest call that nobody has answered
    /// closes as a flood: it keeps its row and gets no file.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_open_calls: u64,

    /// Name of the file with a row per call.
    #[arg(long, value_name = "NAME", default_value = "detected_calls.csv")]
    detected_calls_filename: PathBuf,

    /// Name of the file with a row per RTP stream.
    #[arg(long, value_name = "NAME", default_value = "calls_statistics.csv")]
    stats_filename: PathBuf,

    /// Replace calls' files that are there already instead of choosing another name.
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    calls: CallArguments,

    /// Upload each call's file to where --s3-uri says.
    #[arg(long, requires = "s3_uri")]
    auto_upload_to_s3: bool,

    /// Where the calls' files go: s3://bucket/prefix/, in which {hostname} is the short name of
    /// this host. Without --auto-upload-to-s3, it only fills the column s3_location.
    #[arg(long, value_name = "URI")]
    s3_uri: Option<S3Uri>,

    /// The region of the bucket; without it, that of AWS_REGION, or of the profile.
    #[arg(long, value_name = "REGION", value_parser = region)]
    s3_region: Option<String>,

    /// A store other than that of the region, such as http://127.0.0.1:9000.
    #[arg(long, value_name = "URL", requires = "s3_uri", value_parser = url)]
    s3_endpoint_url: Option<String>,

    /// Name the bucket in the path, not in the host's name: many stores other than AWS want that.
    #[arg(long, requires = "s3_uri")]
    s3_path_style: bool,

    /// Storage class of the objects, such as STANDARD_IA.
    #[arg(long, value_name = "CLASS", requires = "s3_uri")]
    s3_storage_class: Option<Class>,

    /// How the store encrypts the objects: AES256, aws:kms, or aws:kms:KEY.
    #[arg(long, value_name = "HOW", requires = "s3_uri")]
    s3_sse: Option<Encryption>,

    /// Tags of the objects: KEY=VALUE, several separated by commas.
    #[arg(
        long,
        value_name = "TAGS",
        default_value = "",
        hide_default_value = true,
        requires = "s3_uri"
    )]
    s3_tags: Tags,

    /// How many requests to the store are under way at once, at most.
    #[arg(long, value_name = "N", default_value = "8", requires = "s3_uri", value_parser = value_parser!(u16).range(1..=256))]
    s3_concurrency: u16,

    /// Upload both CSV files when a run ends, under the same prefix, named by the time at which the
    /// run began.
    #[arg(long, requires = "auto_upload_to_s3")]
    s3_upload_csv: bool,

    /// When the file of a call that was to be uploaded is deleted.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "uploaded",
        requires = "auto_upload_to_s3"
    )]
    local_cleanup: Cleanup,

    /// How much may wait for a store that fails; beyond that the oldest files are deleted.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10GiB",
        requires = "auto_upload_to_s3"
    )]
    spool_max_bytes: ByteSize,

    /// Only try whether objects can be put, and end: 0 if they can. (With captures, that is tried
    /// anyway.)
    #[arg(long, requires = "s3_uri")]
    s3_check: bool,

    /// Do not try it at the start.
    #[arg(long, conflicts_with = "s3_check")]
    no_s3_check: bool,

    /// How long an object may take, but for its length.
    #[arg(long, value_name = "DURATION", default_value = "1m0s", hide = true)]
    s3_deadline: GoDuration,

    /// Do not give up the right to write elsewhere than to the directories of results.
    #[arg(long)]
    pub no_sandbox: bool,

    /// Read flags from this TOML file (input-dir = ["/a", "/b"], linger = "10s", watch = true);
    /// those given here win.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Say nothing but errors, and no summary: cron mails nothing when all is well.
    #[arg(long, short, conflicts_with = "debug", overrides_with = "quiet")]
    quiet: bool,

    /// Log more: each call, and why messages and media belong to none. (RUST_LOG, if set, says
    /// exactly what.)
    #[arg(long, short = 'v', visible_alias = "verbose", overrides_with = "debug")]
    debug: bool,

    /// Bytes of input that are worked on at once. No value changes the result; tests use small
    /// ones.
    #[arg(long, value_name = "BYTES", hide = true)]
    window_bytes: Option<usize>,

    /// Bytes of input that one thread indexes at a time.
    #[arg(long, value_name = "BYTES", hide = true)]
    chunk_bytes: Option<usize>,

    /// Bytes of memory for what is found in them, about.
    #[arg(long, value_name = "BYTES", hide = true)]
    index_bytes: Option<usize>,

    /// Bytes of input after which the state is saved, at least.
    #[arg(long, value_name = "BYTES", hide = true)]
    unit_bytes: Option<u64>,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

impl Arguments {
    /// Reads the command line; ends the program with exit status 2 and a sentence if it is wrong.
    #[must_use]
    pub fn read() -> Self {
        let mut command = Self::command();
        command.build();
        let line: Vec<OsString> = env::args_os().collect();
        let line = operands::with_flags(&line, &command)
            .unwrap_or_else(|(kind, words)| command.error(kind, words).exit());
        let mut arguments: Self =
            config_file::arguments(&line).unwrap_or_else(|error| error.exit());
        if !uploads::ARE_BUILT_IN && arguments.needs_a_store() {
            Self::command()
                .error(ErrorKind::InvalidValue, uploads::MISSING)
                .exit();
        }
        if arguments.needs_a_store() && arguments.s3_region.is_none() {
            arguments.s3_region = uploads::region().and_then(|found| region(&found).ok());
            if arguments.s3_region.is_none() {
                let why = "no region: give --s3-region, such as --s3-region eu-central-1, or set AWS_REGION (any will do for most stores other than AWS)";
                Self::command()
                    .error(ErrorKind::MissingRequiredArgument, why)
                    .exit();
            }
        }
        let given = config_file::given(&line);
        let is_given = |flag: &str| given.contains(OsStr::new(flag));
        if is_given("s3-check") && !is_given("input-file") && !is_given("input-dir") {
            // Of a file of flags, it is the store that is to be tried.
            arguments.input_file.clear();
            arguments.input_dir.clear();
        }
        if !arguments.has_captures() && !arguments.s3_check {
            let why = "no captures: name files, such as sip-call-extractor big.pcap, or a directory of segments";
            Self::command()
                .error(ErrorKind::MissingRequiredArgument, why)
                .exit();
        }
        if arguments.detected_calls_filename == arguments.stats_filename {
            let why = "--detected-calls-filename and --stats-filename name the same file; give them different names";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if arguments.s3_check && !arguments.auto_upload_to_s3 && arguments.has_captures() {
            let why = "--s3-check is for uploads; give --auto-upload-to-s3 with it, or no captures";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if arguments.s3_upload_csv
            && arguments.detected_calls_filename.file_name() == arguments.stats_filename.file_name()
        {
            let why = "--detected-calls-filename and --stats-filename would be the same object; give them different names";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if let (Some(since), Some(until)) = (&arguments.calls.since, &arguments.calls.until)
            && until.named.at < since.named.at
        {
            let why = format!(
                "--until {} is before --since {}: no call would be wanted",
                until.named.at, since.named.at
            );
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if let Some(why) = arguments.directories_in_conflict() {
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        arguments
    }

    /// How times were understood that the command line has without a zone.
    pub fn notices(&self) -> impl Iterator<Item = String> {
        let times = [
            ("--since", &self.calls.since),
            ("--until", &self.calls.until),
        ];
        times
            .into_iter()
            .filter_map(|(flag, time)| Some(format!("{flag} {}", time.as_ref()?.notice.as_ref()?)))
    }

    /// How much is to be said.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.debug) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Usual,
        }
    }

    fn directories_in_conflict(&self) -> Option<String> {
        // A directory has many names: what they lead to counts.
        let inputs: Vec<PathBuf> = self.input_dir.iter().map(|path| whole_path(path)).collect();
        let twice = inputs
            .iter()
            .enumerate()
            .find(|(number, path)| inputs.iter().take(*number).any(|other| other == *path));
        if let Some((_, path)) = twice {
            return Some(format!(
                "--input-dir {} is given twice; give it once",
                path.display()
            ));
        }
        let output = whole_path(&self.output_dir);
        let is_result =
            |path: &&PathBuf| is_of_a_call(path) && whole_path(path).parent() == Some(&output);
        if self.input_file.len() > 1
            && let Some(result) = self.input_file.iter().find(is_result)
        {
            let why = "is a call's file in the output directory: what is in it would count twice";
            return Some(format!(
                "{} {why}; name the captures alone, or another --output-dir",
                result.display()
            ));
        }
        if inputs.contains(&output) {
            let why = "is an input directory, too, where the calls' files would be taken for segments; name another one";
            return Some(format!("--output-dir {} {why}", self.output_dir.display()));
        }
        match &self.after_processing {
            AfterProcessing::Move(to) if inputs.contains(&whole_path(to)) => Some(format!(
                "--after-processing move:{} names an input directory; name another one",
                to.display()
            )),
            _ => None,
        }
    }

    /// Of a command that only tries whether objects can be put: how.
    #[must_use]
    pub fn check(&self) -> Option<uploads::Settings> {
        self.uploads()
            .filter(|_| self.s3_check && !self.has_captures())
    }

    /// The run asks something of a store. The other flags of uploads say how, or fill a column.
    fn needs_a_store(&self) -> bool {
        self.auto_upload_to_s3 || self.s3_check
    }

    fn has_captures(&self) -> bool {
        !self.input_file.is_empty() || !self.input_dir.is_empty()
    }

    fn location(&self) -> Option<S3Uri> {
        let host_name = gethostname().unwrap_or_default();
        self.s3_uri
            .as_ref()
            .map(|uri| uri.on_host(&host_name.to_string_lossy()))
    }

    fn uploads(&self) -> Option<uploads::Settings> {
        let (to, region) = self.location().zip(self.s3_region.clone())?;
        Some(uploads::Settings {
            to,
            region,
            endpoint_url: self.s3_endpoint_url.clone(),
            path_style: self.s3_path_style,
            storage_class: self.s3_storage_class.clone(),
            encryption: self.s3_sse.clone(),
            tags: self.s3_tags.clone(),
            concurrency: self.s3_concurrency.into(),
            with_tables: self.s3_upload_csv,
            cleanup: self.local_cleanup,
            spool_max_bytes: self.spool_max_bytes.0,
            checks: !self.no_s3_check,
            overwrite: self.overwrite,
            deadline: Duration::from_nanos(self.s3_deadline.as_ns()),
        })
    }

    fn source(&self) -> Source {
        if self.input_dir.is_empty() {
            return Source::Files(self.input_file.clone());
        }
        Source::Directories(Directories {
            paths: self.input_dir.clone(),
            stays: self.watch,
            closes_all: self.close_all,
            retries: self.retry_failed,
            after_processing: self.after_processing.clone(),
            leaves_out_copies: self.dedup,
            timeout: Duration::from_nanos(self.source_timeout.as_ns()),
        })
    }

    /// What they ask for.
    #[must_use]
    pub fn config(self) -> Config {
        let location = self.location();
        Config {
            uploads: self.uploads().filter(|_| self.auto_upload_to_s3),
            source: self.source(),
            resets: self.reset_state,
            max_decompressed: self.max_decompressed,
            unit: self
                .unit_bytes
                .map_or_else(UnitLen::default, UnitLen::Exactly),
            decoder: Decoder::new(all(self.erspan_span_ids), all(self.erspan_vlans))
                .with_hep_on(self.hep_ports),
            sip_ports: self.sip_ports_range,
            rules: Rules {
                linger_ns: self.linger.as_ns(),
                call_timeout_ns: Some(self.call_timeout.as_ns()).filter(|ns| *ns > 0),
                lookback_ns: self.media_lookback.as_ns(),
                max_open_calls: self.max_open_calls,
            },
            outputs: Settings {
                location,
                selection: self.calls.selection(),
                directory: self.output_dir,
                detected_calls_filename: self.detected_calls_filename,
                stats_filename: self.stats_filename,
                overwrite: self.overwrite,
                tells_of_calls: !self.input_dir.is_empty(),
                // One who waits for one file wants it as fast as a copy, and can run it again.
                syncs: !self.no_sync && !self.input_dir.is_empty(),
            },
            sizes: sizes(self.window_bytes, self.chunk_bytes, self.index_bytes),
        }
    }
}

/// As far as it can be told from something else: the rest is for the client.
fn url(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
    if host.is_empty() || host.starts_with('/') || !host.bytes().all(is_plain) {
        return Err("that is no URL of a store; write http://HOST:PORT or https://HOST, without a name or a password".to_owned());
    }
    Ok(text.to_owned())
}

/// It becomes a part of the store's host name.
fn region(text: &str) -> Result<String, String> {
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_label) {
        return Err(format!(
            "`{text}` is no region; write one such as eu-central-1"
        ));
    }
    Ok(text.to_owned())
}

fn sizes(window: Option<usize>, chunk: Option<usize>, index: Option<usize>) -> Sizes {
    let usual = Sizes::default();
    Sizes {
        window: window.map_or(usual.window, |size| size..=size),
        chunk,
        index: index.unwrap_or(usual.index),
    }
}

/// Numbers from 0 to `MAX`, separated by commas; an empty text is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers<const MAX: u16>(Vec<u16>);

impl<const MAX: u16> FromStr for Numbers<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(|number| number_up_to(MAX, number.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn number_up_to(max: u16, text: &str) -> Result<u16, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| is_plain && *number <= max);
    number.ok_or_else(|| {
        format!(
            "`{text}` is no number from 0 to {max}; write such numbers, separated by commas (1,2,3)"
        )
    })
}

fn all<const MAX: u16>(lists: Vec<Numbers<MAX>>) -> impl Iterator<Item = u16> {
    lists.into_iter().flat_map(|list| list.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        assert!(
            help.starts_with("Extracts every SIP call of a capture"),
            "{help}"
        );
        let headings: Vec<&str> = help
            .lines()
            .filter(|line| line.ends_with(':') && !line.starts_with(' '))
            .collect();
        assert_eq!(headings, ["Options:", "Which calls:"]);
    }

    #[test]
    fn a_uri_alone_needs_no_store() {
        let needs_a_store = |flags: &[&str]| {
            let line = [
                "sip-call-extractor",
                "--s3-uri",
                "s3://calls/",
                "--s3-region",
                "eu-central-1",
            ];
            Arguments::try_parse_from(line.iter().chain(flags))
                .unwrap()
                .needs_a_store()
        };
        assert!(!needs_a_store(&["--input-file", "a.pcap"]));
        assert!(needs_a_store(&[
            "--input-file",
            "a.pcap",
            "--auto-upload-to-s3"
        ]));
        assert!(needs_a_store(&["--s3-check"]));
    }

    #[test]
    fn lists_of_numbers() {
        assert_eq!("".parse(), Ok(Numbers::<9>(vec![])));
        assert_eq!("7".parse(), Ok(Numbers::<9>(vec![7])));
        assert_eq!("0, 9,3".parse(), Ok(Numbers::<9>(vec![0, 9, 3])));
        for (text, what) in [
            ("10", "`10`"),
            ("1,,2", "``"),
            ("1-3", "`1-3`"),
            ("-1", "`-1`"),
            ("70000", "`70000`"),
            ("+1", "`+1`"),
        ] {
            let why = text.parse::<Numbers<9>>().unwrap_err();
            assert!(
                why.starts_with(what) && why.contains("from 0 to 9"),
                "{text}: {why}"
            );
        }
    }
}
