//! IP packets that were captured twice: at two points of the network, or twice at one point.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::pcap::Record;

use crate::{events::Table, moment::Clock, packet};

/// The longest distance between copies of a packet, in packet time: less than any protocol needs to
/// send the same packet again.
const MAX_APART_NS: u64 = 50_000_000;

/// The most packets that are remembered: somewhat more than 10 Gbit/s of the smallest frames bring
/// in that time. Where timestamps stand still, the oldest packets are forgotten first.
const MAX_REMEMBERED: usize = 1 << 20;

/// 128 bits of SHA-256: nobody can make two packets with the same fingerprint. A faster hash would
/// need a secret key that is the same in every run.
type Fingerprint = [u8; 16];

/// The latest IP packets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "StoredPackets")]
pub struct RecentPackets {
    /// The oldest first, except for late capture points.
    in_order: VecDeque<(Clock, Fingerprint)>,
    /// The latest time of each packet.
    #[serde(skip)]
    came: Table<Fingerprint, Clock>,
}

/// The stored part of [`RecentPackets`]: the rest follows from it.
#[derive(Deserialize)]
struct StoredPackets {
    in_order: VecDeque<(Clock, Fingerprint)>,
}

impl From<StoredPackets> for RecentPackets {
    fn from(StoredPackets { in_order }: StoredPackets) -> Self {
        let came = in_order
            .iter()
            .map(|&(clock, fingerprint)| (fingerprint, clock))
            .collect();
        Self { in_order, came }
    }
}

impl RecentPackets {
    /// True when a frame at packet time `clock` holds an IP packet that is remembered. Otherwise
    /// its packet is remembered now. A frame without IP is never a copy.
    pub(super) fn is_repeated(&mut self, record: &Record<'_>, clock: Clock) -> bool {
        self.forget_far_from(clock);
        let Some(fingerprint) = fingerprint(record) else {
            return false;
        };
        if self
            .came
            .get(&fingerprint)
            .is_some_and(|came| came.abs_diff(clock) <= MAX_APART_NS)
        {
            return true;
        }
        if self.in_order.len() >= MAX_REMEMBERED {
            self.forget_oldest();
        }
        self.came.insert(fingerprint, clock);
        self.in_order.push_back((clock, fingerprint));
        false
    }

    fn forget_far_from(&mut self, clock: Clock) {
        while self
            .in_order
            .front()
            .is_some_and(|(came, _)| came.abs_diff(clock) > MAX_APART_NS)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((clock, fingerprint)) = self.in_order.pop_front() else {
            return;
        };
        // The packet may have been captured again since, too late to be a copy.
        if self.came.get(&fingerprint) == Some(&clock) {
            self.came.remove(&fingerprint);
        }
    }
}

