//! What the ends of one call report about its streams.
//!
//! Reports are kept by their own SSRC and flow, and matched with streams when the call is over: a
//! report may come before the first packet of its stream.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Compound, Item, ReceptionReport, Reported, course::Course};
use crate::{events::FlowKey, moment::Clock, packet::Endpoint};

/// The most SSRCs of one call whose sender reports or names are kept, and the most whose reception
/// is. The reports of others are left out.
const MAX_SUBJECTS: usize = 1024;
/// The most SSRCs of one call whose reception is kept over time.
const MAX_COURSES: usize = 64;
/// The most sender reports of an SSRC that a receiver may answer.
const MAX_ANSWERABLE: usize = 8;
/// The most flows that are searched for the sender report that a receiver answers.
const MAX_SEARCHED: usize = 16;
/// A round trip that is negative by up to this much, in nanoseconds, is one of 0: clocks tick.
const MAX_TICK_NS: i128 = 1_000_000;
/// A receiver cannot expect more packets than passed the capture point, but for those that it saw
/// first: RFC 3550, A.1, has the same limit for a jump.
const MAX_AHEAD: u64 = 3000;

/// The reports of one call.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reports {
    /// By the sender's SSRC and the flow of its RTCP.
    senders: BTreeMap<Subject, Sender>,
    /// By the SSRC that is received and the flow of the receiver's RTCP.
    receptions: BTreeMap<Subject, Reception>,
    unread: u64,
    /// The number of receptions that have a course.
    courses: usize,
}

/// The arrival of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// In nanoseconds since 1970.
    pub ns: u64,
    /// Packet time, if reports are kept over time.
    pub course_at: Option<Clock>,
}

/// An SSRC and a flow, without its network.
type Subject = (u32, FlowKey);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sender {
    cname: Option<Box<[u8]>>,
    /// The latest sender reports: NTP timestamp, and time at the capture point in nanoseconds.
    sent: VecDeque<(u32, u64)>,
}

/// What a receiver reports about a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reception {
    /// The first and the last report.
    counts: Option<(Counted, Counted)>,
    /// The last jitter, in units of the stream's clock rate.
    jitter: u32,
    mos: Option<u8>,
    round_trips: RoundTrips,
    /// What it reported over time, if that is kept.
    course: Option<Course>,
}

/// The counts of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    lost: i32,
    highest: u32,
}

/// Round trips between the capture point and a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RoundTrips {
    count: u64,
    sum_ns: u64,
    /// The timestamp and the delay of the last report: a tap may show a packet twice.
    last: (u32, u32),
}

/// What both ends say about one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct FarEnd<'a> {
    /// The canonical name of the sender.
    pub cname: Option<&'a [u8]>,
    /// What the receiver reports.
    pub reception: Option<&'a Reception>,
}

/// Packets lost, of those expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Never more than `expected`.
    pub lost: u64,
    /// At least 1.
    pub expected: u64,
}

impl Reports {
    /// Adds a datagram that is RTCP by its first bytes, and had `wire_len` bytes on the wire.
    pub fn add(&mut self, payload: &[u8], wire_len: usize, flow: FlowKey, arrival: Arrival) {
        match Compound::parse(payload, wire_len) {
            Some(compound) => compound.for_each(|item| self.add_item(item, flow, arrival)),
            None => self.add_unread(),
        }
    }

    /// Counts a datagram of RTCP that cannot be read: it is encrypted, or broken.
    pub fn add_unread(&mut self) {
        self.unread = self.unread.saturating_add(1);
    }

