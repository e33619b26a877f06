//! One direction of a TCP connection, segment by segment; and WebSocket frames for it.

use std::net::SocketAddr;

use crate::{MS, capture::Capture, frames, ladder::START_NS};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// One side of a connection; times are in milliseconds from [`START_NS`].
#[derive(Clone, Copy)]
pub struct Tcp {
    from: SocketAddr,
    to: SocketAddr,
    pub next: u32,
}

impl Tcp {
    /// Creates a side whose first byte has the number after `initial`.
    pub fn new(from: SocketAddr, to: SocketAddr, initial: u32) -> Self {
        Self {
            from,
            to,
            next: initial.wrapping_add(1),
        }
    }

    pub fn syn(&self, capture: &mut Capture, at_ms: u64) {
        self.push(capture, at_ms, self.next.wrapping_sub(1), SYN, b"");
    }

    /// Sends the next bytes.
    pub fn send(&mut self, capture: &mut Capture, at_ms: u64, payload: &[u8]) {
        self.at(capture, at_ms, 0, payload);
        self.skip(payload.len());
    }

    /// Sends bytes that lie `distance` after (or, if negative, before) the next ones.
    pub fn at(&self, capture: &mut Capture, at_ms: u64, distance: i32, payload: &[u8]) {
        self.push(
            capture,
            at_ms,
            self.next.wrapping_add_signed(distance),
            ACK,
            payload,
        );
    }

    /// Leaves out the next bytes: they are not captured.
    pub fn skip(&mut self, len: usize) {
        self.next = self.next.wrapping_add(len as u32);
    }

    pub fn ack(&self, capture: &mut Capture, at_ms: u64) {
        self.push(capture, at_ms, self.next, ACK, b"");
    }

    pub fn fin(&self, capture: &mut Capture, at_ms: u64) {
        self.push(capture, at_ms, self.next, FIN | ACK, b"");
    }

    pub fn rst(&self, capture: &mut Capture, at_ms: u64) {
        self.push(capture, at_ms, self.next, RST, b"");
    }

    fn push(&self, capture: &mut Capture, at_ms: u64, sequence: u32, flags: u8, payload: &[u8]) {
        capture.push(
            START_NS + at_ms * MS,
            frames::tcp(self.from, self.to, sequence, flags, payload),
        );
    }
}

/// RFC 6455, 1.3.
pub const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";
pub const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n";

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const LAST: u8 = 0x80;

/// Returns a WebSocket frame: opcode and flags, and a payload that is masked if a mask is given.
pub fn websocket(first_byte: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first_byte];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        len @ ..126 => frame.push(masked | len as u8),
        len => {
            frame.push(masked | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask.iter().flatten());
    frame.extend(
        payload
            .iter()
            .zip(mask.unwrap_or_default().iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
