//! The command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, error::ErrorKind};
use shared::units::{GoDuration, SipPorts};

use crate::{calls::Rules, outputs::Settings, progress::LogFormat, run::Config, windows::Sizes};

/// Extracts every SIP call of a capture: one pcap per call with its signalling and media,
/// `detected_calls.csv` with a row per call, `calls_statistics.csv` with a row per RTP stream.
///
/// Exit status: 0 all done; 1 failed; 2 wrong usage; 3 done, but something of the input was left
/// behind (the log and the closing summary say what).
#[derive(Debug, Parser)]
#[command(name = "sip-call-extractor", version, max_term_width = 100)]
pub struct Arguments {
    /// Capture to read (pcap or pcapng, also compressed with gzip or zstd; `-` is standard input).
    /// May be repeated: the files are then one capture, in the order of their first packets.
    #[arg(long, value_name = "FILE", required = true)]
    input_file: Vec<PathBuf>,

    /// Ports on which SIP is looked for: START-END, one port, or `any` to find SIP by its content
    /// on every port.
    #[arg(long, value_name = "START-END", default_value = "5060-5061")]
    sip_ports_range: SipPorts,

    /// Directory for the results; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
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

    /// Name of the file with a row per call.
    #[arg(long, value_name = "NAME", default_value = "detected_calls.csv")]
    detected_calls_filename: PathBuf,

    /// Name of the file with a row per RTP stream.
    #[arg(long, value_name = "NAME", default_value = "calls_statistics.csv")]
    stats_filename: PathBuf,

    /// Replace calls' files that are there already instead of choosing another name.
    #[arg(long)]
    overwrite: bool,

    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Log more. (RUST_LOG, if set, says exactly what.)
    #[arg(long)]
    pub debug: bool,

    /// Bytes of input that are worked on at once. No value changes the result; tests use small ones.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_WINDOW, hide = true)]
    window_bytes: usize,

    /// Bytes of input that one thread indexes at a time.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_CHUNK, hide = true)]
    chunk_bytes: usize,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

const DEFAULT_WINDOW: usize = 128 * 1024 * 1024;
const DEFAULT_CHUNK: usize = 8 * 1024 * 1024;

impl Arguments {
    /// Reads the command line; ends the program with exit status 2 and a sentence if it is wrong.
    #[must_use]
    pub fn read() -> Self {
        let arguments = Self::parse();
        if arguments.detected_calls_filename == arguments.stats_filename {
            let why = "--detected-calls-filename and --stats-filename name the same file; give them different names";
            Self::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        arguments
    }

    /// What they ask for.
    #[must_use]
    pub fn config(self) -> Config {
        Config {
            inputs: self.input_file,
            sip_ports: self.sip_ports_range,
            rules: Rules {
                linger_ns: self.linger.as_ns(),
                call_timeout_ns: Some(self.call_timeout.as_ns()).filter(|ns| *ns > 0),
                lookback_ns: self.media_lookback.as_ns(),
            },
            outputs: Settings {
                directory: self.output_dir,
                detected_calls_filename: self.detected_calls_filename,
                stats_filename: self.stats_filename,
                overwrite: self.overwrite,
            },
            sizes: Sizes { window: self.window_bytes, chunk: self.chunk_bytes },
        }
    }
}
