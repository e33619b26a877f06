//! Finds the payload of RTP in a frame (`--no-rtp-dump`, `--headers-only`): audio, video or digits.
//! Everything else in the frame is kept.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use shared::pcap::LinkType;

use crate::{
    calls::Call,
    packet::{Datagram, Decoder, Fragment, Packet},
    reassembly::DatagramId,
    rtp::Header,
    selection::Selection,
};

/// The form in which the media of a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MediaForm {
    /// As captured.
    AsCaptured,
    /// With zeros instead of RTP payloads.
    Muted,
    /// Cut after the RTP headers.
    Headers,
}

impl MediaForm {
    /// The form that the user wants for a call.
    pub(super) fn of(selection: &Selection, call: &Call) -> Self {
        if selection.cuts_media {
            Self::Headers
        } else if selection.mutes(call) {
            Self::Muted
        } else {
            Self::AsCaptured
        }
    }
}

/// Returns true if a reader takes a cut frame for the same packet, whose payload was not captured.
pub(super) fn are_alike(decoder: &Decoder, link: LinkType, whole: &[u8], cut: &[u8]) -> bool {
    match (decoder.decode(link, whole), decoder.decode(link, cut)) {
        (Packet::Udp(whole), Packet::Udp(cut)) => are_alike_rtp(&whole, &cut),
        (Packet::Told(at, whole), Packet::Told(of_cut, cut)) => {
            at == of_cut && are_alike_rtp(&whole, &cut)
        }
        (Packet::Fragment(whole), Packet::Fragment(cut)) => {
            let payload = cut.payload;
            whole.payload.starts_with(payload) && Fragment { payload, ..whole } == cut
        }
        _ => false,
    }
}

fn are_alike_rtp(whole: &Datagram<'_>, cut: &Datagram<'_>) -> bool {
    let payload = cut.payload;
    let headers = |datagram: &Datagram<'_>| {
        Some((
            headers_len(datagram)?,
            Header::parse(datagram.payload, datagram.wire_len)?,
        ))
    };
    Datagram { payload, ..*whole } == *cut && headers(whole) == headers(cut)
}

/// The whole of an IP datagram, whatever its length.
const ALL: Range<usize> = 0..usize::MAX;

/// The range of the RTP payload in a frame, in bytes. For a fragment other than the first, `first`
/// is the packet in the frame with the first fragment. When in doubt, the whole payload is muted.
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

/// The range of the RTP payload in the IP datagram that a fragment belongs to. A tunnel may have
/// fragmented a fragment again; then the first frame holds nested first fragments, one of which may
/// belong to that datagram.
fn sound_of_datagram(
    fragment: &Fragment<'_>,
    mut first: Packet<'_>,
    decoder: &Decoder,
) -> Option<Range<usize>> {
    let mut of_datagram = None;
    // A trailer may follow an inner fragment.
    let mut end = usize::MAX;
    while let Packet::Fragment(outer) = first {
        let Some(inner) = decoder.decode_first(&outer) else {
            break;
        };
        if DatagramId::of(&outer) == DatagramId::of(fragment) {
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
        // It is a part of a later fragment of the inner datagram, so it holds payload only.
        None => headers_len(&datagram).map(|_| ALL),
    }
}

/// The range of the RTP payload of a datagram, in bytes from the start of `whole`. It covers the
/// bytes on the wire, even if they were not captured.
fn sound_in(whole: &[u8], datagram: &Datagram<'_>) -> Option<Range<usize>> {
    let start = place(whole, datagram.payload)?.start;
    let end = start
        .saturating_add(datagram.wire_len)
        .saturating_sub(usize::from(is_padded(datagram)));
    Some(start.saturating_add(headers_len(datagram)?)..end)
}

/// The length of the RTP headers before the payload, in bytes; `None` if the packet is not RTP.
fn headers_len(datagram: &Datagram<'_>) -> Option<usize> {
    Header::len(datagram.payload, datagram.wire_len)
}

/// Returns true if the last byte is the length of the padding (RFC 3550, 5.1). Readers need that
/// byte.
fn is_padded(datagram: &Datagram<'_>) -> bool {
    datagram
        .payload
        .first()
        .is_some_and(|first| first & 0x20 != 0)
}

/// The range of `part` in `whole`, of which it is a subslice.
pub(super) fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
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