    /// The number of RTCP datagrams that could not be read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread
    }

    fn add_item(&mut self, item: Item<'_>, flow: FlowKey, arrival: Arrival) {
        match item {
            Item::SenderReport { ssrc, ntp } => {
                if let Some(sender) = entry(&mut self.senders, (ssrc, flow)) {
                    sender.note(ntp, arrival.ns);
                }
            }
            Item::Cname { ssrc, name } => {
                if let Some(sender) = entry(&mut self.senders, (ssrc, flow)) {
                    sender.cname = Some(name.into());
                }
            }
            Item::Reception(report) => {
                let sent_ns = self.sent_ns(&report, flow);
                let Some((reception, courses)) = self.reception((report.ssrc, flow)) else {
                    return;
                };
                reception.add(&report);
                let round_trips = &mut reception.round_trips;
                let trip =
                    sent_ns.and_then(|sent_ns| round_trips.add(&report, sent_ns, arrival.ns));
                if let Some((course, now)) = reception.course(arrival, courses) {
                    course.add(&report, trip, now);
                }
            }
            Item::Opinion { ssrc, mos } => {
                let Some((reception, courses)) = self.reception((ssrc, flow)) else {
                    return;
                };
                reception.mos = Some(mos);
                if let Some((course, now)) = reception.course(arrival, courses) {
                    course.add_mos(mos, now);
                }
            }
        }
    }

    /// The reception of a subject, and the number of receptions that have a course.
    fn reception(&mut self, subject: Subject) -> Option<(&mut Reception, &mut usize)> {
        let reception = entry(&mut self.receptions, subject)?;
        Some((reception, &mut self.courses))
    }

    /// The time at which the sender report that a receiver answers passed the capture point.
    fn sent_ns(&self, report: &ReceptionReport, flow: FlowKey) -> Option<u64> {
        let ntp = report.last_sender_report;
        if ntp == 0 {
            return None;
        }
        let there = flow.reversed();
        if let Some(sender) = self.senders.get(&(report.ssrc, there)) {
            return sender.sent_ns(ntp);
        }
        // Some send RTCP from another port than the one where they receive it.
        self.senders
            .range((report.ssrc, first_flow())..)
            .take_while(|((ssrc, _), _)| *ssrc == report.ssrc)
            .take(MAX_SEARCHED)
            .filter(|((_, flow), _)| fit(*flow, there).is_some())
            .find_map(|(_, sender)| sender.sent_ns(ntp))
    }

    /// What is reported about each of these streams, which are given by SSRC, flow and number of
    /// packets. A report counts for one stream: the one with its SSRC between the same two
    /// addresses whose ports fit best, and of several the one with the most packets.
    #[must_use]
    pub fn matched(&self, streams: impl Iterator<Item = (u32, FlowKey, u64)>) -> Vec<FarEnd<'_>> {
        if self.senders.is_empty() && self.receptions.is_empty() {
            return streams.map(|_| FarEnd::default()).collect();
        }
        let streams: Vec<(u32, FlowKey, u64)> = streams.collect();
        let mut matched = vec![FarEnd::default(); streams.len()];
        let mut by_ssrc: BTreeMap<u32, Vec<(usize, FlowKey, u64)>> = BTreeMap::new();
        for (index, (ssrc, flow, packets)) in streams.into_iter().enumerate() {
            by_ssrc
                .entry(ssrc)
                .or_default()
                .push((index, flow, packets));
        }
        let best = |ssrc: u32, flow: FlowKey| {
            let fits = by_ssrc.get(&ssrc)?.iter();
            let fits = fits.filter_map(|(index, of_stream, packets)| {
                Some((fit(flow, *of_stream)?, *packets, *index))
            });
            fits.max().map(|(fit, _, index)| (fit, index))
        };
        let mut fits = vec![(0, 0); matched.len()];
        for (&(ssrc, flow), sender) in &self.senders {
            if let Some((fit, index)) = best(ssrc, flow)
                && let Some((of_name, _)) = fits.get_mut(index)
                && let Some(far_end) = matched.get_mut(index)
                && sender.cname.is_some()
                && fit > *of_name
            {
                *of_name = fit;
                far_end.cname = sender.cname.as_deref();
            }
        }
        for (&(ssrc, flow), reception) in &self.receptions {
            if let Some((fit, index)) = best(ssrc, flow.reversed())
                && let Some((_, of_reception)) = fits.get_mut(index)
                && let Some(far_end) = matched.get_mut(index)
                && fit > *of_reception
            {
                *of_reception = fit;
                far_end.reception = Some(reception);
            }
        }
        matched
    }
}

/// The entry of a subject, unless there are too many.
fn entry<T: Default>(entries: &mut BTreeMap<Subject, T>, subject: Subject) -> Option<&mut T> {
    if entries.len() >= MAX_SUBJECTS {
        return entries.get_mut(&subject);
    }
    Some(entries.entry(subject).or_default())
}

/// The flow that sorts before all others.
fn first_flow() -> FlowKey {
    let first = Endpoint::v6([0; 16], 0);
    FlowKey::between(first, first)
}

/// How well RTCP of one flow fits media of another: 1, and 1 more for each end with the port of the
/// media or the one above. `None` if the addresses differ.
fn fit(rtcp: FlowKey, media: FlowKey) -> Option<u8> {
    let of_end = |rtcp: Endpoint, media: Endpoint| {
        let ports = [Some(media.port()), media.port().checked_add(1)];
        (rtcp.ip() == media.ip()).then(|| u8::from(ports.contains(&Some(rtcp.port()))))
    };
    let source = of_end(rtcp.source, media.source)?;
    let destination = of_end(rtcp.destination, media.destination)?;
    Some(source.saturating_add(destination).saturating_add(1))
}

