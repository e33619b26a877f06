//! Captures in memory.

use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header, record_header};

/// Frames with their times, and what becomes of them in a file.
#[derive(Clone)]
pub struct Capture {
    pub link: LinkType,
    pub precision: Precision,
    pub frames: Vec<(u64, Vec<u8>)>,
}

impl Default for Capture {
    fn default() -> Self {
        Self { link: LinkType::ETHERNET, precision: Precision::Micro, frames: Vec::new() }
    }
}

impl Capture {
    pub fn push(&mut self, ns: u64, frame: Vec<u8>) {
        self.frames.push((ns, frame));
    }

    /// A classic pcap, little-endian.
    pub fn to_pcap(&self) -> Vec<u8> {
        self.to_pcap_snapped(usize::MAX)
    }

    /// The same, with no more than so many bytes of each frame.
    pub fn to_pcap_snapped(&self, snaplen: usize) -> Vec<u8> {
        let mut file = file_header(self.link, self.precision, DEFAULT_SNAPLEN).to_vec();
        for (ns, frame) in &self.frames {
            let captured = &frame[..frame.len().min(snaplen)];
            file.extend(record_header(*ns, self.precision, captured.len() as u32, frame.len() as u32));
            file.extend(captured);
        }
        file
    }
}
