//! The messages and descriptions of a call one by one, for records.

use serde::{Deserialize, Serialize};

use super::{
    Side,
    texts::{MAX_TEXTS, Text, Texts},
};
use crate::{
    events::SipEvent,
    packet::Endpoint,
    sdp::{Media, Outline},
    sip,
};

/// The most messages of a call that are kept; more are counted. A call with a re-INVITE each minute
/// has as many in four hours.
const MAX_MESSAGES: usize = 1000;
/// The most media descriptions of a call that are kept; more are counted.
const MAX_MEDIA: usize = 256;
/// The most endpoints of a media description that are kept.
const MAX_ENDPOINTS: usize = 16;
/// The most formats of a media description that are kept.
const MAX_FORMATS: usize = 64;
/// The most bytes of a start line that are kept.
const MAX_START_LINE_LEN: usize = 512;
/// The most bytes of a tag, and of CSeq, that are kept.
const MAX_WORD_LEN: usize = 128;

/// The most bytes of the journals of all open calls, about: they are in memory, and in the state.
/// Whatever comes when they are full is counted.
const MAX_JOURNALS: u64 = 1 << 30;
/// The bytes that a message takes beside its texts, about.
const MESSAGE_BYTES: usize = 256;
/// The same for a media description, and for an endpoint or a format of it.
const MEDIA_BYTES: usize = 256;
/// See [`MEDIA_BYTES`].
const MEDIUM_BYTES: usize = 64;

/// The room that is left for the journals of all open calls, in bytes. It changes with messages and
/// with the ends of calls only, so it does not depend on how the input was cut.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Room(u64);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_JOURNALS)
    }
}

impl Room {
    /// Takes so many bytes, if they are left.
    fn take(&mut self, bytes: u64) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Takes back what the journal of a call that has ended took.
    pub(super) fn give_back(&mut self, journal: &Journal) {
        self.0 = self.0.saturating_add(journal.bytes);
    }
}

/// What was said in a call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    messages: Vec<Heard>,
    omitted_messages: u64,
    described: Vec<Described>,
    omitted_media: u64,
    /// The bytes of all texts.
    text_bytes: usize,
    /// The bytes that were taken of the [`Room`].
    bytes: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The time of its first frame, in nanoseconds since 1970: as captured, or as a HEP agent gives
    /// it.
    pub at_ns: u64,
    /// The source of the packet.
    pub source: Endpoint,
    /// Its destination.
    pub destination: Endpoint,
    /// The side that wrote it; see [`super::Dialogs::writer`].
    pub writer: Option<Side>,
    /// Its start line.
    pub start_line: Box<[u8]>,
    /// Its length in bytes, as far as it was captured.
    pub len: u64,
    /// CSeq, on one line.
    pub cseq: Box<[u8]>,
    /// The tags of From and To.
    pub from_tag: Option<Box<[u8]>>,
    /// See `from_tag`.
    pub to_tag: Option<Box<[u8]>>,
    /// Its text, if the user wants texts.
    pub text: Option<Text>,
}

/// A media description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The number of its message in [`Journal::messages`]; `None` if that is left out.
    pub message: Option<u32>,
    /// The time of its message.
    pub at_ns: u64,
    /// The source of its message.
    pub source: Endpoint,
    /// The place of its description among those of that message.
    pub body: u32,
    /// Its place among the media of that description.
    pub place: u32,
    /// What its `m=` line says; `None` for candidates that are sent later (RFC 8840).
    pub outline: Option<Outline>,
    /// What the extractor makes of it, with at most 16 endpoints.
    pub media: Media,
}

impl Journal {
    /// The messages, in capture order. Messages that came before the INVITE are behind it.
    #[must_use]
    pub fn messages(&self) -> &[Heard] {
        &self.messages
    }

    /// The number of messages that are left out.
    #[must_use]
    pub fn omitted_messages(&self) -> u64 {
        self.omitted_messages
    }

    /// The media descriptions, in capture order. A media description that its sender repeats is
    /// left out.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// The number of media descriptions beyond the limit.
    #[must_use]
    pub fn omitted_media(&self) -> u64 {
        self.omitted_media
    }

