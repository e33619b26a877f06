//! Turns packets into records, records into chunks, and chunks into segments. Does no I/O.
//!
//! A packet is copied once, from libpcap's buffer into the chunk that is written to the disk. A
//! chunk goes to the ring when it is full, when its segment ends, or when the kernel has no more
//! packets for now and the disk is idle. So a packet is in the part file soon after the kernel
//! delivered it, on busy and on quiet interfaces.

use std::{mem, sync::Arc};

use shared::{
    pcap::{LinkType, Precision, RECORD_HEADER_LEN, file_header, record_header},
    segment::SegmentName,
    segment_drops::DropCauses,
};

use crate::{
    drops::{CountedDrops, Stretch, WaitingDrops},
    ring::{Beginning, Chunk, HEADER_BYTES, Ring},
    rotation::{Limits, Reason, Rotation},
    tally::Tally,
};

/// One packet, borrowed from libpcap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) timestamp_ns: u64,
    pub(crate) wire_len: u32,
    pub(crate) bytes: &'a [u8],
}

/// The fields of a segment's file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) link: LinkType,
    pub(crate) precision: Precision,
    pub(crate) snaplen: u32,
}

/// Names the segments of a capture point so that they sort in capture order, even after the clock
/// was set back.
#[derive(Clone, Debug)]
pub(crate) struct Namer {
    instance: String,
    interface: String,
    last_start_us: u64,
    sequence: u32,
}

impl Namer {
    /// `newest` is the newest existing segment of this capture point. If it begins in the future,
    /// the new run continues its numbers.
    pub(crate) fn new(
        instance: &str,
        interface: &str,
        newest: Option<&SegmentName>,
        now_ns: u64,
    ) -> Self {
        let (last_start_us, sequence) = match newest {
            Some(name) if name.start_us() >= now_ns / 1000 => (name.start_us(), name.sequence()),
            _ => (0, 0),
        };
        Self {
            instance: instance.to_owned(),
            interface: interface.to_owned(),
            last_start_us,
            sequence,
        }
    }

    fn next(&mut self, start_ns: u64) -> SegmentName {
        self.last_start_us = self.last_start_us.max(start_ns / 1000);
        self.sequence = self.sequence.saturating_add(1);
        SegmentName::new(
            &self.instance,
            &self.interface,
            self.last_start_us,
            self.sequence,
        )
    }
}

/// Makes one interface's segments.
#[derive(Debug)]
pub(crate) struct Gatherer {
    ring: Arc<Ring>,
    tally: Arc<Tally>,
    namer: Namer,
    rotation: Rotation,
    format: Format,
    /// True if each interval gets a segment, even one without packets.
    wants_empty: bool,
    /// True while a segment has begun and has not ended.
    is_open: bool,
    /// The number of the segment, from 1, and its beginning in nanoseconds since 1970.
    segment: u64,
    start_ns: u64,
    /// The latest time that belongs to the segment, of a packet or of a moment without packets.
    latest_ns: u64,
    chunk: Chunk,
    drops: WaitingDrops,
    counted: Arc<CountedDrops>,
}

impl Gatherer {
    pub(crate) fn new(
        ring: Arc<Ring>,
        tally: Arc<Tally>,
        counted: Arc<CountedDrops>,
        namer: Namer,
        limits: Limits,
        format: Format,
        wants_empty: bool,
    ) -> Self {
        let chunk = Chunk {
            records: ring.buffer(),
            ..Chunk::default()
        };
        Self {
            ring,
            tally,
            namer,
            rotation: Rotation::new(limits),
            format,
            wants_empty,
            is_open: false,
            segment: 0,
            start_ns: 0,
            latest_ns: 0,
            chunk,
            drops: WaitingDrops::default(),
            counted,
        }
    }

