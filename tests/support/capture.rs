//! Captures in memory, and their file formats.

use std::io::Write;

use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header, record_header};

/// Frames with their times, and the link type of the file.
#[derive(Clone)]
pub struct Capture {
    pub link: LinkType,
    pub precision: Precision,
    pub frames: Vec<(u64, Vec<u8>)>,
}

/// The byte order of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

/// The timestamps of a pcapng interface: ticks per second as in the option `if_tsresol`, counted
/// from an offset to 1970 in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub resolution: u8,
    pub offset_s: i64,
}

/// The block type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketBlock {
    Enhanced,
    /// The block that enhanced packet blocks have replaced.
    Obsolete,
    /// A block without time.
    Simple,
}

/// One section of a pcapng.
#[derive(Clone, Debug)]
pub struct Section {
    pub order: Order,
    pub clocks: Vec<Clock>,
    /// The block types, used for one frame after the other in turn.
    pub blocks: Vec<PacketBlock>,
    /// A block of an unknown type stands before every so many frames; 0 for none.
    pub unknown_every: usize,
    /// The number of frames; the last section has the rest.
    pub frames: usize,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            link: LinkType::ETHERNET,
            precision: Precision::Micro,
            frames: Vec::new(),
        }
    }
}

impl Order {
    fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Little {
            number.to_le_bytes()
        } else {
            number.to_be_bytes()
        }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Little {
            number.to_le_bytes()
        } else {
            number.to_be_bytes()
        }
    }
}

impl Clock {
    /// Returns the tick at or just after a time.
    fn ticks(self, ns: u64) -> u64 {
        let ns = u128::try_from(i128::from(ns) - i128::from(self.offset_s) * 1_000_000_000)
            .expect("a time after the clock's beginning");
        let per_second = match self.resolution {
            exponent @ ..0x80 => 10u128.pow(exponent.into()),
            exponent => 1 << (exponent & 0x7f),
        };
        u64::try_from((ns * per_second).div_ceil(1_000_000_000))
            .expect("a time that this clock can tell")
    }
}

impl Capture {
    pub fn push(&mut self, ns: u64, frame: Vec<u8>) {
        self.frames.push((ns, frame));
    }

    /// Returns a classic pcap, little-endian.
    pub fn to_pcap(&self) -> Vec<u8> {
        self.to_pcap_snapped(usize::MAX)
    }

    /// The same, with at most `snaplen` bytes of each frame.
    pub fn to_pcap_snapped(&self, snaplen: usize) -> Vec<u8> {
        let mut file = file_header(self.link, self.precision, DEFAULT_SNAPLEN).to_vec();
        for (ns, frame) in &self.frames {
            let captured = &frame[..frame.len().min(snaplen)];
            file.extend(record_header(
                *ns,
                self.precision,
                captured.len() as u32,
                frame.len() as u32,
            ));
            file.extend(captured);
        }
        file
    }

    /// Returns a classic pcap in any of its four variants.
    pub fn to_pcap_as(&self, order: Order, precision: Precision) -> Vec<u8> {
        let mut file = Self {
            precision,
            ..self.clone()
        }
        .to_pcap();
        if order == Order::Big {
            for field in [0..4, 4..6, 6..8, 8..12, 12..16, 16..20, 20..24] {
                file[field].reverse();
            }
            let mut at = 24;
            for (_, frame) in &self.frames {
                file[at..at + 16].chunks_mut(4).for_each(<[u8]>::reverse);
                at += 16 + frame.len();
            }
        }
        file
    }

    /// Returns a pcapng of these sections. The frames of a section are spread over its interfaces.
    pub fn to_pcapng(&self, sections: &[Section]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut frames = &self.frames[..];
        for (index, section) in sections.iter().enumerate() {
            let is_last = index + 1 == sections.len();
            let (mine, rest) = frames.split_at(if is_last {
                frames.len()
            } else {
                section.frames.min(frames.len())
            });
            frames = rest;
            section.write(self.link, mine, &mut file);
        }
        file
    }
}

impl Section {
    fn write(&self, link: LinkType, frames: &[(u64, Vec<u8>)], file: &mut Vec<u8>) {
        let order = self.order;
        let version = [order.u16(1), order.u16(0)].concat();
        file.extend(self.block(
            0x0a0d_0d0a,
            &[&order.u32(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat(),
        ));
        for clock in &self.clocks {
            file.extend(self.interface(link, *clock));
        }
        for (index, (ns, frame)) in frames.iter().enumerate() {
            if self.unknown_every > 0 && index % self.unknown_every == 0 {
                file.extend(self.block(
                    0x8000_0b0b + index as u32 % 3,
                    &vec![index as u8; index % 5 * 4],
                ));
            }
            file.extend(self.packet(index, *ns, frame));
        }
    }

    fn interface(&self, link: LinkType, clock: Clock) -> Vec<u8> {
        let order = self.order;
        let offset = if order == Order::Little {
            clock.offset_s.to_le_bytes()
        } else {
            clock.offset_s.to_be_bytes()
        };
        let mut body = [order.u16(link.0), order.u16(0)].concat();
        body.extend(order.u32(0));
        // if_name, of three bytes: options are padded.
        body.extend([order.u16(2), order.u16(3)].concat());
        body.extend(b"eth\0");
        body.extend([order.u16(9), order.u16(1)].concat());
        body.extend([clock.resolution, 0, 0, 0]);
        body.extend([order.u16(14), order.u16(8)].concat());
        body.extend(offset);
        body.extend([0; 4]);
        self.block(1, &body)
    }

    fn packet(&self, index: usize, ns: u64, frame: &[u8]) -> Vec<u8> {
        let order = self.order;
        let interface = index % self.clocks.len();
        let ticks = self.clocks[interface].ticks(ns);
        let [high, low] = [ticks >> 32, ticks & 0xffff_ffff].map(|half| order.u32(half as u32));
        let len = order.u32(frame.len() as u32);
        let mut padded = frame.to_vec();
        padded.resize(frame.len().next_multiple_of(4), 0);
        let comment = [&order.u16(1)[..], &order.u16(5), b"hello\0\0\0", &[0; 4]].concat();
        match self.blocks[index % self.blocks.len()] {
            PacketBlock::Enhanced => {
                let head = [order.u32(interface as u32), high, low, len, len].concat();
                self.block(6, &[head, padded, comment].concat())
            }
            PacketBlock::Obsolete => {
                let interface = [order.u16(interface as u16), order.u16(7)].concat();
                self.block(
                    2,
                    &[interface, [high, low, len, len].concat(), padded].concat(),
                )
            }
            PacketBlock::Simple => self.block(3, &[len.to_vec(), padded].concat()),
        }
    }

    fn block(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let len = self.order.u32(body.len() as u32 + 12);
        [&self.order.u32(kind)[..], &len, body, &len].concat()
    }
}

/// Returns one gzip member.
pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("big.pcap")
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Returns one zstd frame, with a checksum.
pub fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}
