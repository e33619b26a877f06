//! The command line, and the file of flags that it names.

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{ArgAction, CommandFactory, Parser, ValueEnum, error::ErrorKind, value_parser};
use shared::{
    config_file,
    log::LogFormat,
    pcap::{DEFAULT_SNAPLEN, MAX_FRAME_LEN, Precision},
    segment::interface_label,
    units::{ByteSize, GoDuration, SipPorts},
};

use crate::{filter::Filter, retention, ring::CHUNK_BYTES, rotation};

const CAPTURE: &str = "Capture";
const SEGMENTS: &str = "Segments";
const RETENTION: &str = "Retention";
const LOGGING: &str = "Logging and metrics";

/// Captures live traffic through a BPF filter into rotating pcap segments.
///
/// A segment is a hidden part file (`.NAME.pcap.part`) while it is written; when it is complete, it
/// appears as `<instance>_<interface>_<UTC start>_<sequence>.pcap`. SIGHUP begins a new one,
/// SIGUSR1 logs statistics, SIGTERM and SIGINT end the agent. Capturing needs CAP_NET_RAW.
///
/// Durations are written as 60s, 5m0s, 1h30m; sizes as 65536, 64KiB, 256MiB, 10GB.
///
/// Exit status: 0 ended by a signal, --duration or --count; 1 failed (no such interface, no
/// permission, no space); 2 wrong usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "sip-capture-agent", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Read flags from this TOML file, by their names; the command line wins.
    ///
    /// Its lines look like `snaplen = 1600` and `interface = ["eth0", "eth1"]`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Switch to this user when the interfaces are open.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Keep the system calls that capturing does not need: do not enter the sandbox (seccomp).
    #[arg(long)]
    pub(crate) no_sandbox: bool,

    /// End after this time.
    #[arg(long, value_name = "DURATION")]
    pub(crate) duration: Option<GoDuration>,

    /// End after this many packets of each interface.
    #[arg(long, value_name = "PACKETS")]
    pub(crate) count: Option<u64>,

    /// Interface to capture on, such as eth0; `any` for all of them.
    ///
    /// May be repeated: each interface has segments of its own.
    #[arg(long, value_name = "NAME", action = ArgAction::Append, help_heading = CAPTURE)]
    pub(crate) interface: Vec<String>,

    /// Capture only packets that match this filter, in the language of pcap-filter(7).
    ///
    /// Without it, every packet that may belong to a call is captured.
    #[arg(long, value_name = "BPF", help_heading = CAPTURE)]
    filter: Option<String>,

    /// Without --filter: capture SIP over TCP on these ports: START-END, one port, or `any`.
    ///
    /// UDP is captured on all ports.
    #[arg(
        long,
        value_name = "START-END",
        default_value = "5060-5061",
        help_heading = CAPTURE
    )]
    sip_ports_range: SipPorts,

    /// Print the filter for the interface (or for Ethernet, if none is given), and exit.
    #[arg(long, help_heading = CAPTURE)]
    pub(crate) print_filter: bool,

    /// Keep at most this many bytes of each packet.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_SNAPLEN, value_parser = value_parser!(u32).range(1..=i64::from(MAX_FRAME_LEN)), help_heading = CAPTURE)]
    pub(crate) snaplen: u32,

    /// Capture packets that are not addressed to this host, too.
    #[arg(long, help_heading = CAPTURE)]
    pub(crate) promiscuous: bool,

    /// Unit of the timestamps.
    #[arg(long, value_enum, default_value_t = PrecisionName::Micro, help_heading = CAPTURE)]
    precision: PrecisionName,

    /// Size of the kernel's buffer for each interface: it holds packets while the agent cannot run.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = kernel_buffer,
        help_heading = CAPTURE
    )]
    pub(crate) buffer_size: ByteSize,

    /// Memory for the packets of each interface that wait for the disk, while it is slow or full.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = queue,
        help_heading = CAPTURE
    )]
    pub(crate) queue_size: ByteSize,

    /// Directory for the segments; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = SEGMENTS)]
    pub(crate) output_dir: PathBuf,

    /// First part of the segments' names: the agent that captures. Without it, the host's short
    /// name.
    #[arg(long, value_name = "NAME", help_heading = SEGMENTS)]
    pub(crate) instance: Option<String>,

    /// Begin a new segment at multiples of this time since 1970, UTC; 0 for never.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        help_heading = SEGMENTS
    )]
    rotate_every: GoDuration,

    /// Begin a new segment before one gets larger than this; 0 for any size.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256MiB",
        help_heading = SEGMENTS
    )]
    rotate_size: ByteSize,

    /// Write a segment for each interval, also where no packet came.
    #[arg(long, help_heading = SEGMENTS)]
    pub(crate) empty_segments: bool,

    /// Delete the oldest segments when all of them take more than this; 0 for no limit.
    #[arg(long, value_name = "SIZE", help_heading = RETENTION)]
    max_disk_bytes: Option<ByteSize>,

    /// Delete segments that were closed longer ago than this; 0 for no limit.
    #[arg(long, value_name = "DURATION", help_heading = RETENTION)]
    max_age: Option<GoDuration>,

    /// Delete the oldest segments when the file system has less than this left; 0 for no limit.
    #[arg(long, value_name = "SIZE", help_heading = RETENTION)]
    min_free_bytes: Option<ByteSize>,

    /// Write counters to this file for node_exporter's textfile collector (NAME.prom).
    #[arg(long, value_name = "FILE", help_heading = LOGGING)]
    pub(crate) metrics_file: Option<PathBuf>,

    /// Log statistics this often; 0 for only at the end.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        help_heading = LOGGING
    )]
    pub(crate) stats_interval: GoDuration,

    /// Format of the log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, help_heading = LOGGING)]
    pub(crate) log_format: LogFormat,

    /// Log more.
    ///
    /// The environment variable RUST_LOG, if set, selects the log lines instead.
    #[arg(long, help_heading = LOGGING)]
    pub(crate) debug: bool,
}

