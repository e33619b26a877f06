//! Capture points that have been silent for too long.

use std::time::{Duration, Instant};

/// Tracks which capture points have been silent for too long to be waited for.
#[derive(Clone, Debug)]
pub struct Silence {
    timeout: Duration,
    last: Vec<Instant>,
}

impl Silence {
    /// Begins the timeout of each capture point now.
    #[must_use]
    pub fn new(points: usize, timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            last: vec![now; points],
        }
    }

    /// Notes that a capture point has delivered something.
    pub fn delivered(&mut self, point: usize, now: Instant) {
        if let Some(last) = self.last.get_mut(point) {
            *last = now;
        }
    }

    /// Returns true if a capture point has delivered nothing for longer than the timeout.
    #[must_use]
    pub fn is_silent(&self, point: usize, now: Instant) -> bool {
        self.last
            .get(point)
            .is_some_and(|last| now.saturating_duration_since(*last) > self.timeout)
    }

    /// The capture points that are silent.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = usize> {
        (0..self.last.len()).filter(move |point| self.is_silent(*point, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_point_is_silent_after_its_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut silence = Silence::new(3, Duration::from_secs(300), begun);
        let silent = |silence: &Silence, seconds| silence.silent(at(seconds)).collect::<Vec<_>>();
        assert_eq!(silent(&silence, 300), [0; 0]);
        silence.delivered(1, at(200));
        silence.delivered(7, at(200));
        assert_eq!(silent(&silence, 301), [0, 2]);
        silence.delivered(0, at(302));
        assert_eq!(silent(&silence, 303), [2]);
        assert_eq!(silent(&silence, 501), [1, 2]);
        assert!(!silence.is_silent(7, at(501)));
    }
}
