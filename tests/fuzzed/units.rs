//! Durations, port ranges and names of segments are read back as they were written.

use std::time::Duration;

use shared::{
    segment::SegmentName,
    units::{GoDuration, SipPorts},
};

use super::Input;

pub fn check(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        read(text);
    }
    written(Input(input));
}

fn read(text: &str) {
    if let Ok(duration) = text.parse::<GoDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
    if let Ok(ports) = text.parse::<SipPorts>() {
        assert_eq!(ports.to_string().parse(), Ok(ports));
        if let SipPorts::Range(first, last) = ports {
            assert!(0 < first && first <= last && ports.admit(first, 0) && ports.admit(0, last));
            assert!(!ports.admit(first - 1, last.wrapping_add(1)));
        }
    }
    if let Ok(name) = text.parse::<SegmentName>() {
        assert_eq!(name.to_string(), text);
    }
}

fn written(mut input: Input<'_>) {
    let start_us = input.u64();
    let duration = GoDuration(Duration::from_nanos(start_us >> 1));
    assert_eq!(duration.to_string().parse(), Ok(duration));
    let sequence = (input.u64() >> 32) as u32;
    let instance = String::from_utf8_lossy(input.some());
    let name = SegmentName::new(
        &instance,
        &String::from_utf8_lossy(input.0),
        start_us,
        sequence,
    );
    let text = name.to_string();
    assert!(
        text.len() < 250 && !text.starts_with(['.', '-']) && text.is_ascii() && !text.contains('/')
    );
    assert_eq!(text.parse(), Ok(name.clone()));
    let next = SegmentName::new(
        name.instance(),
        name.interface(),
        start_us.saturating_add(1),
        sequence,
    );
    assert_eq!(
        name.cmp(&next),
        text.cmp(&next.to_string()),
        "names sort as text"
    );
}
