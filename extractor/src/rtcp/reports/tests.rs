use super::*;

const A: Endpoint = Endpoint::v4([192, 0, 2, 1], 4000);
const B: Endpoint = Endpoint::v4([192, 0, 2, 2], 6000);
const MS: u64 = 1_000_000;
/// The SSRC of A's stream.
const SSRC: u32 = 7;

/// The flow of RTCP between two endpoints of RTP.
fn rtcp(from: Endpoint, to: Endpoint) -> FlowKey {
    let above = |end: Endpoint| end.with_port(end.port() + 1);
    FlowKey::between(above(from), above(to))
}

/// An arrival of a run that keeps reports over time.
fn arrival(at_ms: u64) -> Arrival {
    let ns = at_ms * MS;
    Arrival {
        ns,
        course_at: Some(ns),
    }
}

fn report(lost: i32, highest: u32) -> ReceptionReport {
    ReceptionReport {
        ssrc: SSRC,
        fraction_lost: 0,
        lost,
        highest,
        jitter: 80,
        last_sender_report: 0,
        delay: 0,
    }
}

fn received(reports: &mut Reports, report: ReceptionReport, at_ms: u64) {
    reports.add_item(Item::Reception(report), rtcp(B, A), arrival(at_ms));
}

fn sent(reports: &mut Reports, ntp: u32, at_ms: u64) {
    let item = Item::SenderReport { ssrc: SSRC, ntp };
    reports.add_item(item, rtcp(A, B), arrival(at_ms));
}

fn of_stream(reports: &Reports) -> FarEnd<'_> {
    reports.matched([(SSRC, FlowKey::between(A, B), 1)].into_iter())[0]
}

fn reception(reports: &Reports) -> &Reception {
    of_stream(reports).reception.unwrap()
}

/// The loss between the first of a stream's packets and its last report.
fn loss(reports: &[(i32, u32)], first: u16, expected: u64) -> Option<(u64, u64)> {
    let mut all = Reports::default();
    for (lost, highest) in reports {
        received(&mut all, report(*lost, *highest), 0);
    }
    let loss = reception(&all).loss(first, expected, false)?;
    Some((loss.lost, loss.expected))
}

/// The receiver lost 300 packets before the capture began, and 2 since.
#[test]
fn losses_from_before_the_capture_are_none_of_it() {
    let before = [(300, 30_100), (302, 30_600)];
    assert_eq!(loss(&before, 30_000, 700), Some((2, 500)));
    assert_eq!(loss(&before[..1], 30_000, 700), None);
    // The counts do not tell: 50 of 101 may have been lost.
    let mut all = Reports::default();
    for (lost, highest) in [(50, 30_100), (52, 30_600)] {
        received(&mut all, report(lost, highest), 0);
    }
    let of_call = |is_under_way| reception(&all).loss(30_000, 700, is_under_way);
    let lost = |loss: Option<Loss>| loss.map(|loss| (loss.lost, loss.expected));
    assert_eq!(lost(of_call(false)), Some((52, 601)));
    assert_eq!(lost(of_call(true)), Some((2, 500)));
}

#[test]
fn loss_by_hand() {
    for (what, reports, first, expected, want) in [
        (
            "the last counts",
            &[(2, 149), (5, 349)][..],
            100,
            260,
            Some((5, 250)),
        ),
        (
            "across the wrap-around",
            &[(3, 0x1_0063)],
            65_436,
            200,
            Some((3, 200)),
        ),
        ("duplicates", &[(-4, 199)], 100, 100, Some((0, 100))),
        (
            "more than all",
            &[(0, 99), (900, 199)],
            100,
            100,
            Some((100, 100)),
        ),
        ("more than all, at once", &[(900, 199)], 100, 100, None),
        (
            "older than the capture",
            &[(40, 0x5_0000), (50, 0x5_0064)],
            65_000,
            700,
            Some((10, 100)),
        ),
        (
            "one report of an older stream",
            &[(40, 0x5_0000)],
            65_000,
            700,
            None,
        ),
        ("nothing received yet", &[(0, 0)], 100, 260, None),
        (
            "a wild number",
            &[(0, 0x5_0000), (0, 0x9_0000)],
            65_000,
            700,
            None,
        ),
        (
            "the receiver saw some before",
            &[(1, 3_300)],
            100,
            250,
            Some((1, 3_201)),
        ),
    ] {
        assert_eq!(loss(reports, first, expected), want, "{what}");
    }
}

