//! IEEE 802.11, and the headers that capture software puts before it.
//!
//! A data frame leads to LLC. Encrypted frames cannot be read. Of an aggregate (A-MSDU) only the
//! first frame is read, because a packet has one position in a capture.

use super::Layer;

/// radiotap.org: version 0, length, and a bitmap of fields. One field may say that padding follows
/// the 802.11 header.
pub(super) fn radiotap(frame: &[u8]) -> Option<Layer<'_>> {
    let [0, _, l0, l1] = *frame.first_chunk()? else {
        return None;
    };
    let (header, inner) = frame.split_at_checked(usize::from(u16::from_le_bytes([l0, l1])))?;
    const IS_PADDED: u8 = 0x20;
    if radiotap_flags(header).is_some_and(|flags| flags & IS_PADDED != 0) {
        return data(inner, 4);
    }
    Some(Layer::Wlan(inner))
}

/// The flags stand after all words of the bitmap, and after the eight aligned bytes of the timer if
/// it is present.
fn radiotap_flags(header: &[u8]) -> Option<u8> {
    const TIMER: u32 = 1;
    const FLAGS: u32 = 1 << 1;
    const MORE: u32 = 1 << 31;
    let word_at = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
    let present = word_at(4)?;
    let mut at = 8usize;
    let mut last = present;
    while last & MORE != 0 {
        last = word_at(at)?;
        at = at.saturating_add(4);
    }
    if present & TIMER != 0 {
        at = at.next_multiple_of(8).saturating_add(8);
    }
    if present & FLAGS == 0 {
        None
    } else {
        header.get(at).copied()
    }
}

/// The header of Prism cards: 144 bytes, or its declared length; some captures have an AVS header
/// instead.
pub(super) fn prism(frame: &[u8]) -> Option<Layer<'_>> {
    const MESSAGE: u32 = 0x44;
    const LEN: usize = 144;
    if let Some(layer) = avs(frame) {
        return Some(layer);
    }
    let [code, len] = words(frame)?;
    // The length is in the byte order of the capturing machine.
    let len = [u32::from_le_bytes, u32::from_be_bytes]
        .iter()
        .find(|read| read(code) == MESSAGE)
        .map(|read| read(len));
    let len = len.map_or(Some(LEN), |len| usize::try_from(len).ok())?;
    Some(Layer::Wlan(frame.get(len..)?))
}

/// The header of Absolute Value Systems: magic number with version, length.
pub(super) fn avs(frame: &[u8]) -> Option<Layer<'_>> {
    const MAGIC: u32 = 0x8021_1000;
    let [magic, len] = words(frame)?;
    let is_avs = u32::from_be_bytes(magic) & 0xffff_f000 == MAGIC;
    is_avs.then(|| {
        frame
            .get(usize::try_from(u32::from_be_bytes(len)).ok()?..)
            .map(Layer::Wlan)
    })?
}

fn words(frame: &[u8]) -> Option<[[u8; 4]; 2]> {
    Some([*frame.first_chunk()?, *frame.get(4..)?.first_chunk()?])
}

/// IEEE 802.11, 9.2.3: a frame without padding.
pub(super) fn frame(frame: &[u8]) -> Option<Layer<'_>> {
    data(frame, 1)
}

/// IEEE 802.11, 9.3.2.1:
///
/// ```text
/// control (2)  duration (2)  addresses (3 x 6)  sequence (2)  [address (6)]  [QoS (2)]
/// [HT control (4)]  body
/// ```
///
/// The fourth address is present where the frame goes from one distribution system to another.
fn data(frame: &[u8], alignment: usize) -> Option<Layer<'_>> {
    const DATA: u8 = 2;
    const HAS_QOS: u8 = 0x80;
    const HAS_NO_BODY: u8 = 0x40;
    const BETWEEN_SYSTEMS: u8 = 0x03;
    const PROTECTED: u8 = 0x40;
    const HAS_HT_CONTROL: u8 = 0x80;
    const FRAGMENT_NUMBER: u8 = 0x0f;
    const IS_A_MSDU: u8 = 0x80;
    let [kind, flags] = *frame.first_chunk()?;
    if kind & 0x03 != 0 {
        return None;
    }
    if kind >> 2 & 0x03 != DATA || kind & HAS_NO_BODY != 0 {
        return Some(Layer::Other);
    }
    // Fragments are not reassembled: the first is read like a snapped frame, the others are
    // skipped.
    if flags & PROTECTED != 0 || frame.get(22)? & FRAGMENT_NUMBER != 0 {
        return None;
    }
    let (has_qos, mut at) = (kind & HAS_QOS != 0, 24usize);
    if flags & BETWEEN_SYSTEMS == BETWEEN_SYSTEMS {
        at = at.saturating_add(6);
    }
    let mut is_aggregate = false;
    if has_qos {
        is_aggregate = frame.get(at)? & IS_A_MSDU != 0;
        at = at.saturating_add(if flags & HAS_HT_CONTROL == 0 { 2 } else { 6 });
    }
    let body = frame.get(at.checked_next_multiple_of(alignment)?..)?;
    if is_aggregate {
        first_of_aggregate(body)
    } else {
        Some(Layer::Llc(body))
    }
}