    /// Appends a packet. If neither the chunk nor the ring has room, drops and counts it.
    #[inline]
    pub(crate) fn append(&mut self, frame: &Frame<'_>) {
        let captured_len = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        let record_len = RECORD_HEADER_LEN.saturating_add(frame.bytes.len());
        let record_bytes = u64::try_from(record_len).unwrap_or(u64::MAX);
        if self.is_open
            && self.chunk.ends.is_none()
            && let Some(reason) = self.rotation.ends_before(frame.timestamp_ns, record_bytes)
        {
            self.end(reason, frame.timestamp_ns);
        }
        if (self.chunk.ends.is_some() || !self.has_room(record_len)) && !self.hand_over() {
            self.drop(frame.timestamp_ns);
            return;
        }
        if !self.is_open {
            self.begin(frame.timestamp_ns);
        }
        self.rotation.add(record_bytes);
        self.latest_ns = self.latest_ns.max(frame.timestamp_ns);
        let header = record_header(
            frame.timestamp_ns,
            self.format.precision,
            captured_len,
            frame.wire_len,
        );
        self.chunk.records.extend_from_slice(&header);
        self.chunk.records.extend_from_slice(frame.bytes);
        self.chunk.packets = self.chunk.packets.saturating_add(1);
    }

    /// Handles a moment at which the kernel has no more packets. Packets that are still to come are
    /// younger than `now_ns`.
    pub(crate) fn settle(&mut self, now_ns: u64) {
        if self.wants_empty && !self.is_open {
            self.begin(now_ns);
        }
        if self.is_open && self.chunk.ends.is_none() {
            match self.rotation.ends_at(now_ns) {
                Some(reason) => self.end(reason, now_ns),
                None => self.latest_ns = self.latest_ns.max(now_ns),
            }
        }
        if self.chunk.ends.is_some() {
            if self.hand_over() && self.wants_empty {
                self.begin(now_ns);
            }
        } else if !self.chunk.records.is_empty() && self.ring.is_empty() {
            self.hand_over();
        }
    }

    /// Ends the segment: packets later than `at_ns` belong to the next one.
    pub(crate) fn rotate(&mut self, at_ns: u64) {
        if self.is_open {
            self.rotation.ask(at_ns);
        }
    }

    /// Sets the format of the packets to come. If it differs, the current segment ends.
    pub(crate) fn set_format(&mut self, format: Format) {
        if mem::replace(&mut self.format, format) != format
            && self.is_open
            && self.chunk.ends.is_none()
        {
            self.end(Reason::LinkChanged, 0);
        }
    }

    /// Ends the last segment and closes the ring. All drops are noted.
    pub(crate) fn finish(mut self) {
        if self.is_open && self.chunk.ends.is_none() {
            self.end(Reason::End, 0);
        }
        self.drops.assign(&self.counted);
        self.ring.close(self.chunk);
    }

    /// Returns how many packets of any size fit for sure: a chunk holds at least one.
    pub(crate) fn room(&self) -> usize {
        self.ring.free_chunks()
    }

    /// Notes packets that were dropped between two times, in nanoseconds since 1970.
    pub(crate) fn note_drops(&mut self, from_ns: u64, until_ns: u64, causes: DropCauses) {
        self.drops.add(from_ns, until_ns, causes);
    }

    /// True when a segment has ended since [`Self::assign_drops`].
    #[inline]
    pub(crate) fn awaits_drops(&self) -> bool {
        self.drops.has_ended()
    }

    /// Assigns the drops to the segments that have ended: all drops so far are noted.
    pub(crate) fn assign_drops(&mut self) {
        self.drops.assign(&self.counted);
    }

    /// Ends the segment before the time `at_ns`, if the reason depends on a time.
    #[cold]
    fn end(&mut self, reason: Reason, at_ns: u64) {
        let until_ns = match reason {
            Reason::Time | Reason::Size | Reason::Asked => Some(at_ns),
            Reason::ClockSetBack | Reason::LinkChanged | Reason::End => None,
        };
        self.chunk.ends = Some(reason);
        self.chunk.stretch = Stretch {
            number: self.segment,
            from_ns: self.start_ns,
            until_ns,
            latest_ns: self.latest_ns,
        };
        self.drops.end(self.chunk.stretch);
    }