#[test]
fn jitter_is_in_units_of_the_clock() {
    let mut reports = Reports::default();
    received(&mut reports, report(0, 100), 0);
    let jitter = |rate| reception(&reports).jitter_ms(rate);
    assert_eq!(jitter(8_000), Some(10.0));
    assert_eq!(jitter(48_000), Some(80.0 / 48.0));
    assert_eq!(jitter(0), None);
}

/// The report passes at 1000 ms; the answer was delayed by 0x8000 / 65536 s and passes at 1530 ms.
#[test]
fn a_round_trip_by_hand() {
    let mut reports = Reports::default();
    sent(&mut reports, 0x1111, 1_000);
    let answer = ReceptionReport {
        last_sender_report: 0x1111,
        delay: 0x8000,
        ..report(0, 1)
    };
    received(&mut reports, answer, 1_530);
    assert_eq!(reception(&reports).round_trip_ns(), Some(30 * MS));
    received(&mut reports, answer, 1_531);
    assert_eq!(reception(&reports).round_trip_ns(), Some(30 * MS), "a copy");
    sent(&mut reports, 0x2222, 6_000);
    sent(&mut reports, 0x2222, 6_005);
    let next = ReceptionReport {
        last_sender_report: 0x2222,
        ..answer
    };
    received(&mut reports, next, 6_550);
    assert_eq!(
        reception(&reports).round_trip_ns(),
        Some(40 * MS),
        "the mean of 30 and 50"
    );
}

#[test]
fn what_is_no_round_trip() {
    let trip = |ntp: u32, delay: u32, at_ms: u64| {
        let mut reports = Reports::default();
        sent(&mut reports, 0x1111, 1_000);
        let answer = ReceptionReport {
            last_sender_report: ntp,
            delay,
            ..report(0, 1)
        };
        received(&mut reports, answer, at_ms);
        reception(&reports).round_trip_ns()
    };
    assert_eq!(trip(0x1111, 0x8000, 1_530), Some(30 * MS));
    assert_eq!(trip(0, 0x8000, 1_530), None, "no report had come");
    assert_eq!(trip(0x3333, 0x8000, 1_530), None, "another report");
    assert_eq!(
        trip(0x1111, 0x8000, 1_499),
        Some(0),
        "within a tick of a clock"
    );
    assert_eq!(trip(0x1111, 0x8000, 1_400), None, "before it was sent");
}

#[test]
fn only_the_latest_reports_can_be_answered() {
    let mut reports = Reports::default();
    (1..=9).for_each(|ntp| sent(&mut reports, ntp, u64::from(ntp) * 1_000));
    for (ntp, want) in [(1, None), (2, Some(7_500 * MS))] {
        let answer = ReceptionReport {
            last_sender_report: ntp,
            ..report(0, 1)
        };
        received(&mut reports, answer, 9_500);
        assert_eq!(reception(&reports).round_trip_ns(), want, "{ntp}");
    }
}

#[test]
fn an_answer_may_come_from_another_port() {
    let mut reports = Reports::default();
    sent(&mut reports, 0x1111, 1_000);
    let answer = ReceptionReport {
        last_sender_report: 0x1111,
        ..report(0, 1)
    };
    let from_elsewhere = FlowKey::between(B.with_port(50_000), A.with_port(4_001));
    reports.add_item(Item::Reception(answer), from_elsewhere, arrival(1_030));
    assert_eq!(reception(&reports).round_trip_ns(), Some(30 * MS));
}

#[test]
fn the_last_opinion_and_the_last_name_count() {
    let mut reports = Reports::default();
    for (mos, name) in [(43, &b"a@one"[..]), (38, b"a@two")] {
        reports.add_item(Item::Opinion { ssrc: SSRC, mos }, rtcp(B, A), arrival(0));
        reports.add_item(Item::Cname { ssrc: SSRC, name }, rtcp(A, B), arrival(0));
    }
    assert_eq!(reception(&reports).mos(), Some(3.8));
    assert_eq!(of_stream(&reports).cname, Some(&b"a@two"[..]));
    assert_eq!(reception(&reports).loss(0, 100, false), None);
    assert_eq!(reception(&reports).jitter_ms(8_000), None);
}

