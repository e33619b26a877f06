//! The payload types and packet times of a call's streams, by its descriptions.

use serde::{Deserialize, Serialize};

use crate::{
    events::FlowKey,
    moment::{Clock, Moment},
    packet::Endpoint,
    sdp::{Format, Media, format_of_static},
};

/// The most media descriptions that are kept of a call: a call with more is not believed.
const MAX_STATEMENTS: usize = 1024;
/// The most dialogs and attempts whose unanswered offers are remembered.
const MAX_OFFERS: usize = 16;

/// The statements of a call's descriptions, in the order in which they came, with their times.
/// Repeated ones are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptions {
    statements: Vec<(Moment, Statement)>,
    /// The latest.
    offers: Vec<Offer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Statement {
    /// A media description, and the statements that first refused or accepted it, if there are any.
    Media {
        media: Media,
        refused: Option<usize>,
        accepted: Option<usize>,
    },
    /// An answer to a media description.
    Answer,
}

/// A description that waits for its answers, or has had some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offer {
    exchange: Exchange,
    /// The statements of its media descriptions.
    statements: Vec<Option<usize>>,
}

/// The transaction of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// A request, its responses and its ACK have the same number.
    pub number: u64,
    /// True when the description is in a response.
    pub is_response: bool,
}

/// The number of statements that are in force at some time, and of those that soon will be.
/// Captures deliver media ahead of signalling, so the latter count where the former say nothing.
/// Both are packed into one number, which goes with each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownStatements(u64);

impl Descriptions {
    /// Adds a description. The first of a transaction is the offer; the n-th medium of a
    /// description from the other side is the answer to its n-th (RFC 3264, section 6).
    pub fn add(&mut self, at: Moment, exchange: Exchange, media: &[Media]) {
        let statements: Vec<Option<usize>> =
            media.iter().map(|media| self.say(at, media)).collect();
        match self
            .offers
            .iter()
            .position(|offer| offer.exchange.number == exchange.number)
        {
            Some(place) => {
                let offer = self
                    .offers
                    .get(place)
                    .filter(|offer| offer.exchange.is_response != exchange.is_response);
                let answered = offer
                    .map(|offer| offer.statements.clone())
                    .unwrap_or_default();
                for (statement, answer) in answered.into_iter().zip(media) {
                    statement
                        .into_iter()
                        .for_each(|statement| self.answer(at, statement, answer.refused));
                }
            }
            None => {
                if self.offers.len() >= MAX_OFFERS {
                    self.offers.remove(0);
                }
                self.offers.push(Offer {
                    exchange,
                    statements,
                });
            }
        }
    }

    /// Adds a media description, unless it repeats the latest one of its place. Returns the number
    /// of the statement.
    fn say(&mut self, at: Moment, media: &Media) -> Option<usize> {
        let Some((first, _)) = media.endpoints.first() else {
            return self.say_nowhere(at, media);
        };
        let known = self
            .statements
            .iter()
            .enumerate()
            .rev()
            .find_map(|(number, (_, statement))| Some((number, statement.of(*first)?)));
        match known {
            Some((number, known)) if known == media => Some(number),
            _ => self.push(
                at,
                Statement::Media {
                    media: media.clone(),
                    refused: None,
                    accepted: None,
                },
            ),
        }
    }

    /// Adds a media description with formats but no endpoint, unless it is known.
    fn say_nowhere(&mut self, at: Moment, media: &Media) -> Option<usize> {
        let is_it = |(_, statement): &(Moment, Statement)| matches!(statement, Statement::Media { media: known, .. } if known == media);
        match self.statements.iter().position(is_it) {
            Some(number) => Some(number),
            None if media.formats.is_empty() => None,
            None => self.push(
                at,
                Statement::Media {
                    media: media.clone(),
                    refused: None,
                    accepted: None,
                },
            ),
        }
    }

    /// Adds an answer. One phone of several may accept a medium that others refuse.
    fn answer(&mut self, at: Moment, number: usize, is_refusal: bool) {
        let next = self.statements.len();
        let Some((
            _,
            Statement::Media {
                refused, accepted, ..
            },
        )) = self.statements.get_mut(number)
        else {
            return;
        };
        let first = if is_refusal { refused } else { accepted };
        if first.is_none() {
            *first = Some(next);
            self.push(at, Statement::Answer);
        }
    }

    fn push(&mut self, at: Moment, statement: Statement) -> Option<usize> {
        let number = self.statements.len();
        (number < MAX_STATEMENTS).then(|| {
            self.statements.push((at, statement));
            number
        })
    }