/// The unit of the timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionName {
    /// Microseconds
    Micro,
    /// Nanoseconds, where the interface gives them
    Nano,
}

impl Arguments {
    /// Reads the command line, and the file that it names.
    pub(crate) fn from_command_line(line: &[OsString]) -> Result<Self, clap::Error> {
        let arguments: Self = config_file::arguments(line)?;
        arguments
            .check()
            .map_err(|(kind, words)| Self::command().error(kind, words))?;
        Ok(arguments)
    }

    fn check(&self) -> Result<(), (ErrorKind, String)> {
        if self.interface.is_empty() && !self.print_filter {
            let words = "no interface: name one with --interface, such as --interface eth0, or --interface any";
            return Err((ErrorKind::MissingRequiredArgument, words.to_owned()));
        }
        let mut labels: Vec<String> = Vec::new();
        for interface in &self.interface {
            let label = interface_label(interface);
            if labels.contains(&label) {
                let words = format!(
                    "two interfaces are called `{label}` in the names of segments: run an agent for each"
                );
                return Err((ErrorKind::ArgumentConflict, words));
            }
            labels.push(label);
        }
        Ok(())
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter
            .clone()
            .map_or(Filter::Calls(self.sip_ports_range), Filter::Given)
    }

    pub(crate) fn precision(&self) -> Precision {
        match self.precision {
            PrecisionName::Micro => Precision::Micro,
            PrecisionName::Nano => Precision::Nano,
        }
    }

    pub(crate) fn rotation(&self) -> rotation::Limits {
        rotation::Limits {
            every_ns: NonZeroU64::new(self.rotate_every.as_ns()),
            bytes: NonZeroU64::new(self.rotate_size.0),
        }
    }

    pub(crate) fn retention(&self) -> retention::RetentionLimits {
        // A limit of 0 would delete every segment as soon as it is closed.
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0).filter(|&bytes| bytes != 0);
        retention::RetentionLimits {
            max_disk_bytes: bytes(self.max_disk_bytes),
            max_age: self.max_age.map(|age| age.0).filter(|age| !age.is_zero()),
            min_free_bytes: bytes(self.min_free_bytes),
        }
    }

    pub(crate) fn stats_interval(&self) -> Option<Duration> {
        Some(self.stats_interval.0).filter(|interval| !interval.is_zero())
    }
}

/// libpcap takes the size as a signed number of 32 bits; fewer than some pages have no room for a
/// block.
fn kernel_buffer(text: &str) -> Result<ByteSize, String> {
    within(text, ByteSize(256 * 1024), ByteSize(2047 * 1024 * 1024))
}

