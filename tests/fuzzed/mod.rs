//! Invariants for any input: one module for each fuzz target, in plain code, so that `fuzz/` can
//! look for counterexamples and `tests/corpus.rs` can replay known ones.
#![allow(dead_code, reason = "each fuzz target uses a part of it")]

pub mod body;
pub mod capture;
pub mod chunk;
pub mod fragments;
pub mod frame;
pub mod framing;
pub mod index;
mod made;
pub mod message;
pub mod query;
pub mod rtp;
pub mod run;
pub mod stream;
pub mod units;
pub mod websocket;

/// A check, which panics if an invariant is violated.
pub type Check = fn(&[u8]);

/// The fuzz targets. The corpus of a target is under its name.
pub const TARGETS: [(&str, Check); 14] = [
    ("body", body::check),
    ("capture", capture::check),
    ("chunk", chunk::check),
    ("fragments", fragments::check),
    ("frame", frame::check),
    ("framing", framing::check),
    ("index", index::check),
    ("message", message::check),
    ("query", query::check),
    ("rtp", rtp::check),
    ("run", run::check),
    ("stream", stream::check),
    ("units", units::check),
    ("websocket", websocket::check),
];

/// The bytes of an input, taken in sequence. After its end there are zeros.
#[derive(Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn u64(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Takes the next bytes; fewer at the end.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Takes as many bytes as the next byte says.
    pub fn some(&mut self) -> &'a [u8] {
        let len = self.byte().into();
        self.bytes(len)
    }
}

/// Returns the range of `part` in `whole`.
#[track_caller]
pub fn place(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if part.is_empty() {
        return 0..0;
    }
    assert!(
        start <= whole.len() && part.len() <= whole.len() - start,
        "outside of the input"
    );
    start..start + part.len()
}