    /// All described media, each once, in the order in which they came.
    pub fn media(&self) -> impl Iterator<Item = &Media> {
        self.statements
            .iter()
            .filter_map(|(_, statement)| match statement {
                Statement::Media { media, .. } => Some(media),
                Statement::Answer => None,
            })
    }

    /// The statements that are known at packet time `now`, and at `horizon`; `before` is the result
    /// for an earlier time.
    #[must_use]
    #[inline]
    pub fn known_at(
        &self,
        now: Moment,
        horizon: Clock,
        before: KnownStatements,
    ) -> KnownStatements {
        // Nearly always, all statements are old.
        if before.in_force() >= self.statements.len() {
            return before;
        }
        self.known_since(now, horizon, before)
    }

    fn known_since(&self, now: Moment, horizon: Clock, before: KnownStatements) -> KnownStatements {
        let after = |known: usize, is_said: &dyn Fn(Moment) -> bool| {
            let statements = self.statements.get(known..).unwrap_or_default();
            known.saturating_add(statements.iter().take_while(|(at, _)| is_said(*at)).count())
        };
        KnownStatements::new(
            after(before.in_force(), &|at| at <= now),
            after(before.soon(), &|at| at.clock <= horizon),
        )
    }

    /// All statements of the call, in force.
    #[must_use]
    pub fn all(&self) -> KnownStatements {
        KnownStatements::new(self.statements.len(), self.statements.len())
    }

    /// The meaning of a payload type in a flow. The receiver's description defines it; if it does
    /// not, the sender's may; some types are static. The latest statement counts. If no description
    /// has either end (trickled candidates, host names), the descriptions of the call count if they
    /// agree.
    #[must_use]
    pub fn format(
        &self,
        payload_type: u8,
        flow: FlowKey,
        known: KnownStatements,
    ) -> Option<Format> {
        let of = |media: &Media| {
            media
                .formats
                .iter()
                .find(|format| format.payload_type == payload_type)
                .copied()
        };
        self.statement(flow, known, of)
            .or_else(|| format_of_static(payload_type))
            .or_else(|| self.unanimous(flow, known, of))
    }

    fn unanimous(
        &self,
        flow: FlowKey,
        known: KnownStatements,
        statement: impl Fn(&Media) -> Option<Format>,
    ) -> Option<Format> {
        let is_described = |media: &Media| (!media.formats.is_empty()).then_some(());
        if self.statement(flow, known, is_described).is_some() {
            return None;
        }
        let said = self.statements.get(..known.soon()).unwrap_or_default();
        let mut said = said.iter().filter_map(|(_, said)| match said {
            Statement::Media { media, .. } => statement(media),
            Statement::Answer => None,
        });
        let first = said.next()?;
        said.all(|format| format.is_same(&first)).then_some(first)
    }

    /// The duration of a packet of a flow, in milliseconds.
    #[must_use]
    pub fn ptime_ms(&self, flow: FlowKey) -> Option<u32> {
        self.statement(flow, self.all(), |media| media.ptime_ms)
    }

    /// Returns true if the packets of a flow are encrypted: all ends that are described say so. An
    /// offer may have keys for a receiver that wants none (RFC 8643). If neither end is described,
    /// all descriptions of the call have to say so.
    #[must_use]
    pub fn is_secured(&self, flow: FlowKey, known: KnownStatements) -> bool {
        let is_secured = |media: &Media| media.is_secured;
        let of_end = |end| self.statement_of(&[end], known, is_secured);
        let of_ends = [of_end(flow.destination), of_end(flow.source)];
        if of_ends != [None, None] {
            return !of_ends.contains(&Some(false));
        }
        let mut all = self.media().filter_map(is_secured).peekable();
        all.peek().is_some() && all.all(|is_secured| is_secured)
    }

    /// The latest statement in force on something; otherwise the first of those that soon are.
    fn statement<T>(
        &self,
        flow: FlowKey,
        known: KnownStatements,
        statement: impl Fn(&Media) -> Option<T>,
    ) -> Option<T> {
        self.statement_of(&[flow.destination, flow.source], known, statement)
    }

    /// The same for these ends, of which the first comes first.
    fn statement_of<T>(
        &self,
        ends: &[Endpoint],
        known: KnownStatements,
        statement: impl Fn(&Media) -> Option<T>,
    ) -> Option<T> {
        let (in_force, soon) = (known.in_force(), known.soon());
        let said = self.statements.get(..in_force).unwrap_or_default();
        let coming = self.statements.get(in_force..soon).unwrap_or_default();
        let explain = |said: &(Moment, Statement), end| {
            statement(said.1.of(end).filter(|_| !said.1.is_refused(soon))?)
        };
        let ends = || ends.iter().copied();
        let latest = ends().find_map(|end| said.iter().rev().find_map(|said| explain(said, end)));
        latest.or_else(|| ends().find_map(|end| coming.iter().find_map(|said| explain(said, end))))
    }
}

