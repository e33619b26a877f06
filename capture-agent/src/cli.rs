//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};
use shared::pcap::{DEFAULT_SNAPLEN, MAX_FRAME_LEN};

/// Captures what a filter lets through on one interface into a pcap segment.
///
/// The segment is a hidden part file (`.NAME.pcap.part`) until SIGTERM or SIGINT ends the capture; then it
/// appears, complete, as `<host>_<interface>_<UTC start>_<sequence>.pcap`. Capturing needs CAP_NET_RAW.
///
/// Exit status: 0 done; 1 failed (no such interface, no permission, no space); 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "sip-capture-agent", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Interface to capture on, such as eth0; `any` for all of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: String,

    /// Which packets to capture: a filter in the language of pcap-filter(7).
    #[arg(long, value_name = "BPF", default_value = "udp")]
    pub(crate) filter: String,

    /// Directory for the segment; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) output_dir: PathBuf,

    /// How many bytes of each packet to keep at most.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_SNAPLEN, value_parser = value_parser!(u32).range(1..=i64::from(MAX_FRAME_LEN)))]
    pub(crate) snaplen: u32,

    /// Log more. (RUST_LOG, if set, says exactly what.)
    #[arg(long)]
    pub(crate) debug: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_interface_is_all_that_is_required() {
        let arguments = parse("agent --interface eth0").unwrap();
        assert_eq!((arguments.interface.as_str(), arguments.filter.as_str()), ("eth0", "udp"));
        assert_eq!((arguments.output_dir, arguments.snaplen, arguments.debug), (".".into(), 262_144, false));
        assert_eq!(parse("agent").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn snap_lengths_that_a_reader_would_not_believe_are_refused() {
        for snaplen in ["0", "262145", "-1", "many"] {
            let error = parse(&format!("agent --interface eth0 --snaplen={snaplen}")).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ValueValidation), "{snaplen}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
