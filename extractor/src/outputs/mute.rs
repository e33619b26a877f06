//! The sound in a frame (SPEC 1.1, `--no-rtp-dump`): the payload of RTP, be it sound, pictures or
//! digits. All else stays.

use std::ops::Range;

use crate::{
    packet::{Datagram, Decoder, Fragment, Packet},
    reassembly::Name as DatagramName,
    rtp::Header,
};

/// The whole of an IP datagram, however long it is.
const ALL: Range<usize> = 0..usize::MAX;

/// The place of the sound in a frame, in bytes. If it holds a fragment other than the first,
/// `first` is what the first one's frame holds; what cannot be told is taken for sound.
pub(super) fn sound(
    frame: &[u8],
    packet: &Packet<'_>,
    decoder: &Decoder,
    first: Option<Packet<'_>>,
) -> Option<Range<usize>> {
    match packet {
        Packet::Udp(datagram) | Packet::Told(_, datagram) => {
            let (sound, payload) = (sound_in(frame, datagram)?, place(frame, datagram.payload)?);
            Some(sound.start..sound.end.min(payload.end))
        }
        Packet::Fragment(fragment) => {
            let sound = first.map_or(Some(ALL), |first| {
                sound_of_datagram(fragment, first, decoder)
            })?;
            let payload = place(frame, fragment.payload)?;
            let at = |in_datagram: usize| {
                let in_fragment = in_datagram.saturating_sub(fragment.offset);
                payload.start.saturating_add(in_fragment).min(payload.end)
            };
            Some(at(sound.start)..at(sound.end))
        }
        _ => None,
    }
}

/// The place of the sound in the IP datagram that a fragment belongs to. A packet may have been cut
/// again on its way through a tunnel: then its first frame holds first fragments in each other, of
/// which one may be that datagram's.
fn sound_of_datagram(
    fragment: &Fragment<'_>,
    mut first: Packet<'_>,
    decoder: &Decoder,
) -> Option<Range<usize>> {
    let mut of_datagram = None;
    // A trailer may stand behind a fragment that is inside.
    let mut end = usize::MAX;
    while let Packet::Fragment(outer) = first {
        let Some(inner) = decoder.decode_first(&outer) else {
            break;
        };
        if DatagramName::of(&outer) == DatagramName::of(fragment) {
            of_datagram = Some(outer);
        }
        if let (Some(whole), Packet::Fragment(part)) = (of_datagram, inner) {
            end = place(whole.payload, part.payload)?
                .start
                .saturating_add(part.wire_len);
        }
        first = inner;
    }
    let (Packet::Udp(datagram) | Packet::Told(_, datagram)) = first else {
        return Some(ALL);
    };
    match of_datagram {
        _ if Header::may_begin(datagram.payload, datagram.wire_len) => Some(ALL),
        Some(outer) => {
            sound_in(outer.payload, &datagram).map(|sound| sound.start..sound.end.min(end))
        }
        // It belongs to a later fragment of what is inside.
        None => headers_len(&datagram).map(|_| ALL),
    }
}

/// The place of the sound of a datagram, as it is or would be if all of it were there, in bytes
/// from the beginning of what it was taken out of.
fn sound_in(whole: &[u8], datagram: &Datagram<'_>) -> Option<Range<usize>> {
    let start = place(whole, datagram.payload)?.start;
    let end = start
        .saturating_add(datagram.wire_len)
        .saturating_sub(usize::from(is_padded(datagram)));
    Some(start.saturating_add(headers_len(datagram)?)..end)
}

/// The length of all that comes before the sound in a packet that is RTP, in bytes.
fn headers_len(datagram: &Datagram<'_>) -> Option<usize> {
    Header::len(datagram.payload, datagram.wire_len)
}

/// Tells whether the last byte says how many are padding, itself included: RFC 3550, 5.1. A reader
/// needs it.
fn is_padded(datagram: &Datagram<'_>) -> bool {
    datagram
        .payload
        .first()
        .is_some_and(|first| first & 0x20 != 0)
}

/// The place in `whole` of a part that was taken out of it.
fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start
        .checked_add(part.len())
        .filter(|end| *end <= whole.len())?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_place() {
        let whole = [1, 2, 3, 4];
        assert_eq!(place(&whole, &whole[1..3]), Some(1..3));
        assert_eq!(place(&whole, &whole[4..]), Some(4..4));
        assert_eq!(place(&whole[1..], &whole), None);
        assert_eq!(place(&whole[..2], &whole[1..]), None);
    }
}