impl KnownStatements {
    /// `MAX_STATEMENTS` limits both numbers.
    fn new(in_force: usize, soon: usize) -> Self {
        Self((in_force as u64) << 32 | soon as u64)
    }

    #[inline]
    fn in_force(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn soon(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    /// The pair as one number.
    #[must_use]
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The pair for a number from `to_bits`.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl Statement {
    fn of(&self, end: Endpoint) -> Option<&Media> {
        match self {
            Self::Media { media, .. } => media
                .endpoints
                .iter()
                .any(|(given, _)| *given == end)
                .then_some(media),
            Self::Answer => None,
        }
    }

    /// True when the known statements refuse it, and none accepts it.
    fn is_refused(&self, known: usize) -> bool {
        let is_known = |answer: &Option<usize>| answer.is_some_and(|number| number < known);
        matches!(self, Self::Media { refused, accepted, .. } if is_known(refused) && !is_known(accepted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{Codec, Description};

    const LOCAL: Endpoint = end(1, 4000);
    const REMOTE: Endpoint = end(2, 6000);

    const fn end(host: u8, port: u16) -> Endpoint {
        Endpoint::v4([192, 0, 2, host], port)
    }

    fn audio(end: Endpoint, rtpmap: &str) -> Media {
        let text = format!(
            "c=IN IP4 {}\nm=audio {} RTP/AVP 96\na=rtpmap:96 {rtpmap}\n",
            end.ip(),
            end.port()
        );
        Description::parse(text.as_bytes()).media.remove(0)
    }

    fn codec_at(descriptions: &Descriptions, now: Clock) -> Option<Codec> {
        let known = descriptions.known_at(Moment::at(now), now + 10, KnownStatements::default());
        descriptions
            .format(96, FlowKey::between(REMOTE, LOCAL), known)
            .map(|format| format.codec)
    }

    fn request(number: u64) -> Exchange {
        Exchange {
            number,
            is_response: false,
        }
    }

    fn response(number: u64) -> Exchange {
        Exchange {
            number,
            is_response: true,
        }
    }

    #[test]
    fn a_word_explains_what_comes_after_it_and_what_came_before_where_there_was_none() {
        let mut descriptions = Descriptions::default();
        descriptions.add(Moment::at(100), request(1), &[audio(LOCAL, "opus/48000")]);
        descriptions.add(Moment::at(200), request(2), &[audio(LOCAL, "iLBC/8000")]);
        let codec = |name: &str| Some(Codec::of(name.as_bytes()));
        for (now, want) in [
            (80, None),
            (95, codec("opus")),
            (150, codec("opus")),
            (195, codec("opus")),
            (200, codec("iLBC")),
        ] {
            assert_eq!(codec_at(&descriptions, now), want, "at {now}");
        }
    }

    #[test]
    fn what_the_receiver_said_goes_on_until_it_says_something_else() {
        let mut descriptions = Descriptions::default();
        for (at, exchange, end, codec) in [
            (100, request(1), REMOTE, "opus/48000"),
            (110, response(1), LOCAL, "opus/48000"),
            (200, request(2), REMOTE, "iLBC/8000"),
            (220, response(2), LOCAL, "iLBC/8000"),
        ] {
            descriptions.add(Moment::at(at), exchange, &[audio(end, codec)]);
        }
        assert_eq!(codec_at(&descriptions, 215), Some(Codec::of(b"opus")));
        assert_eq!(codec_at(&descriptions, 220), Some(Codec::of(b"iLBC")));
    }

    #[test]
    fn the_receivers_word_comes_before_the_senders() {
        let mut descriptions = Descriptions::default();
        descriptions.add(Moment::at(100), request(1), &[audio(REMOTE, "opus/48000")]);
        assert_eq!(codec_at(&descriptions, 150), Some(Codec::of(b"opus")));
        descriptions.add(Moment::at(160), response(1), &[audio(LOCAL, "iLBC/8000")]);
        assert_eq!(codec_at(&descriptions, 170), Some(Codec::of(b"iLBC")));
    }

    #[test]
    fn where_neither_end_is_described_all_that_is_said_counts_if_it_is_the_same() {
        let nowhere = |rtpmap: &str| {
            let text = format!("c=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 96\na=rtpmap:96 {rtpmap}\n");
            Description::parse(text.as_bytes()).media.remove(0)
        };
        let mut descriptions = Descriptions::default();
        descriptions.add(Moment::at(100), request(1), &[nowhere("opus/48000")]);
        descriptions.add(Moment::at(110), response(1), &[nowhere("OPUS/48000")]);
        assert_eq!(codec_at(&descriptions, 150), Some(Codec::of(b"opus")));
        descriptions.add(Moment::at(200), request(2), &[nowhere("iLBC/8000")]);
        assert_eq!(codec_at(&descriptions, 250), None);
    }

    #[test]
    fn a_refused_description_explains_nothing_unless_another_phone_accepts_it() {
        let refusal = Media {
            refused: true,
            ..Media::default()
        };
        let mut descriptions = Descriptions::default();
        let offer = [audio(LOCAL, "opus/48000"), audio(LOCAL, "iLBC/8000")];
        descriptions.add(Moment::at(100), request(1), &offer);
        assert_eq!(codec_at(&descriptions, 150), Some(Codec::of(b"iLBC")));
        descriptions.add(
            Moment::at(200),
            response(1),
            &[audio(REMOTE, "opus/48000"), refusal.clone()],
        );
        assert_eq!(codec_at(&descriptions, 250), Some(Codec::of(b"opus")));
        descriptions.add(
            Moment::at(300),
            response(1),
            &[refusal, audio(REMOTE, "iLBC/8000")],
        );
        assert_eq!(codec_at(&descriptions, 350), Some(Codec::of(b"iLBC")));
    }

    #[test]
    fn packets_are_encrypted_if_all_ends_say_so() {
        let profile = |end: Endpoint, profile: &str| {
            let text = format!(
                "c=IN IP4 {}\nm=audio {} {profile} 0\n",
                end.ip(),
                end.port()
            );
            Description::parse(text.as_bytes()).media.remove(0)
        };
        let is_secured = |said: &[Media], source: Endpoint, destination: Endpoint| {
            let mut descriptions = Descriptions::default();
            for (number, media) in said.iter().enumerate() {
                let media = std::slice::from_ref(media);
                descriptions.add(Moment::at(100), request(number as u64), media);
            }
            descriptions.is_secured(FlowKey::between(source, destination), descriptions.all())
        };
        let stranger = end(9, 9_000);
        let candidates = b"a=candidate:1 1 UDP 1 192.0.2.9 9000 typ host\n";
        let candidates = Description::parse_fragment(candidates).media.remove(0);
        for (what, said, source, want) in [
            ("nothing", &[][..], REMOTE, false),
            ("one end", &[profile(LOCAL, "RTP/SAVP")], REMOTE, true),
            ("the sender", &[profile(REMOTE, "RTP/SAVPF")], REMOTE, true),
            (
                "both",
                &[profile(LOCAL, "RTP/SAVP"), profile(REMOTE, "RTP/SAVP")],
                REMOTE,
                true,
            ),
            ("plain", &[profile(LOCAL, "RTP/AVP")], REMOTE, false),
            (
                "one is plain",
                &[profile(LOCAL, "RTP/SAVP"), profile(REMOTE, "RTP/AVP")],
                REMOTE,
                false,
            ),
            (
                "candidates say nothing",
                &[profile(LOCAL, "RTP/SAVP"), candidates],
                stranger,
                true,
            ),
        ] {
            assert_eq!(is_secured(said, source, LOCAL), want, "{what}");
        }
        let said = [profile(LOCAL, "RTP/SAVP"), profile(REMOTE, "RTP/SAVP")];
        assert!(
            is_secured(&said, stranger, end(8, 8_000)),
            "neither end is described"
        );
        let said = [profile(LOCAL, "RTP/SAVP"), profile(REMOTE, "RTP/AVP")];
        assert!(!is_secured(&said, stranger, end(8, 8_000)));
    }

    #[test]
    fn what_is_repeated_is_kept_once_and_nobody_can_say_too_much() {
        let mut descriptions = Descriptions::default();
        for clock in 0..5_000 {
            descriptions.add(
                Moment::at(clock),
                request(clock / 2),
                &[audio(LOCAL, "opus/48000")],
            );
        }
        assert!(
            descriptions.statements.len() <= 2,
            "{:?}",
            descriptions.statements
        );
        for clock in 0..5_000u16 {
            descriptions.add(
                Moment::at(clock.into()),
                request(clock.into()),
                &[audio(end(3, clock + 1), "opus/48000")],
            );
        }
        assert_eq!(
            (descriptions.statements.len(), descriptions.offers.len()),
            (MAX_STATEMENTS, MAX_OFFERS)
        );
    }
}