/// A fingerprint of the bytes of an IP packet and of its length on the wire: copies have the same.
fn fingerprint(record: &Record<'_>) -> Option<Fingerprint> {
    let packet = packet::outermost_ip(record.link, record.frame)?;
    let wire_len = packet.declared_len.unwrap_or_else(|| {
        let header_len = record.frame.len().saturating_sub(packet.captured.len());
        (record.wire_len as usize).saturating_sub(header_len)
    });
    let digest = Sha256::new()
        .chain_update((wire_len as u64).to_le_bytes())
        .chain_update(packet.captured)
        .finalize();
    digest.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::pcap::{LinkType, Precision};

    const MS: u64 = 1_000_000;
    const ETHERNET: &[u8] = &[2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0];
    const OTHER_ETHERNET: &[u8] = &[3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 0x81, 0, 0, 7, 8, 0];

    fn ip(body: &[u8]) -> Vec<u8> {
        let len = (20 + body.len() as u16).to_be_bytes();
        [
            &[
                0x45, 0, len[0], len[1], 0, 9, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
            ],
            body,
        ]
        .concat()
    }

    fn record(frame: &[u8]) -> Record<'_> {
        let (link, precision) = (LinkType::ETHERNET, Precision::Micro);
        Record {
            offset: 0,
            timestamp_ns: Some(0),
            wire_len: frame.len() as u32,
            link,
            precision,
            frame,
        }
    }

    /// For each frame, true when it holds an earlier packet.
    fn repeated(frames: &[(u64, &[u8])]) -> Vec<bool> {
        let mut recent = RecentPackets::default();
        frames
            .iter()
            .map(|(clock, frame)| recent.is_repeated(&record(frame), *clock))
            .collect()
    }

    #[test]
    fn what_stands_around_ip_does_not_count() {
        let packet = ip(b"abc");
        let frame = [ETHERNET, &packet].concat();
        let padded = [ETHERNET, &packet, &[0; 20]].concat();
        let tagged = [OTHER_ETHERNET, &packet, b"trailer"].concat();
        let other = [ETHERNET, &ip(b"abd")].concat();
        assert_eq!(
            repeated(&[(0, &frame), (1, &padded), (2, &tagged), (3, &other)]),
            [false, true, true, false]
        );
        let mut recent = RecentPackets::default();
        assert!(!recent.is_repeated(&record(&frame), 0));
        assert!(
            recent.is_repeated(
                &Record {
                    link: LinkType::RAW,
                    ..record(&packet)
                },
                0
            ),
            "another link type"
        );
    }

    #[test]
    fn copies_come_within_fifty_milliseconds() {
        let frame = [ETHERNET, &ip(b"abc")].concat();
        let at = |clocks: &[u64]| {
            repeated(
                &clocks
                    .iter()
                    .map(|clock| (*clock, &frame[..]))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(at(&[0, 50 * MS]), [false, true]);
        assert_eq!(at(&[0, 50 * MS + 1]), [false, false]);
        assert_eq!(
            at(&[0, 40 * MS, 80 * MS, 120 * MS]),
            [false, true, false, true],
            "a copy that is left out has no copies itself"
        );
        assert_eq!(
            at(&[900 * MS, 860 * MS, 0, 0]),
            [false, true, false, true],
            "late capture points"
        );
    }

    #[test]
    fn only_ip_is_looked_at() {
        let arp = [&ETHERNET[..12], &[8, 6], &[0; 28]].concat();
        let cut = [ETHERNET, &ip(b"")[..19]].concat();
        assert_eq!(
            repeated(&[
                (0, &arp),
                (0, &arp),
                (0, &cut),
                (0, &cut),
                (0, &[]),
                (0, &[])
            ]),
            [false; 6]
        );
    }

    #[test]
    fn snapped_frames_are_compared_by_what_there_is_and_their_length_on_the_wire() {
        let frame = [ETHERNET, &ip(b"abcdef")].concat();
        let snapped = |len: usize| Record {
            wire_len: frame.len() as u32,
            ..record(&frame[..len])
        };
        let mut recent = RecentPackets::default();
        assert!(!recent.is_repeated(&snapped(frame.len()), 0));
        assert!(!recent.is_repeated(&snapped(36), 0), "less of it");
        assert!(recent.is_repeated(&snapped(36), 0));
        // Without a length of its own, as before a network card fills it in, a packet is as long as
        // its frame.
        let mut offloaded = frame.clone();
        offloaded[16..18].copy_from_slice(&[0, 0]);
        let of_wire_len = |wire_len| Record {
            wire_len,
            ..record(&offloaded)
        };
        assert!(!recent.is_repeated(&of_wire_len(40), 0));
        assert!(!recent.is_repeated(&of_wire_len(41), 0));
        assert!(recent.is_repeated(&of_wire_len(40), 0));
    }

    #[test]
    fn they_are_remembered_from_run_to_run() {
        let frame = [ETHERNET, &ip(b"abc")].concat();
        let mut recent = RecentPackets::default();
        assert!(!recent.is_repeated(&record(&frame), 7));
        let stored = postcard::to_stdvec(&recent).unwrap();
        let mut recent: RecentPackets = postcard::from_bytes(&stored).unwrap();
        assert!(recent.is_repeated(&record(&frame), 7 + 50 * MS));
        assert!(!recent.is_repeated(&record(&frame), 8 + 50 * MS));
        assert_eq!(recent.in_order.len(), 1, "old packets are forgotten");
        assert_eq!(recent.came.len(), 1);
    }

    #[test]
    fn memory_is_bounded_where_time_stands_still() {
        let mut recent = RecentPackets::default();
        let frames = |n: u32| [ETHERNET, &ip(&n.to_be_bytes())].concat();
        let count = MAX_REMEMBERED as u32 + 2;
        assert!((0..count).all(|n| !recent.is_repeated(&record(&frames(n)), 0)));
        assert_eq!(
            (recent.in_order.len(), recent.came.len()),
            (MAX_REMEMBERED, MAX_REMEMBERED)
        );
        assert!(recent.is_repeated(&record(&frames(2)), 0));
        assert!(!recent.is_repeated(&record(&frames(1)), 0));
    }
}
