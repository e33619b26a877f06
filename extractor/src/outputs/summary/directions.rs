//! The directions in which the media of a call went.

use std::collections::BTreeSet;

use crate::{packet::Endpoint, rtp::Stream};

/// Returns true if RTP went in both directions: an endpoint sent and received, or two hosts sent
/// to each other.
///
/// Endpoints alone are not enough, because a phone may send from another port than it receives on
/// (RFC 4961 only recommends one port). Nor are hosts: a relay sends and receives on two legs,
/// though nobody answers.
pub(super) fn go_both_ways(streams: &[Stream]) -> bool {
    let sources: BTreeSet<Endpoint> = streams.iter().map(|stream| stream.source).collect();
    let hosts = |stream: &Stream| (stream.source.with_port(0), stream.destination.with_port(0));
    let pairs: BTreeSet<(Endpoint, Endpoint)> = streams.iter().map(hosts).collect();
    streams.iter().any(|stream| {
        let (from, to) = hosts(stream);
        sources.contains(&stream.destination) || from != to && pairs.contains(&(to, from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Header, MediaClock};

    fn stream(from: (u8, u16), to: (u8, u16)) -> Stream {
        let header = Header {
            payload_type: 0,
            sequence: 1,
            timestamp: 0,
            ssrc: 1,
        };
        let end = |(host, port)| Endpoint::v4([192, 0, 2, host], port);
        let clock = MediaClock {
            is_event: false,
            rate: None,
            known: 0,
        };
        Stream::new(&header, end(from), end(to), 0, clock)
    }

    #[test]
    fn by_endpoints_and_by_hosts() {
        let relay_in = stream((1, 4000), (9, 100));
        let relay_out = stream((9, 102), (2, 6000));
        for (what, streams, want) in [
            ("nothing", vec![], false),
            ("one stream", vec![stream((1, 1), (2, 2))], false),
            (
                "two senders to one receiver",
                vec![stream((1, 1), (2, 2)), stream((3, 1), (2, 2))],
                false,
            ),
            (
                "there and back",
                vec![stream((1, 1), (2, 2)), stream((2, 2), (1, 1))],
                true,
            ),
            (
                "back from another port to another port",
                vec![stream((1, 1), (2, 2)), stream((2, 4), (1, 3))],
                true,
            ),
            (
                "back from another host",
                vec![stream((1, 1), (2, 2)), stream((3, 2), (1, 1))],
                true,
            ),
            (
                "through a relay",
                vec![relay_in.clone(), relay_out.clone()],
                false,
            ),
            (
                "through a relay and back",
                vec![relay_in, relay_out, stream((2, 6000), (9, 102))],
                true,
            ),
            ("on one host", vec![stream((1, 1), (1, 2))], false),
            (
                "on one host and back",
                vec![stream((1, 1), (1, 2)), stream((1, 2), (1, 1))],
                true,
            ),
        ] {
            assert_eq!(go_both_ways(&streams), want, "{what}");
        }
    }
}
