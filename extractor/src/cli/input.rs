//! Flags for the input, and for segments after they were read.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use shared::units::{ByteSize, GoDuration, SipPorts};

use crate::{
    config::{Directories, Source},
    packet::{Decoder, HepPorts},
    segments::AfterProcessing,
    stored::IndexTask,
};

#[derive(Clone, Debug, Args)]
pub(super) struct InputArguments {
    /// Read this capture: pcap or pcapng, plain or compressed with gzip or zstd; `-` is standard
    /// input.
    ///
    /// May be repeated: the files are then one capture, in the order of their first packets. A FILE
    /// without a flag means the same. A pipe or a compressed file is first written, decompressed,
    /// to a nameless temporary file in the output directory.
    #[arg(long, short, value_name = "FILE")]
    pub(super) input_file: Vec<PathBuf>,

    /// Read the segments in this directory: all closed ones that no earlier run has read, in
    /// capture order.
    ///
    /// Calls that are open at the end go on in the next run. May be repeated, once for each capture
    /// point: their packets are merged by packet time. A DIR without a flag means the same.
    #[arg(long, value_name = "DIR")]
    pub(super) input_dir: Vec<PathBuf>,

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

    /// Keep, delete or move a segment when its results are durable: keep, delete, or move:DIR.
    ///
    /// A segment that is kept gets an empty file `.NAME.pcap.processed` beside it, which the
    /// agent's retention looks for.
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "keep",
        requires = "input_dir",
        conflicts_with = "input_file"
    )]
    pub(super) after_processing: AfterProcessing,

    /// Leave out a packet that equals, from its IP header on, a packet at most 50 ms before it.
    ///
    /// Two capture points, or a switch that mirrors both ports of a flow, deliver packets twice.
    #[arg(long, requires = "input_dir", conflicts_with = "input_file")]
    dedup: bool,

    /// With --watch and several capture points or interfaces: wait at most this long, by the wall
    /// clock, for the segments of a silent one before the others go on without it.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m0s",
        requires = "input_dir",
        conflicts_with = "input_file"
    )]
    source_timeout: GoDuration,

    /// Try segments again that were set aside because they could not be read.
    #[arg(long, requires = "input_dir", conflicts_with = "input_file")]
    retry_failed: bool,

    /// Make an index of each capture that was read, as `sip-call-extractor index` does: NAME.idx and
    /// NAME.pos beside it, for `sip-call-extractor find`.
    #[arg(long)]
    index: bool,

    /// Make the indexes in this directory.
    #[arg(long, value_name = "DIR")]
    index_dir: Option<PathBuf>,

    /// Forget the state that earlier runs left in the output directory.
    ///
    /// Open calls are given up, the segments that are there are read again, and files of finished
    /// calls stay as they are. Uploads that are due are forgotten; their files stay.
    #[arg(long)]
    pub(super) reset_state: bool,

    /// Do not read a compressed capture that is larger than this when decompressed, such as 20GiB.
    ///
    /// Without it, a tenth of the output directory's disk stays free, and at least 1 GiB (a quarter
    /// of the disk, where that is less).
    #[arg(long, value_name = "SIZE")]
    pub(super) max_decompressed: Option<ByteSize>,

    /// Look for SIP on these ports: START-END, one port, or `any`.
    ///
    /// `any` finds SIP by its content on every port, over UDP, TCP and WebSocket. With a range, SIP
    /// on other ports is counted, and the last line of the log names these ports.
    #[arg(long, value_name = "START-END", default_value = "any")]
    pub(super) sip_ports_range: SipPorts,

    #[command(flatten)]
    decoder: DecoderArguments,
}

/// Flags for the reader of frames.
#[derive(Clone, Debug, Args)]
pub(super) struct DecoderArguments {
    /// Look for HEP (Homer) on these ports, separated by commas; `any` for all, an empty list for
    /// none.
    ///
    /// Packets on other ports are not opened, even if they look like HEP.
    #[arg(long, value_name = "LIST", default_value = "9060,9061")]
    hep_ports: HepPorts,

    /// Read only these ERSPAN sessions: numbers from 0 to 1023, separated by commas.
    ///
    /// May be repeated. Without it, all sessions are read. ERSPAN type I names no session, so a
    /// list leaves it out. Frames outside ERSPAN are always read.
    #[arg(long, value_name = "LIST")]
    erspan_span_ids: Vec<Numbers<1023>>,

    /// Read only ERSPAN frames with these VLANs in the ERSPAN header: numbers from 0 to 4095,
    /// separated by commas.
    ///
    /// May be repeated. Without it, all VLANs are read. Frames outside ERSPAN are always read.
    #[arg(long, value_name = "LIST")]
    erspan_vlans: Vec<Numbers<4095>>,
}

impl DecoderArguments {
    pub(super) fn decoder(self) -> Decoder {
        Decoder::new(all(self.erspan_span_ids), all(self.erspan_vlans)).with_hep_on(self.hep_ports)
    }
}

impl InputArguments {
    pub(super) fn has_captures(&self) -> bool {
        !self.input_file.is_empty() || !self.input_dir.is_empty()
    }

    pub(super) fn source(&self) -> Source {
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

    pub(super) fn decoder(self) -> Decoder {
        self.decoder.decoder()
    }

    /// The indexes that are to be made.
    pub(super) fn indexes(&self) -> Option<IndexTask> {
        (self.index || self.index_dir.is_some()).then(|| IndexTask {
            segments: Vec::new(),
            directory: self.index_dir.clone(),
            makes_again: false,
            decoder: self.decoder.clone().decoder(),
            sip_ports: self.sip_ports_range,
        })
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