/// A relay passes a stream on with its SSRC; each leg has its own receiver.
#[test]
fn a_report_counts_for_the_leg_that_it_is_about() {
    let relay = Endpoint::v4([198, 51, 100, 7], 16_400);
    let legs = [FlowKey::between(A, relay), FlowKey::between(relay, B)];
    let mut reports = Reports::default();
    for (lost, from, to) in [(1, relay, A), (2, B, relay)] {
        reports.add_item(
            Item::Reception(report(lost, 99)),
            rtcp(from, to),
            arrival(0),
        );
    }
    let matched = reports.matched(legs.into_iter().map(|leg| (SSRC, leg, 1)));
    let lost = matched
        .iter()
        .map(|far_end| far_end.reception.unwrap().loss(0, 100, false).unwrap().lost);
    assert_eq!(lost.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn ports_decide_between_streams_of_the_same_addresses() {
    let moved = A.with_port(4_100);
    let streams = [
        (SSRC, FlowKey::between(A, B), 10),
        (SSRC, FlowKey::between(moved, B), 50),
    ];
    let of_streams = |reporter: FlowKey| {
        let mut reports = Reports::default();
        reports.add_item(Item::Reception(report(1, 99)), reporter, arrival(0));
        let matched = reports.matched(streams.into_iter());
        [0, 1].map(|index| matched[index].reception.is_some())
    };
    assert_eq!(of_streams(rtcp(B, A)), [true, false]);
    assert_eq!(of_streams(rtcp(B, moved)), [false, true]);
    assert_eq!(
        of_streams(FlowKey::between(B, moved)),
        [false, true],
        "on one port"
    );
    let elsewhere = FlowKey::between(B.with_port(1), A.with_port(2));
    assert_eq!(
        of_streams(elsewhere),
        [false, true],
        "the one with the most packets"
    );
    let other_way = FlowKey::between(A, B);
    assert_eq!(of_streams(other_way), [false, false], "from the sender");
}

#[test]
fn other_addresses_are_other_streams() {
    let mut reports = Reports::default();
    let stranger = Endpoint::v4([203, 0, 113, 9], 6_000);
    reports.add_item(
        Item::Reception(report(1, 99)),
        rtcp(stranger, A),
        arrival(0),
    );
    assert!(of_stream(&reports).reception.is_none());
}

#[test]
fn nobody_can_report_too_much() {
    let mut reports = Reports::default();
    for ssrc in 0..5_000 {
        let about = ReceptionReport {
            ssrc,
            ..report(0, 1)
        };
        reports.add_item(Item::Reception(about), rtcp(B, A), arrival(0));
        reports.add_item(Item::SenderReport { ssrc, ntp: 1 }, rtcp(A, B), arrival(0));
    }
    assert_eq!(reports.receptions.len(), MAX_SUBJECTS);
    assert_eq!(reports.senders.len(), MAX_SUBJECTS);
    assert!(
        reception(&reports).loss(1, 100, false).is_some(),
        "the first ones go on"
    );
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut reports = Reports::default();
    reports.add(&[0x80, 201, 0, 9], 4, rtcp(A, B), arrival(0));
    reports.add(&[0x80, 201, 0, 1, 0, 0, 0, 7], 8, rtcp(A, B), arrival(0));
    assert_eq!(reports.unread(), 1);
}

#[test]
fn receptions_over_time_are_bounded_and_kept_only_if_wanted() {
    let mut all = Reports::default();
    let unwanted = Arrival {
        ns: 0,
        course_at: None,
    };
    all.add_item(Item::Reception(report(0, 1)), rtcp(B, A), unwanted);
    assert_eq!(reception(&all).reported(None), []);
    received(&mut all, report(0, 9), 5_000);
    assert_eq!(reception(&all).reported(None)[0].start_ns, 5_000 * MS);
    for ssrc in 100..100 + MAX_COURSES as u32 {
        let other = ReceptionReport {
            ssrc,
            ..report(0, 1)
        };
        all.add_item(Item::Reception(other), rtcp(B, A), arrival(0));
    }
    let kept = all.receptions.values();
    let kept = kept.filter(|one| !one.reported(None).is_empty());
    assert_eq!(kept.count(), MAX_COURSES);
}