fn queue(text: &str) -> Result<ByteSize, String> {
    let chunks = u64::try_from(CHUNK_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_mul(4);
    within(text, ByteSize(chunks), ByteSize(1 << 40))
}

fn within(text: &str, least: ByteSize, most: ByteSize) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|error: shared::units::ByteSizeError| error.to_string())?;
    if (least..=most).contains(&size) {
        Ok(size)
    } else {
        Err(format!("`{text}` is not between {least} and {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::from_command_line(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_md_has_the_flags_of_the_agent() {
        support::flags::compare(Arguments::command());
    }

    #[test]
    fn the_interface_is_all_that_is_required() {
        let arguments = parse("agent --interface eth0").unwrap();
        assert_eq!(
            (arguments.interface.as_slice(), arguments.filter()),
            (
                &["eth0".to_owned()][..],
                Filter::Calls(SipPorts::Range(5060, 5061))
            )
        );
        assert_eq!(
            (arguments.snaplen, arguments.buffer_size),
            (262_144, ByteSize(64 << 20))
        );
        assert_eq!(
            arguments.rotation().every_ns,
            NonZeroU64::new(60_000_000_000)
        );
        assert_eq!(arguments.rotation().bytes, NonZeroU64::new(256 << 20));
        assert!(arguments.retention().are_none());
        let error = parse("agent").unwrap_err();
        assert_eq!(
            (error.kind(), error.exit_code()),
            (ErrorKind::MissingRequiredArgument, 2)
        );
        assert!(parse("agent --print-filter").is_ok());
    }

    #[test]
    fn those_who_know_the_original_program_type_one_hyphen() {
        let arguments = parse(
            "agent -interface eth0 -filter=udp -debug=false --promiscuous=true -output-dir x",
        )
        .unwrap();
        assert_eq!(
            (arguments.interface.as_slice(), arguments.filter()),
            (&["eth0".to_owned()][..], Filter::Given("udp".to_owned()))
        );
        assert!(
            !arguments.debug && arguments.promiscuous && arguments.output_dir.as_os_str() == "x"
        );
    }

    #[test]
    fn zero_stands_for_no_limit() {
        let arguments =
            parse("agent --interface eth0 --rotate-every 0 --rotate-size 0 --stats-interval 0")
                .unwrap();
        assert_eq!(arguments.rotation(), rotation::Limits::default());
        assert_eq!(arguments.stats_interval(), None);
        let arguments =
            parse("agent --interface eth0 --max-disk-bytes 0 --max-age 0 --min-free-bytes 0")
                .unwrap();
        assert!(arguments.retention().are_none());
        let arguments =
            parse("agent --interface eth0 --max-disk-bytes 1 --max-age 1s --min-free-bytes 2")
                .unwrap();
        let limits = retention::RetentionLimits {
            max_disk_bytes: Some(1),
            max_age: Some(Duration::from_secs(1)),
            min_free_bytes: Some(2),
        };
        assert_eq!(arguments.retention(), limits);
    }

    #[test]
    fn values_that_make_no_sense_are_wrong_usage() {
        for flag in [
            "--snaplen=0",
            "--snaplen=262145",
            "--snaplen=many",
            "--buffer-size=3GiB",
            "--buffer-size=1KiB",
            "--queue-size=1KiB",
            "--rotate-every=60",
            "--rotate-size=big",
            "--max-age=old",
            "--sip-ports-range=0-10",
            "--sip-ports-range=5080-5060",
            "--sip-ports-range=70000-70001",
            "--sip-ports-range=abc",
            "--precision=pico",
            "--count=-1",
        ] {
            let error = parse(&format!("agent --interface eth0 {flag}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag}");
        }
    }

    #[test]
    fn interfaces_whose_segments_could_not_be_told_apart_are_refused() {
        for line in [
            "--interface eth0 --interface eth0",
            "--interface eth0:1 --interface eth0-1",
        ] {
            assert_eq!(parse(&format!("agent {line}")).unwrap_err().exit_code(), 2);
        }
        assert_eq!(
            parse("agent --interface eth0 --interface eth1")
                .unwrap()
                .interface
                .len(),
            2
        );
    }
}