    /// Counts a packet that has no room.
    #[cold]
    fn drop(&mut self, timestamp_ns: u64) {
        self.tally.disk_dropped.add(1);
        let causes = DropCauses {
            agent: 1,
            ..DropCauses::default()
        };
        self.drops.add(timestamp_ns, timestamp_ns, causes);
    }

    fn has_room(&self, record_len: usize) -> bool {
        let chunk = &self.chunk.records;
        // A packet larger than a chunk gets a chunk of its own, which grows.
        chunk.is_empty() || record_len <= chunk.capacity().saturating_sub(chunk.len())
    }

    fn begin(&mut self, start_ns: u64) {
        let Format {
            link,
            precision,
            snaplen,
        } = self.format;
        let header = file_header(link, precision, snaplen);
        self.chunk.begins = Some(Beginning {
            name: self.namer.next(start_ns),
            header,
        });
        self.rotation.begin(start_ns, HEADER_BYTES);
        self.is_open = true;
        self.segment = self.segment.saturating_add(1);
        self.start_ns = start_ns;
        self.latest_ns = start_ns;
    }

    /// Pushes the chunk to the ring and begins another. Returns false if the ring is full.
    fn hand_over(&mut self) -> bool {
        let ends = self.chunk.ends.is_some();
        let is_taken = self.ring.push(&mut self.chunk);
        if is_taken {
            self.chunk.records = self.ring.buffer();
            self.is_open &= !ends;
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use proptest::prelude::*;
    use shared::pcap::{Layout, Step};

    use super::*;
    use crate::ring::{CHUNK_BYTES, Taken};

    const S: u64 = 1_000_000_000;
    const T0: u64 = 1_700_000_000 * S;
    const FORMAT: Format = Format {
        link: LinkType::ETHERNET,
        precision: Precision::Nano,
        snaplen: 262_144,
    };
    const MINUTE: Limits = Limits {
        every_ns: NonZeroU64::new(60 * S),
        bytes: None,
    };

    fn gatherer(limits: Limits, ring_bytes: usize) -> Gatherer {
        let namer = Namer::new("edge1", "eth0", None, T0);
        Gatherer::new(
            Arc::new(Ring::new(ring_bytes)),
            Arc::default(),
            Arc::default(),
            namer,
            limits,
            FORMAT,
            false,
        )
    }

    fn frame(timestamp_ns: u64, bytes: &[u8]) -> Frame<'_> {
        Frame {
            timestamp_ns,
            wire_len: bytes.len() as u32,
            bytes,
        }
    }

    /// The time and the bytes of a packet.
    type Record = (u64, Vec<u8>);

    /// Reads whole segments from the ring: names, reasons, records.
    fn segments(ring: &Ring) -> Vec<(SegmentName, Option<Reason>, Vec<Record>)> {
        let mut segments = Vec::new();
        let mut file = Vec::new();
        let mut packets = 0;
        while let Taken::Chunk(chunk) = ring.take(Duration::ZERO) {
            if let Some(Beginning { name, header }) = chunk.begins {
                segments.push((name, None, Vec::new()));
                (file, packets) = (header.to_vec(), 0);
            }
            file.extend(chunk.records);
            packets += chunk.packets;
            let Some((_, reason, records)) = segments.last_mut() else {
                continue;
            };
            *reason = reason.or(chunk.ends);
            *records = read(&file);
            assert_eq!(records.len() as u64, packets);
        }
        segments
    }

    fn read(file: &[u8]) -> Vec<Record> {
        let (layout, start) = Layout::detect(file).unwrap();
        let mut walk = layout.walk(file, start);
        let mut records = Vec::new();
        while let Some(step) = walk.next_step() {
            let Step::Record(record) = step else {
                panic!("{step:?}")
            };
            records.push((record.timestamp_ns.unwrap(), record.frame.to_vec()));
        }
        records
    }

    #[test]
    fn packets_go_to_the_segment_of_their_minute() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        let minute = T0 / (60 * S) * 60 * S;
        let times = [
            minute + 59 * S,
            minute + 60 * S - 1,
            minute + 60 * S,
            minute + 190 * S,
        ];
        times
            .iter()
            .for_each(|&time| gatherer.append(&frame(time, &time.to_be_bytes())));
        let ring = Arc::clone(&gatherer.ring);
        gatherer.finish();
        let segments = segments(&ring);
        let got: Vec<Vec<u64>> = segments
            .iter()
            .map(|(_, _, records)| records.iter().map(|(time, _)| *time).collect())
            .collect();
        assert_eq!(
            got,
            [
                times[..2].to_vec(),
                times[2..3].to_vec(),
                times[3..].to_vec()
            ]
        );
        let reasons: Vec<_> = segments
            .iter()
            .map(|(_, reason, _)| reason.unwrap())
            .collect();
        assert_eq!(reasons, [Reason::Time, Reason::Time, Reason::End]);
        assert!(segments.is_sorted_by(|(a, ..), (b, ..)| a < b && a.to_string() < b.to_string()));
        assert_eq!(
            segments[0].0.start_us(),
            times[0] / 1000,
            "a segment is named by its first packet"
        );
    }

