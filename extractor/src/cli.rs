//! The command line.

use std::{path::PathBuf, str::FromStr};

use clap::{CommandFactory, Parser, error::ErrorKind};
use shared::units::{GoDuration, SipPorts};

use crate::{calls::Rules, outputs::Settings, packet::Decoder, progress::LogFormat, run::Config, windows::Sizes};

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

    /// Numbers of the ERSPAN sessions that are wanted, separated by commas; all if there are none. May be
    /// repeated. Frames that ERSPAN did not bring are always read.
    #[arg(long, value_name = "LIST")]
    erspan_span_ids: Vec<Numbers<1023>>,

    /// Numbers of the VLANs that are wanted out of ERSPAN, likewise.
    #[arg(long, value_name = "LIST")]
    erspan_vlans: Vec<Numbers<4095>>,

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
    #[arg(long, value_name = "BYTES", hide = true)]
    window_bytes: Option<usize>,

    /// Bytes of input that one thread indexes at a time.
    #[arg(long, value_name = "BYTES", hide = true)]
    chunk_bytes: Option<usize>,

    /// Bytes of memory for what is found in them, about.
    #[arg(long, value_name = "BYTES", hide = true)]
    index_bytes: Option<usize>,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

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
            decoder: Decoder::new(all(self.erspan_span_ids), all(self.erspan_vlans)),
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
            sizes: sizes(self.window_bytes, self.chunk_bytes, self.index_bytes),
        }
    }
}

fn sizes(window: Option<usize>, chunk: Option<usize>, index: Option<usize>) -> Sizes {
    let usual = Sizes::default();
    Sizes { window: window.map_or(usual.window, |size| size..=size), chunk, index: index.unwrap_or(usual.index) }
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
        text.split(',').map(|number| number_up_to(MAX, number.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn number_up_to(max: u16, text: &str) -> Result<u16, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && *number <= max);
    number.ok_or_else(|| format!("`{text}` is no number from 0 to {max}; write such numbers, separated by commas (1,2,3)"))
}

fn all<const MAX: u16>(lists: Vec<Numbers<MAX>>) -> impl Iterator<Item = u16> {
    lists.into_iter().flat_map(|list| list.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!("".parse(), Ok(Numbers::<9>(vec![])));
        assert_eq!("7".parse(), Ok(Numbers::<9>(vec![7])));
        assert_eq!("0, 9,3".parse(), Ok(Numbers::<9>(vec![0, 9, 3])));
        for (text, what) in
            [("10", "`10`"), ("1,,2", "``"), ("1-3", "`1-3`"), ("-1", "`-1`"), ("70000", "`70000`"), ("+1", "`+1`")]
        {
            let why = text.parse::<Numbers<9>>().unwrap_err();
            assert!(why.starts_with(what) && why.contains("from 0 to 9"), "{text}: {why}");
        }
    }
}
