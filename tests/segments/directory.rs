//! A capture as a directory of segments.

use std::ops::Range;

use shared::segment::SegmentName;
use support::dice::Dice;

use super::everything::{Container, Packets};

/// The kind of segment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The agent's names: they sort in capture order.
    Agents,
    /// Names without meaning, for files of all kinds: first packets give the order.
    Anyones,
}

/// A closed segment: its name and its bytes.
pub type Segment = (String, Vec<u8>);

impl Names {
    pub const BOTH: [Self; 2] = [Self::Agents, Self::Anyones];

    /// Cuts a capture into `pieces` random segments.
    pub fn cut(self, packets: &Packets, pieces: usize, dice: &mut Dice) -> Vec<Segment> {
        match self {
            Self::Agents => agents(packets, &packets.cut(pieces, dice)),
            Self::Anyones => anyones(packets, &packets.cut_in_order_of_time(pieces, dice), dice),
        }
    }
}

/// Makes segments of the agent from these stretches; each begins after the packet before it.
pub fn agents(packets: &Packets, stretches: &[Range<usize>]) -> Vec<Segment> {
    let segment = |(number, stretch): (usize, &Range<usize>)| {
        let begun_us = packets.time_before(stretch.start) / 1000;
        let name = SegmentName::new("edge1", "eth0", begun_us, number as u32 + 1);
        (
            name.to_string(),
            packets.file(stretch.clone(), Container::Plain),
        )
    };
    stretches.iter().enumerate().map(segment).collect()
}

fn anyones(packets: &Packets, stretches: &[Range<usize>], dice: &mut Dice) -> Vec<Segment> {
    let segment = |(number, stretch): (usize, &Range<usize>)| {
        let container = *dice.one_of(&Container::ALL);
        let name = format!(
            "{:03}-{number}.{}",
            dice.below(1000),
            packets.ending(container)
        );
        (name, packets.file(stretch.clone(), container))
    };
    stretches.iter().enumerate().map(segment).collect()
}