impl Sender {
    fn note(&mut self, ntp: u32, arrival_ns: u64) {
        if self.sent_ns(ntp).is_some() {
            return;
        }
        if self.sent.len() >= MAX_ANSWERABLE {
            self.sent.pop_front();
        }
        self.sent.push_back((ntp, arrival_ns));
    }

    fn sent_ns(&self, ntp: u32) -> Option<u64> {
        let is_it = |(sent, _): &&(u32, u64)| *sent == ntp;
        self.sent.iter().rev().find(is_it).map(|(_, ns)| *ns)
    }
}

impl Reception {
    fn add(&mut self, report: &ReceptionReport) {
        let now = Counted {
            lost: report.lost,
            highest: report.highest,
        };
        let first = self.counts.map_or(now, |(first, _)| first);
        self.counts = Some((first, now));
        self.jitter = report.jitter;
    }

    /// The course to which a datagram adds, and its packet time.
    fn course(&mut self, arrival: Arrival, courses: &mut usize) -> Option<(&mut Course, Clock)> {
        let now = arrival.course_at?;
        if self.course.is_none() && *courses < MAX_COURSES {
            *courses = courses.saturating_add(1);
            self.course = Some(Course::default());
        }
        Some((self.course.as_mut()?, now))
    }

    /// What the receiver reported over time, if that was kept, of a stream with this clock rate.
    #[must_use]
    pub fn reported(&self, clock_rate: Option<u32>) -> Vec<Reported> {
        let course = self.course.as_ref();
        course.map_or_else(Vec::new, |course| course.reported(clock_rate))
    }

    /// The packets that never came to the receiver, of a stream whose first sequence number and
    /// number of expected packets are those at the capture point. `may_be_older` is true if the
    /// stream may have begun before the capture.
    ///
    /// A report has no first sequence number, and counts from the stream's true beginning. So the
    /// loss of a stream that is older than the capture is that between the first report and the
    /// last. A stream is older, too, if the receiver expected more packets than passed the capture
    /// point, or if the first report has more losses than that. `None` if nothing makes sense.
    #[must_use]
    pub fn loss(&self, first: u16, expected: u64, may_be_older: bool) -> Option<Loss> {
        let (earliest, latest) = self.counts?;
        let most = expected.saturating_add(MAX_AHEAD);
        let between = |number: u32, highest: u32| u64::from(highest.wrapping_sub(number));
        let since = |number: u32| between(number, latest.highest);
        let from_first = since(first.into()).saturating_add(1);
        let at_first_report = between(first.into(), earliest.highest).saturating_add(1);
        let is_older = may_be_older
            || from_first > most
            || u64::try_from(earliest.lost).is_ok_and(|lost| lost > at_first_report);
        let (lost, expected) = if !is_older {
            (latest.lost.into(), from_first)
        } else {
            let lost = i64::from(latest.lost).saturating_sub(earliest.lost.into());
            (lost, since(earliest.highest))
        };
        (1..=most).contains(&expected).then(|| Loss {
            lost: lost.max(0).unsigned_abs().min(expected),
            expected,
        })
    }

    /// The jitter that the receiver reported last, in milliseconds.
    #[must_use]
    pub fn jitter_ms(&self, clock_rate: u32) -> Option<f64> {
        self.counts?;
        (clock_rate > 0).then(|| f64::from(self.jitter) * 1e3 / f64::from(clock_rate))
    }

    /// The mean time from the capture point to the receiver and back, in nanoseconds, without the
    /// time that the receiver took to answer.
    #[must_use]
    pub fn round_trip_ns(&self) -> Option<u64> {
        let RoundTrips { count, sum_ns, .. } = self.round_trips;
        sum_ns.checked_div(count)
    }

    /// The mean opinion score that the receiver reported last.
    #[must_use]
    pub fn mos(&self) -> Option<f64> {
        self.mos.map(|tenths| f64::from(tenths) / 10.0)
    }
}

impl RoundTrips {
    /// Adds the round trip that a report tells, and returns it, unless it was told before.
    fn add(&mut self, report: &ReceptionReport, sent_ns: u64, arrival_ns: u64) -> Option<u64> {
        let answer = (report.last_sender_report, report.delay);
        let delay_ns = u64::from(report.delay).saturating_mul(1_000_000_000) >> 16;
        let trip = i128::from(arrival_ns)
            .saturating_sub(sent_ns.into())
            .saturating_sub(delay_ns.into());
        if self.last == answer || trip < MAX_TICK_NS.saturating_neg() {
            return None;
        }
        self.last = answer;
        self.count = self.count.saturating_add(1);
        let trip = u64::try_from(trip.max(0)).unwrap_or(u64::MAX);
        self.sum_ns = self.sum_ns.saturating_add(trip);
        Some(trip)
    }
}

#[cfg(test)]
mod tests;
