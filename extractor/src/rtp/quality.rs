//! Speech quality of a stream: the E-model (ITU-T G.107), with the inputs that a capture has.

use super::Totals;

/// The parameters of a codec in the E-model: ITU-T G.113, appendix I.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Impairment {
    /// Ie: the impairment by the codec itself.
    equipment: f64,
    /// Bpl: the robustness against packet loss.
    robustness: f64,
}

/// R of a narrow-band connection without impairments: the default values of G.107.
const BEST_R: f64 = 93.2;

/// The mean opinion score of a stream, 1 to 4.5, for listening quality. Conversational quality
/// needs the delay of the network, which a capture at one point does not have. `None` for a codec
/// that the tables of G.113 do not list as narrow-band speech.
///
/// `delay_ms` is the delay of packetization and of a buffer that absorbs the jitter.
#[must_use]
pub fn mos(codec: &[u8], totals: &Totals, delay_ms: f64) -> Option<f64> {
    let impairment = impairment(codec)?;
    let rating = BEST_R - of_delay(delay_ms) - of_losses(impairment, totals);
    Some(score(rating))
}

/// The mean opinion score for the rating R: G.107, annex B.
fn score(r: f64) -> f64 {
    match r {
        ..0.0 => 1.0,
        100.0.. => 4.5,
        // Near 0 the polynomial is slightly below 1.
        _ => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
    }
}

/// The delay of a receiver, in milliseconds: it waits for a packet to be complete, and for twice the
/// jitter, which covers nearly all of it.
#[must_use]
pub fn delay_ms(ptime_ms: u32, jitter_ms: f64) -> f64 {
    f64::from(ptime_ms) + 2.0 * jitter_ms
}

fn impairment(codec: &[u8]) -> Option<Impairment> {
    let (equipment, robustness) = match codec.to_ascii_uppercase().as_slice() {
        // With the packet loss concealment of G.711 appendix I, which phones have.
        b"PCMU" | b"PCMA" => (0.0, 25.1),
        name if is_g729(name) => (11.0, 19.0),
        _ => return None,
    };
    Some(Impairment {
        equipment,
        robustness,
    })
}

/// G.729 with annex A (less computation, same bits) or B (silence suppression): G.113 has one entry
/// for them. RFC 3551, 4.5.6 calls all of them `G729`, phones write `G729A` or `G.729AB`. Annexes D
/// and E are other codecs.
fn is_g729(name: &[u8]) -> bool {
    let annex = name
        .strip_prefix(b"G729")
        .or_else(|| name.strip_prefix(b"G.729"));
    annex.is_some_and(|annex| matches!(annex, b"" | b"A" | b"B" | b"AB"))
}

/// Id, by the usual approximation of G.107 for its default values.
fn of_delay(ms: f64) -> f64 {
    0.024 * ms + 0.11 * (ms - 177.3).max(0.0)
}

/// Ie,eff = Ie + (95 - Ie) * Ppl / (Ppl / BurstR + Bpl).
fn of_losses(
    Impairment {
        equipment,
        robustness,
    }: Impairment,
    totals: &Totals,
) -> f64 {
    if totals.lost == 0 {
        return equipment;
    }
    let lost = totals.lost as f64 / totals.expected as f64;
    // BurstR: the mean length of bursts of loss over that of random loss.
    let burst_ratio = (totals.lost as f64 / totals.bursts.max(1) as f64 * (1.0 - lost)).max(1.0);
    let percent = lost * 100.0;
    equipment + (95.0 - equipment) * percent / (percent / burst_ratio + robustness)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(expected: u64, lost: u64, bursts: u64) -> Totals {
        Totals {
            expected,
            lost,
            out_of_order: 0,
            duplicates: 0,
            bursts,
            longest_burst: 0,
        }
    }

    /// G.109, table 1, and 4.41 for the default values of G.107.
    #[test]
    fn published_ratings() {
        for (rating, want) in [
            (-1.0, 1.0),
            (0.0, 1.0),
            (50.0, 2.58),
            (60.0, 3.10),
            (70.0, 3.60),
            (80.0, 4.03),
            (90.0, 4.34),
            (BEST_R, 4.41),
            (100.0, 4.5),
        ] {
            let got = score(rating);
            assert!((got - want).abs() < 0.01, "R {rating}: {got}");
        }
    }

    /// G.113, appendix I: G.711 with the concealment of its appendix I, and G.729A with silence
    /// suppression.
    #[test]
    fn published_impairments() {
        for (codec, equipment, robustness) in [
            ("PCMU", 0.0, 25.1),
            ("PCMA", 0.0, 25.1),
            ("G729", 11.0, 19.0),
        ] {
            let want = Impairment {
                equipment,
                robustness,
            };
            assert_eq!(impairment(codec.as_bytes()), Some(want), "{codec}");
        }
    }

    /// The table in docs/statistics.md.
    #[test]
    fn as_documented() {
        for (lost, pcmu, g729) in [
            (0, 4.40, 4.09),
            (1, 4.32, 3.93),
            (2, 4.22, 3.77),
            (5, 3.90, 3.32),
            (10, 3.39, 2.72),
        ] {
            let of =
                |codec: &[u8]| mos(codec, &totals(100, lost, lost), delay_ms(20, 0.0)).unwrap();
            let (got_pcmu, got_g729) = (of(b"PCMU"), of(b"G729"));
            assert!((got_pcmu - pcmu).abs() < 0.006, "{lost} %: {got_pcmu}");
            assert!((got_g729 - g729).abs() < 0.006, "{lost} %: {got_g729}");
        }
    }

    /// Values calculated by hand from the formulas.
    #[test]
    fn by_hand() {
        for (codec, (expected, lost, bursts), delay_ms, want) in [
            ("PCMU", (1000, 0, 0), 0.0, 4.41),
            ("pcma", (1000, 0, 0), 20.0, 4.40),
            ("PCMA", (1000, 10, 10), 20.0, 4.32),
            ("PCMA", (1000, 50, 50), 20.0, 3.90),
            ("PCMA", (1000, 50, 5), 20.0, 3.79),
            ("G729", (1000, 0, 0), 20.0, 4.09),
            ("G729", (1000, 0, 0), 400.0, 2.48),
            ("PCMU", (1000, 1000, 1), 20.0, 1.16),
        ] {
            let got = mos(codec.as_bytes(), &totals(expected, lost, bursts), delay_ms).unwrap();
            assert!(
                (got - want).abs() < 0.006,
                "{codec} {lost} in {bursts}, {delay_ms} ms: {got}"
            );
        }
        let of = |codec: &str| mos(codec.as_bytes(), &totals(1000, 10, 10), 20.0);
        for codec in [
            "G729A", "g729a", "G729B", "G729AB", "G.729", "g.729A", "G.729B", "G.729ab",
        ] {
            assert_eq!(of(codec), of("G729"), "{codec}");
        }
        for codec in [
            "G729D", "G729E", "G.729.1", "G729BA", "G7290", "G.72", "G..729", "XG729",
        ] {
            assert_eq!(of(codec), None, "{codec}");
        }
        assert_eq!(mos(b"opus", &totals(1000, 0, 0), 20.0), None);
        assert_eq!(mos(b"", &totals(1000, 0, 0), 20.0), None);
    }

    #[test]
    fn no_figures_are_off_the_scale() {
        for lost in 0..=100 {
            for delay_ms in [0.0, 1e3, 1e9] {
                let got = mos(b"PCMU", &totals(100, lost, 1), delay_ms).unwrap();
                assert!((1.0..=4.5).contains(&got), "{got}");
            }
        }
    }
}