    #[test]
    fn time_ends_a_segment_without_a_packet_and_begins_none() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        gatherer.settle(T0);
        gatherer.append(&frame(T0, b"one"));
        gatherer.settle(T0 + S);
        (0..600).for_each(|minutes| gatherer.settle(T0 + 60 * S + minutes * 60 * S));
        let segments = segments(&gatherer.ring);
        assert_eq!(segments.len(), 1);
        assert_eq!(
            (segments[0].1, segments[0].2.len()),
            (Some(Reason::Time), 1)
        );
    }

    #[test]
    fn drops_go_to_the_segment_of_their_time_when_the_counters_have_been_read() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        let minute = T0 / (60 * S) * 60 * S;
        let kernel = |packets| DropCauses {
            kernel: packets,
            ..DropCauses::default()
        };
        let counted = Arc::clone(&gatherer.counted);
        gatherer.append(&frame(minute + 10 * S, b"one"));
        gatherer.note_drops(minute + 58 * S, minute + 59 * S, kernel(3));
        gatherer.assign_drops();
        gatherer.append(&frame(minute + 60 * S, b"two"));
        assert!(gatherer.awaits_drops() && !counted.are_of(1));
        gatherer.note_drops(minute + 59 * S, minute + 60 * S + 1000, kernel(4));
        gatherer.note_drops(minute + 62 * S, minute + 63 * S, kernel(5));
        gatherer.assign_drops();
        assert!(!gatherer.awaits_drops());
        gatherer.finish();
        let [first, second] = [1, 2].map(|number| counted.take(number).unwrap());
        assert_eq!((first.packets(), second.packets()), (7, 5));
        assert_eq!(first.from_us(), (minute + 10 * S) / 1000);
        assert_eq!(first.until_us(), (minute + 60 * S) / 1000);
        assert_eq!(second.until_us(), (minute + 63 * S) / 1000);
    }

    #[test]
    fn the_last_segment_covers_its_packets_and_the_silence_after_them() {
        let until_us = |steps: &dyn Fn(&mut Gatherer)| {
            let mut gatherer = gatherer(MINUTE, 1 << 24);
            let counted = Arc::clone(&gatherer.counted);
            gatherer.append(&frame(T0, b"one"));
            steps(&mut gatherer);
            gatherer.finish();
            let drops = counted.take(1).unwrap();
            assert_eq!((drops.packets(), drops.from_us()), (0, T0 / 1000));
            drops.until_us()
        };
        let microsecond = |ns: u64| (T0 + ns) / 1000 + 1;
        assert_eq!(until_us(&|_| ()), microsecond(0));
        let later = |gatherer: &mut Gatherer| gatherer.append(&frame(T0 + 5 * S, b"two"));
        assert_eq!(until_us(&later), microsecond(5 * S));
        let silent = |gatherer: &mut Gatherer| gatherer.settle(T0 + 7 * S);
        assert_eq!(until_us(&silent), microsecond(7 * S));
        let set_back = |gatherer: &mut Gatherer| {
            gatherer.append(&frame(T0 + 5 * S, b"two"));
            gatherer.append(&frame(T0 - 3600 * S, b"three"));
        };
        assert_eq!(until_us(&set_back), microsecond(5 * S));
    }

    #[test]
    fn a_packet_without_room_is_dropped_in_the_segment_of_its_time() {
        let mut gatherer = gatherer(MINUTE, 2 * CHUNK_BYTES);
        let (ring, counted) = (Arc::clone(&gatherer.ring), Arc::clone(&gatherer.counted));
        let bytes = [7; 1000];
        let fits = 3 * (CHUNK_BYTES / 1016) as u64;
        (0..fits + 100).for_each(|ns| gatherer.append(&frame(T0 + ns, &bytes)));
        gatherer.append(&frame(T0 + 60 * S, &bytes));
        while let Taken::Chunk(_) = ring.take(Duration::ZERO) {}
        gatherer.append(&frame(T0 + 61 * S, &bytes));
        gatherer.finish();
        let [first, second] = [1, 2].map(|number| counted.take(number).unwrap());
        assert_eq!((first.packets(), second.packets()), (100, 1));
        assert_eq!(first.drops()[0].from_us, T0 / 1000);
        assert_eq!(second.drops()[0].from_us, second.from_us());
    }

    #[test]
    fn empty_segments_are_made_where_they_are_wanted() {
        let mut gatherer = Gatherer {
            wants_empty: true,
            ..gatherer(MINUTE, 1 << 24)
        };
        (0..3).for_each(|minutes| gatherer.settle(T0 + minutes * 60 * S));
        let ring = Arc::clone(&gatherer.ring);
        gatherer.finish();
        let reasons: Vec<_> = segments(&ring)
            .into_iter()
            .map(|(_, reason, records)| (reason.unwrap(), records.len()))
            .collect();
        assert_eq!(
            reasons,
            [(Reason::Time, 0), (Reason::Time, 0), (Reason::End, 0)]
        );
    }

    #[test]
    fn a_requested_rotation_needs_an_open_segment() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        gatherer.rotate(T0);
        gatherer.append(&frame(T0 + 1, b"one"));
        gatherer.append(&frame(T0 + 2, b"two"));
        gatherer.rotate(T0 + 3);
        gatherer.append(&frame(T0 + 3, b"three"));
        gatherer.rotate(T0 + 4);
        (5..100).for_each(|ns| {
            gatherer.settle(T0 + ns);
            gatherer.rotate(T0 + ns);
        });
        let got: Vec<_> = segments(&gatherer.ring)
            .into_iter()
            .map(|(_, reason, records)| (reason, records.len()))
            .collect();
        assert_eq!(got, [(Some(Reason::Asked), 2), (Some(Reason::Asked), 1)]);
    }

    #[test]
    fn a_chunk_goes_when_it_is_full_or_the_disk_is_idle() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        let bytes = [7; 1000];
        (0..1000).for_each(|ns| gatherer.append(&frame(T0 + ns, &bytes)));
        let mut chunks = Vec::new();
        while let Taken::Chunk(chunk) = gatherer.ring.take(Duration::ZERO) {
            chunks.push(chunk.records.len());
            assert_eq!(chunk.records.capacity(), CHUNK_BYTES);
        }
        assert_eq!(chunks, vec![CHUNK_BYTES / 1016 * 1016; 3]);
        gatherer.settle(T0 + 1000);
        assert!(
            !gatherer.ring.is_empty(),
            "the rest, because the disk has nothing to do"
        );
        gatherer.append(&frame(T0 + 1001, &bytes));
        gatherer.settle(T0 + 1002);
        let Taken::Chunk(rest) = gatherer.ring.take(Duration::ZERO) else {
            panic!()
        };
        assert_eq!(rest.packets as usize, 1000 - 3 * (CHUNK_BYTES / 1016));
        assert!(
            gatherer.ring.is_empty(),
            "the disk had something to do when the last one came"
        );
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_memory_first_and_counted_packets_then() {
        let mut gatherer = gatherer(MINUTE, 2 * CHUNK_BYTES);
        let bytes = [7; 1000];
        let fits = 3 * (CHUNK_BYTES / 1016) as u64;
        (0..fits + 100).for_each(|ns| gatherer.append(&frame(T0 + ns, &bytes)));
        assert_eq!(gatherer.tally.disk_dropped.get(), 100);
        // Time passes, and rotation is due; then the disk takes one chunk.
        gatherer.append(&frame(T0 + 60 * S, &bytes));
        gatherer.settle(T0 + 61 * S);
        assert_eq!(gatherer.tally.disk_dropped.get(), 101);
        let Taken::Chunk(first) = gatherer.ring.take(Duration::ZERO) else {
            panic!()
        };
        gatherer.append(&frame(T0 + 62 * S, b"last"));
        let ring = Arc::clone(&gatherer.ring);
        gatherer.finish();
        let kept = segments(&ring);
        assert_eq!(first.packets, fits / 3);
        assert_eq!(
            kept.len(),
            1,
            "the first segment's beginning went with the first chunk: {kept:?}"
        );
        assert_eq!(kept[0].2, [(T0 + 62 * S, b"last".to_vec())]);
    }

    #[test]
    fn packets_of_any_size_are_taken() {
        let mut gatherer = gatherer(
            Limits {
                every_ns: None,
                bytes: NonZeroU64::new(1000),
            },
            1 << 24,
        );
        let large = vec![1; 262_144];
        [&large[..], b"", &large]
            .iter()
            .enumerate()
            .for_each(|(ns, bytes)| gatherer.append(&frame(T0 + ns as u64, bytes)));
        let ring = Arc::clone(&gatherer.ring);
        gatherer.finish();
        let lens: Vec<Vec<usize>> = segments(&ring)
            .iter()
            .map(|(_, _, records)| records.iter().map(|(_, bytes)| bytes.len()).collect())
            .collect();
        assert_eq!(lens, [[262_144], [0], [262_144]]);
    }

    #[test]
    fn another_link_type_goes_to_another_segment() {
        let mut gatherer = gatherer(MINUTE, 1 << 24);
        gatherer.append(&frame(T0, b"one"));
        gatherer.set_format(FORMAT);
        gatherer.append(&frame(T0, b"two"));
        gatherer.set_format(Format {
            link: LinkType::RAW,
            ..FORMAT
        });
        gatherer.append(&frame(T0, b"three"));
        let ring = Arc::clone(&gatherer.ring);
        gatherer.finish();
        let got: Vec<_> = segments(&ring)
            .into_iter()
            .map(|(_, reason, records)| (reason.unwrap(), records.len()))
            .collect();
        assert_eq!(got, [(Reason::LinkChanged, 2), (Reason::End, 1)]);
    }

    #[test]
    fn names_sort_in_capture_order_whatever_the_clock_does() {
        let mut namer = Namer::new("edge1", "eth0", None, T0);
        let mut names: Vec<_> = [T0, T0 + S, T0 - 3600 * S, T0 - 3600 * S, T0 + 2 * S]
            .map(|start| namer.next(start))
            .to_vec();
        // The next run begins while the clock is still behind, the one after it when the clock is
        // right again.
        let mut namer = Namer::new("edge1", "eth0", names.last(), T0 - 1800 * S);
        names.extend([namer.next(T0 - 1800 * S), namer.next(T0 + 3 * S)]);
        let mut namer = Namer::new("edge1", "eth0", names.last(), T0 + 10 * S);
        names.push(namer.next(T0 + 10 * S));
        assert!(
            names.is_sorted_by(|a, b| a < b && a.to_string() < b.to_string()),
            "{names:?}"
        );
        assert_eq!(names.last().map(SegmentName::sequence), Some(1));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Packet { later_ns: i64, len: usize },
        Silence { ns: u64 },
        Asked,
        AnotherLink(u16),
        DiskTakes(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (-3_000_000_000i64..8_000_000_000, 0usize..40_000).prop_map(|(later_ns, len)| Event::Packet { later_ns, len }),
            2 => (0u64..90_000_000_000).prop_map(|ns| Event::Silence { ns }),
            1 => Just(Event::Asked),
            1 => (0u16..3).prop_map(Event::AnotherLink),
            3 => (0usize..4).prop_map(Event::DiskTakes),
        ]
    }

    proptest! {
        /// For any events in any order, and any speed of the disk: every packet is in a segment,
        /// once and in its place, or it is counted as dropped; and every segment is a capture that
        /// can be read alone.
        #[test]
        fn every_packet_is_in_a_segment_or_counted(events in proptest::collection::vec(event(), 0..200), wants_empty in any::<bool>()) {
            let limits = Limits { bytes: NonZeroU64::new(100_000), ..MINUTE };
            let mut gatherer = Gatherer { wants_empty, ..gatherer(limits, 2 * CHUNK_BYTES) };
            let (ring, tally, disk) = (Arc::clone(&gatherer.ring), Arc::clone(&gatherer.tally), Ring::new(usize::MAX));
            let (mut now, mut sent) = (T0, Vec::new());
            for event in events {
                match event {
                    Event::Packet { later_ns, len } => {
                        now = now.saturating_add_signed(later_ns);
                        let mut bytes = vec![0; len];
                        bytes.extend((sent.len() as u64).to_be_bytes());
                        gatherer.append(&frame(now, &bytes));
                        sent.push((now, bytes));
                    }
                    Event::Silence { ns } => {
                        now += ns;
                        gatherer.settle(now);
                    }
                    Event::Asked => gatherer.rotate(now),
                    Event::AnotherLink(link) => gatherer.set_format(Format { link: LinkType(link), ..FORMAT }),
                    Event::DiskTakes(chunks) => {
                        for _ in 0..chunks {
                            if let Taken::Chunk(mut chunk) = ring.take(Duration::ZERO) {
                                assert!(disk.push(&mut chunk));
                            }
                        }
                    }
                }
            }
            gatherer.finish();
            while let Taken::Chunk(mut chunk) = ring.take(Duration::ZERO) {
                assert!(disk.push(&mut chunk));
            }
            let segments = segments(&disk);
            prop_assert!(segments.iter().all(|(_, reason, records)| reason.is_some() && (wants_empty || !records.is_empty())));
            prop_assert!(segments.is_sorted_by(|(a, ..), (b, ..)| a < b && a.to_string() < b.to_string()));
            let kept: Vec<&Record> = segments.iter().flat_map(|(_, _, records)| records).collect();
            let mut rest = sent.iter();
            prop_assert!(kept.iter().all(|record| rest.any(|sent| sent == *record)), "in order, each once, as it was sent");
            prop_assert_eq!(kept.len() as u64 + tally.disk_dropped.get(), sent.len() as u64);
        }
    }
}
