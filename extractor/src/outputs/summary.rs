//! The final values of a call, from which its records are made. They are computed in this place
//! only, and have types: how a record writes them is its own business.

mod directions;
mod streams;

pub(super) use self::streams::StreamSummary;
use self::{directions::go_both_ways, streams::codecs};
use super::{names::FileName, recording::Recording};
use crate::{
    calls::{Call, CallState, End, Link, Side},
    dtmf::Pressed,
    problems::{Problem, Problems, Thresholds},
    sdp::Codec,
    selection::Ended,
};

/// A call that has ended. Times between moments are in nanoseconds, and 0 where the clock of the
/// capture was set back between them.
#[derive(Debug)]
pub(super) struct CallSummary<'a> {
    /// Its identity, and what its messages said.
    pub(super) call: &'a Call,
    /// Its end.
    pub(super) end: End,
    /// The time of its last packet, in nanoseconds since 1970.
    pub(super) end_ns: u64,
    /// From its start to that packet.
    pub(super) duration_ns: u64,
    /// The frames with its SIP.
    pub(super) sip_packets: u64,
    /// Its RTP packets.
    pub(super) rtp_packets: u64,
    /// Its RTP streams, by first packet.
    pub(super) streams: Vec<StreamSummary<'a>>,
    /// The post-dial delay: from its start to the first 18x.
    pub(super) pdd_ns: Option<u64>,
    /// From its start to the first 2xx.
    pub(super) answer_ns: Option<u64>,
    /// From the first 2xx to the BYE, or to the last packet if there is no BYE.
    pub(super) talk_ns: Option<u64>,
    /// The side that sent the BYE or the CANCEL.
    pub(super) hangup_by: Option<Side>,
    /// The codecs of its streams, each once, by first packet.
    pub(super) codecs: Vec<Codec>,
    /// The digits that were pressed, in the order of time.
    pub(super) pressed: Vec<Pressed>,
    /// Of an answered call: true if RTP went in one direction only.
    pub(super) one_way: Option<bool>,
    /// Of an answered call: true if there is no RTP.
    pub(super) no_media: Option<bool>,
    /// The name of its conversation, and its links.
    pub(super) conversation: (String, &'a [Link]),
    /// Its problems.
    pub(super) problems: Problems,
}

impl<'a> CallSummary<'a> {
    /// The summary of a call that has ended.
    pub(super) fn of(
        call: &'a Call,
        end: End,
        recording: &'a Recording,
        thresholds: &Thresholds,
    ) -> Self {
        let all = recording.streams.all();
        let streams: Vec<StreamSummary<'_>> = all
            .iter()
            .zip(recording.streams.far_ends())
            .map(|(stream, far_end)| StreamSummary::of(call, stream, far_end))
            .collect();
        let facts = &call.facts;
        let since_start = |ns: Option<u64>| Some(ns?.saturating_sub(call.start_ns));
        let hang_up = facts.hang_up;
        let over_ns = hang_up.map_or(recording.last_ns(), |hang_up| hang_up.at_ns);
        let cancelled_by =
            (facts.is_cancelled && end.state == CallState::Cancelled).then_some(Side::Caller);
        let of_answered = |is_so: bool| call.was_answered().then_some(is_so);
        let mut summary = Self {
            call,
            end,
            end_ns: recording.last_ns(),
            duration_ns: recording.last_ns().saturating_sub(call.start_ns),
            sip_packets: recording.sip_packets,
            rtp_packets: recording.streams.packets(),
            pdd_ns: since_start(facts.ringing_ns),
            answer_ns: since_start(facts.answered_ns),
            talk_ns: facts
                .answered_ns
                .map(|answered_ns| over_ns.saturating_sub(answered_ns)),
            hangup_by: hang_up.map(|hang_up| hang_up.by).or(cancelled_by),
            codecs: codecs(call, all),
            pressed: recording.streams.digits().with(&call.info_digits),
            one_way: of_answered(!all.is_empty() && !go_both_ways(all)),
            no_media: of_answered(all.is_empty()),
            conversation: conversation(call, recording),
            problems: Problems::default(),
            streams,
        };
        summary.problems = summary.problems(thresholds);
        summary
    }

    /// The digits that were pressed.
    pub(super) fn digits(&self) -> Vec<u8> {
        self.pressed.iter().map(|one| one.digit).collect()
    }

    /// The values by which the user selects calls.
    pub(super) fn ended(&self) -> Ended {
        Ended {
            last_ns: self.end_ns,
            duration_ns: self.duration_ns,
            state: self.end.state,
            problems: self.problems,
        }
    }

    fn problems(&self, thresholds: &Thresholds) -> Problems {
        let any = |is_bad: &dyn Fn(&StreamSummary<'_>) -> bool| self.streams.iter().any(is_bad);
        let setup_ns = self.pdd_ns.or(self.answer_ns);
        let mut problems = Problems::default();
        for (problem, is_there) in [
            (
                Problem::Loss,
                any(&|stream| stream.loses_more_than(thresholds.loss_percent)),
            ),
            (
                Problem::Jitter,
                any(&|stream| stream.jitters_more_than(thresholds.jitter_ns)),
            ),
            (
                Problem::Mos,
                any(&|stream| stream.sounds_worse_than(thresholds.mos)),
            ),
            (Problem::OneWay, self.one_way == Some(true)),
            (Problem::NoMedia, self.no_media == Some(true)),
            (
                Problem::SlowSetup,
                setup_ns.is_some_and(|ns| ns > thresholds.setup_ns),
            ),
            (Problem::EarlyMediaOnly, self.has_early_media_only()),
            (
                Problem::RetransmittedInvite,
                self.call.facts.retransmitted_invites > 0,
            ),
            (
                Problem::ServerError,
                matches!(self.end.final_status, Some(500..600)),
            ),
        ] {
            problems.add_if(is_there, problem);
        }
        problems
    }

    /// RFC 3960, 1: early media is exchanged before a session is accepted. Where the capture may
    /// have lost the answer, media is not known to be early. A call that the caller gives up while
    /// it rings has a ringing tone: that is no problem.
    fn has_early_media_only(&self) -> bool {
        let was_refused = self.end.state == CallState::Failed;
        let is_early = |stream: &StreamSummary<'_>| {
            self.call
                .facts
                .answered_ns
                .map_or(was_refused, |answered_ns| {
                    stream.stream.arrivals.last_ns < answered_ns
                })
        };
        !self.streams.is_empty() && self.streams.iter().all(is_early)
    }
}

fn conversation<'a>(call: &'a Call, recording: &Recording) -> (String, &'a [Link]) {
    let Some(conversation) = &call.conversation else {
        return (String::new(), &[]);
    };
    let first = &conversation.first;
    let name = if first.number == call.number {
        recording.file.stem().of_own_conversation().to_owned()
    } else {
        FileName::of_conversation(first)
    };
    (name, &conversation.links)
}