    /// Adds a message, which this side wrote, with its text if the user wants texts. After the first
    /// that is left out, all are.
    #[cold]
    pub(super) fn add(
        &mut self,
        event: &SipEvent<'_>,
        writer: Option<Side>,
        texts: Texts,
        room: &mut Room,
    ) {
        let may_be_kept = self.omitted_messages == 0 && self.messages.len() < MAX_MESSAGES;
        let heard = may_be_kept.then(|| self.heard(event, writer, texts));
        let Some(heard) = heard.filter(|heard| self.take(heard.bytes(), room)) else {
            self.omitted_messages = self.omitted_messages.saturating_add(1);
            return;
        };
        let text_len = heard.text.as_ref().map_or(0, |text| text.bytes.len());
        self.text_bytes = self.text_bytes.saturating_add(text_len);
        self.messages.push(heard);
    }

    fn take(&mut self, bytes: usize, room: &mut Room) -> bool {
        let bytes = bytes as u64;
        let is_taken = room.take(bytes);
        if is_taken {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        is_taken
    }

    fn heard(&self, event: &SipEvent<'_>, writer: Option<Side>, texts: Texts) -> Heard {
        let message = &event.message;
        let tag = |value| sip::tag(value).map(|tag| cut(tag, MAX_WORD_LEN));
        let text = Text::of(message, texts, MAX_TEXTS.saturating_sub(self.text_bytes));
        let cseq = sip::unfolded(message.fields("CSeq").next().unwrap_or_default());
        Heard {
            at_ns: time(event),
            source: event.source,
            destination: event.destination,
            writer,
            start_line: cut(start_line(message.raw), MAX_START_LINE_LEN),
            len: message.raw.len() as u64,
            cseq: cut(&cseq, MAX_WORD_LEN),
            from_tag: tag(message.from),
            to_tag: tag(message.to),
            text,
        }
    }

    /// Adds the media of a description: that at this place in the message that was added last.
    #[cold]
    pub(super) fn describe(
        &mut self,
        event: &SipEvent<'_>,
        place: usize,
        media: &[Media],
        room: &mut Room,
    ) {
        let bodies = event.message.bodies();
        let outlines = match bodies.found.get(place) {
            Some(sip::Body::Description(text)) => Outline::read_all(text),
            _ => Vec::new(),
        };
        let message = if self.omitted_messages == 0 {
            u32::try_from(self.messages.len().saturating_sub(1)).ok()
        } else {
            None
        };
        let body = u32::try_from(place).unwrap_or(u32::MAX);
        let outlines = outlines.into_iter().map(Some);
        let outlines = outlines.chain(std::iter::repeat(None));
        for ((place, media), outline) in (0..).zip(media).zip(outlines) {
            let described = Described {
                message,
                at_ns: time(event),
                source: event.source,
                body,
                place,
                outline,
                media: limited(media),
            };
            self.describe_one(described, room);
        }
    }

    fn describe_one(&mut self, new: Described, room: &mut Room) {
        let place = |media: &Described| (media.source, media.body, media.place);
        let mut known = self.described.iter().rev();
        let latest = known.find(|known| place(known) == place(&new));
        if latest.is_some_and(|known| known.outline == new.outline && known.media == new.media) {
            return;
        }
        let bytes = new.bytes();
        if self.described.len() < MAX_MEDIA && self.take(bytes, room) {
            self.described.push(new);
        } else {
            self.omitted_media = self.omitted_media.saturating_add(1);
        }
    }
}

impl Heard {
    /// The bytes that it takes, about.
    fn bytes(&self) -> usize {
        let texts = [
            Some(&self.start_line),
            Some(&self.cseq),
            self.from_tag.as_ref(),
            self.to_tag.as_ref(),
            self.text.as_ref().map(|text| &text.bytes),
        ];
        let texts = texts.into_iter().flatten().map(|text| text.len());
        texts.fold(MESSAGE_BYTES, usize::saturating_add)
    }
}

impl Described {
    /// The bytes that it takes, about.
    fn bytes(&self) -> usize {
        let formats = self.outline.as_ref().map_or(0, |line| line.formats.len());
        [
            self.media.endpoints.len(),
            self.media.formats.len(),
            formats,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
        .saturating_mul(MEDIUM_BYTES)
        .saturating_add(MEDIA_BYTES)
    }
}

fn time(event: &SipEvent<'_>) -> u64 {
    event.told_ns.unwrap_or(event.timestamp_ns)
}

fn start_line(raw: &[u8]) -> &[u8] {
    let line = raw.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn cut(bytes: &[u8], most: usize) -> Box<[u8]> {
    bytes.get(..most).unwrap_or(bytes).into()
}

/// The media without the lists that no record has.
fn limited(media: &Media) -> Media {
    let endpoints = media.endpoints.iter().take(MAX_ENDPOINTS).copied();
    Media {
        endpoints: endpoints.collect(),
        unresolved: Vec::new(),
        bases: Vec::new(),
        formats: media.formats.iter().take(MAX_FORMATS).copied().collect(),
        ptime_ms: media.ptime_ms,
        is_secured: media.is_secured,
        refused: media.refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::Frames, moment::Moment, packet::Network, sdp::Description, sip::Message};

    fn event(text: &str, at_ns: u64) -> SipEvent<'_> {
        let message = Message::parse(text.as_bytes()).unwrap().unwrap();
        let bodies = message.bodies();
        let descriptions = bodies
            .found
            .iter()
            .map(|body| Description::parse(body.text()));
        let descriptions = descriptions.collect();
        SipEvent {
            at: Moment::at(at_ns),
            frames: Frames::new(),
            timestamp_ns: at_ns,
            told_ns: None,
            network: Network::PLAIN,
            source: Endpoint::v4([192, 0, 2, 1], 5060),
            destination: Endpoint::v4([192, 0, 2, 2], 5060),
            message,
            descriptions,
        }
    }

    fn invite(port: u32) -> String {
        let sdp = format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio {port} RTP/AVP 0\r\n");
        format!(
            "INVITE sip:b SIP/2.0\r\nFrom: <sip:a>;tag=f\r\nTo: <sip:b>\r\nCall-ID: 1\r\nCSeq: 1\r\n  INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    fn add(journal: &mut Journal, text: &str) {
        add_in(&mut Room::default(), journal, text);
    }

    fn add_in(room: &mut Room, journal: &mut Journal, text: &str) {
        let event = event(text, 7);
        journal.add(&event, Some(Side::Caller), Texts::No, room);
        for (place, description) in event.descriptions.iter().enumerate() {
            journal.describe(&event, place, &description.media, room);
        }
    }

    #[test]
    fn all_journals_share_one_room() {
        let (mut first, mut second) = (Journal::default(), Journal::default());
        let room = &mut Room(2000);
        for port in 4000..4003 {
            add_in(room, &mut first, &invite(port));
        }
        let left = room.0;
        assert!(left < 300, "{left}");
        add_in(
            room,
            &mut second,
            "ACK sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 2\r\nCSeq: 1 ACK\r\n\r\n",
        );
        assert_eq!((second.messages().len(), second.omitted_messages()), (0, 1));
        room.give_back(&first);
        assert_eq!(room.0, 2000);
        add_in(room, &mut second, &invite(4000));
        assert_eq!(second.omitted_messages(), 2, "a journal has no holes");
        assert_eq!(second.described().len(), 1);
        assert_eq!(second.described()[0].message, None);
        room.give_back(&second);
        assert_eq!(room.0, 2000);
    }

    #[test]
    fn messages_and_media() {
        let mut journal = Journal::default();
        let text = invite(4000);
        add(&mut journal, &text);
        add(&mut journal, &text);
        add(&mut journal, &invite(4002));
        let [first, ..] = journal.messages() else {
            panic!("no messages")
        };
        assert_eq!(&*first.start_line, b"INVITE sip:b SIP/2.0");
        assert_eq!(&*first.cseq, b"1 INVITE");
        assert_eq!(
            (first.from_tag.as_deref(), first.to_tag.as_deref()),
            (Some(&b"f"[..]), None)
        );
        assert_eq!(first.len, text.len() as u64);
        assert_eq!(journal.messages().len(), 3);
        let media: Vec<_> = journal
            .described()
            .iter()
            .map(|media| {
                (
                    media.message,
                    media.outline.as_ref().and_then(|line| line.port),
                )
            })
            .collect();
        assert_eq!(
            media,
            [(Some(0), Some(4000)), (Some(2), Some(4002))],
            "a repeated one is left out"
        );
    }

    #[test]
    fn more_than_the_limits_are_counted() {
        let mut journal = Journal::default();
        for port in 0..MAX_MESSAGES as u32 + 3 {
            add(&mut journal, &invite(4000 + port));
        }
        assert_eq!(
            (journal.messages().len(), journal.omitted_messages()),
            (MAX_MESSAGES, 3)
        );
        assert_eq!(
            (journal.described().len(), journal.omitted_media()),
            (MAX_MEDIA, (MAX_MESSAGES + 3 - MAX_MEDIA) as u64)
        );
    }
}
