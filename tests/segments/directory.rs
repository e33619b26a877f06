//! A capture as a directory of segments has it.

use std::ops::Range;

use shared::segment::SegmentName;
use support::dice::Dice;

use super::everything::{Container, Packets};

/// What segments are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As the agent calls them: names sort in capture order.
    Agents,
    /// Names that tell nothing, of files of all kinds: first packets tell the order.
    Anyones,
}

/// A closed segment: its name, and what is in it.
pub type Segment = (String, Vec<u8>);

impl Names {
    pub const BOTH: [Self; 2] = [Self::Agents, Self::Anyones];

    /// Cuts a capture into so many segments, as chance has it.
    pub fn cut(self, packets: &Packets, pieces: usize, dice: &mut Dice) -> Vec<Segment> {
        match self {
            Self::Agents => agents(packets, &packets.cut(pieces, dice)),
            Self::Anyones => anyones(packets, &packets.cut_in_order_of_time(pieces, dice), dice),
        }
    }
}

/// These stretches as segments of the agent, each begun when the packet before it had come.
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
