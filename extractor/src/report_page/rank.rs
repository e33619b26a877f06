//! Which call is worse: points, as docs/report.md has them.

use super::record::Record;

/// Points are counted in tenths.
const POINT: u32 = 10;

/// The best MOS that a stream has (docs/statistics.md).
const BEST_MOS: f64 = 4.5;

/// How bad a call is, in tenths of a point.
pub(super) fn points(record: &Record<'_>) -> u32 {
    let problems = record.problems.iter().map(|problem| of_problem(problem));
    let whole = problems
        .chain([of_end(record), of_drops(record)])
        .fold(0, u32::saturating_add);
    whole.saturating_mul(POINT).saturating_add(of_mos(record))
}

fn of_problem(problem: &str) -> u32 {
    match problem {
        "no-media" => 100,
        "one-way" => 90,
        "mos" => 25,
        "server-error" => 20,
        "loss" => 15,
        "jitter" => 10,
        "slow-setup" | "early-media-only" => 8,
        "retransmitted-invite" => 5,
        _ => 1,
    }
}

/// A phone that is busy or a caller who gives up is no fault, so these have few points.
fn of_end(record: &Record<'_>) -> u32 {
    match (&*record.state, record.final_status) {
        ("timeout", _) => 30,
        ("failed", Some(486 | 600 | 603)) => 10,
        ("failed", _) => 20,
        ("flood", _) => 10,
        ("incomplete", _) => 5,
        ("cancelled", _) => 2,
        _ => 0,
    }
}

fn of_drops(record: &Record<'_>) -> u32 {
    u32::from(record.capture_drops > 0)
}

/// A point for a tenth that the worst stream lacks to the best MOS.
fn of_mos(record: &Record<'_>) -> u32 {
    let lack = BEST_MOS - record.mos().unwrap_or(BEST_MOS);
    // Between 0 and 35 points.
    (lack.clamp(0.0, BEST_MOS) * 100.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(members: &str) -> u32 {
        let line = format!(
            r#"{{"schema_version":1,"call_id":"1","start_ns":0,"duration_s":1,"sip_from":"","sip_to":"","source":"","destination":"",{members}}}"#
        );
        points(&Record::parse(line.as_bytes()).unwrap())
    }

    #[test]
    fn worse_calls_have_more_points() {
        let order = [
            r#""state":"completed","problems":[]"#,
            r#""state":"cancelled","problems":[]"#,
            r#""state":"completed","streams":[{"mos":4.2}],"problems":[]"#,
            r#""state":"failed","final_status":486,"problems":[]"#,
            r#""state":"failed","final_status":404,"problems":[]"#,
            r#""state":"timeout","problems":[]"#,
            r#""state":"failed","final_status":503,"problems":["server-error"]"#,
            r#""state":"completed","streams":[{"mos":4.4},{"mos":2.1}],"problems":["mos"]"#,
            r#""state":"completed","one_way":true,"problems":["one-way"]"#,
            r#""state":"completed","no_media":true,"problems":["no-media"]"#,
        ];
        let points: Vec<u32> = order.iter().map(|members| of(members)).collect();
        assert!(points.is_sorted_by(|a, b| a < b), "{points:?}");
        assert_eq!(points[0], 0);
        assert_eq!(points[2], 30);
    }
}