/// IEEE 802.11, 9.3.2.2.2: destination, source, length, and the frame of that length.
fn first_of_aggregate(body: &[u8]) -> Option<Layer<'_>> {
    let [.., l0, l1] = *body.first_chunk::<14>()?;
    let inner = body.get(14..)?;
    Some(Layer::Llc(
        inner
            .get(..usize::from(super::be16([l0, l1])))
            .unwrap_or(inner),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLC: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45];

    fn header(kind: u8, flags: u8, more: &[u8]) -> Vec<u8> {
        [&[kind, flags, 0, 0][..], &[2; 18], &[0x10, 0x32], more].concat()
    }

    fn with(header: &[u8], inner: &[u8]) -> Vec<u8> {
        [header, inner].concat()
    }

    #[test]
    fn data_frames_of_all_lengths() {
        for (kind, flags, more) in [
            (0x08, 0x01, 0),
            (0x08, 0x02, 0),
            (0x08, 0x03, 6),
            (0x88, 0x01, 2),
            (0x88, 0x03, 8),
            (0x88, 0x81, 6),
            (0x88, 0x83, 12),
        ] {
            let bytes = with(&header(kind, flags, &vec![0; more]), LLC);
            assert_eq!(frame(&bytes), Some(Layer::Llc(LLC)), "{kind:#x} {flags:#x}");
        }
    }

    #[test]
    fn frames_without_a_body_to_read() {
        assert_eq!(frame(&header(0x80, 0, LLC)), Some(Layer::Other), "beacon");
        assert_eq!(
            frame(&[0xd4, 0, 0, 0]),
            Some(Layer::Other),
            "acknowledgement"
        );
        assert_eq!(frame(&header(0x48, 1, &[])), Some(Layer::Other), "null");
        assert_eq!(frame(&header(0x08, 0x41, LLC)), None, "encrypted");
        let mut fragment = header(0x08, 1, LLC);
        fragment[22] = 1;
        assert_eq!(frame(&fragment), None, "second fragment");
        assert_eq!(frame(&header(0x09, 1, LLC)), None, "version 1");
        assert_eq!(frame(&header(0x88, 1, &[])), None, "cut");
    }

    #[test]
    fn of_an_aggregate_the_first() {
        let subframe = [&[4; 12][..], &[0, 9], LLC, &[0; 3]].concat();
        let bytes = with(
            &header(0x88, 1, &[0x80, 0]),
            &[&subframe[..], &subframe].concat(),
        );
        assert_eq!(frame(&bytes), Some(Layer::Llc(LLC)));
    }

    #[test]
    fn radiotap_with_and_without_padding() {
        let inner = header(0x88, 1, &with(&[0, 0], LLC));
        assert_eq!(
            radiotap(&with(&[0, 0, 8, 0, 0, 0, 0, 0], &inner)),
            Some(Layer::Wlan(&inner))
        );
        let padded = header(0x88, 1, &with(&[0, 0, 0, 0], LLC));
        assert_eq!(
            radiotap(&with(&[0, 0, 9, 0, 2, 0, 0, 0, 0x20], &padded)),
            Some(Layer::Llc(LLC))
        );
        // Two words of bitmap, four bytes to align, the timer, then the flags.
        let long = [
            &[0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0][..],
            &[0; 12],
            &[0x20],
        ]
        .concat();
        assert_eq!(radiotap(&with(&long, &padded)), Some(Layer::Llc(LLC)));
        assert_eq!(radiotap(&[1, 0, 8, 0, 0, 0, 0, 0]), None, "version 1");
        assert_eq!(radiotap(&[0, 0, 9, 0, 0, 0, 0, 0]), None, "cut");
    }

    #[test]
    fn prism_and_avs() {
        let with_len = |first: [u8; 4], len: [u8; 4], total: usize| {
            let mut bytes = [&first[..], &len].concat();
            bytes.resize(total, 0);
            with(&bytes, LLC)
        };
        assert_eq!(
            prism(&with_len([0x44, 0, 0, 0], [144, 0, 0, 0], 144)),
            Some(Layer::Wlan(LLC))
        );
        assert_eq!(
            prism(&with_len([0, 0, 0, 0x44], [0, 0, 0, 144], 144)),
            Some(Layer::Wlan(LLC))
        );
        assert_eq!(
            prism(&with_len([0x41, 0, 0, 0], [0; 4], 144)),
            Some(Layer::Wlan(LLC))
        );
        let avs_frame = with_len([0x80, 0x21, 0x10, 0x01], [0, 0, 0, 64], 64);
        assert_eq!(avs(&avs_frame), Some(Layer::Wlan(LLC)));
        assert_eq!(prism(&avs_frame), Some(Layer::Wlan(LLC)));
        assert_eq!(avs(&with_len([0x44, 0, 0, 0], [144, 0, 0, 0], 144)), None);
    }
}
