//! The tap: what one interface receives and sends, through libpcap.
//!
//! On Linux the kernel hands packets over in blocks, when a block is full or [`READ_TIMEOUT`] old, and libpcap
//! waits for the next block as long as it takes: on a quiet interface forever. So the end comes from
//! another thread, which waits for the signal and breaks libpcap's loop.
//!
//! To end without losing what came before: the signal's instant is kept, capturing goes on for two
//! read timeouts so that the blocks of that time arrive, and then until a packet is younger
//! than the signal or none is left. Who changes this, watch a loaded interface (never without a
//! packet) and a silent one (never with one).
#![allow(clippy::disallowed_methods, reason = "a door: libpcap, and the clock that it stamps packets with")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use pcap::{Active, BreakLoop, Capture, Linktype, Packet, Stat};
use shared::pcap::LinkType;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// How old a block of packets gets before the kernel hands it over.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// The kernel's ring: some seconds of a gigabit, for the time that a disk may stall.
const RING_BYTES: i32 = 64 * 1024 * 1024;

/// How many packets are taken before they are written out.
const BATCH_PACKETS: usize = 1024;

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    #[error("cannot capture on `{interface}`: {}{}", reason(cause), advice(cause))]
    Open { interface: String, cause: pcap::Error },
    #[error("libpcap refuses the filter `{filter}`: {}", reason(cause))]
    Filter { filter: String, cause: pcap::Error },
    #[error("the capture on `{interface}` broke off: {}", reason(cause))]
    Read { interface: String, cause: pcap::Error },
}

/// libpcap's own words, without the crate's.
fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(words) => words.clone(),
        other => other.to_string(),
    }
}

/// libpcap has no error code for it here, only the system's words.
fn advice(error: &pcap::Error) -> &'static str {
    if reason(error).contains("not permitted") {
        "; capturing needs CAP_NET_RAW: be root, or `setcap cap_net_raw+ep` the program"
    } else {
        ""
    }
}

/// One packet, borrowed from libpcap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) timestamp_ns: u64,
    pub(crate) wire_len: u32,
    pub(crate) bytes: &'a [u8],
}

/// What waiting for packets gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// So many packets, and there may be more.
    More(usize),
    /// The capture was told to end, and all that came before is delivered.
    Over,
}

/// An interface that is being captured.
pub(crate) struct Tap {
    handle: Capture<Active>,
    interface: String,
    last_ns: u64,
    end: End,
}

impl Tap {
    pub(crate) fn open(interface: &str, filter: &str, snaplen: u32) -> Result<Self, TapError> {
        let mut handle =
            activate(interface, snaplen).map_err(|cause| TapError::Open { interface: interface.to_owned(), cause })?;
        handle.filter(filter, true).map_err(|cause| TapError::Filter { filter: filter.to_owned(), cause })?;
        Ok(Self { handle, interface: interface.to_owned(), last_ns: 0, end: End::default() })
    }

    /// From now on SIGTERM and SIGINT end the capture instead of the process.
    pub(crate) fn end_on_signals(&mut self) -> io::Result<()> {
        let signals = Signals::new([SIGTERM, SIGINT])?;
        let (end, breakloop) = (self.end.clone(), self.handle.breakloop_handle());
        thread::Builder::new().name("signals".to_owned()).spawn(move || end.wait(signals, &breakloop))?;
        Ok(())
    }

    pub(crate) fn link(&self) -> LinkType {
        link_type(self.handle.get_datalink())
    }

    /// Waits for packets and gives them to `each`, up to the first that it fails on.
    pub(crate) fn next_batch(&mut self, mut each: impl FnMut(Frame<'_>) -> io::Result<()>) -> anyhow::Result<Batch> {
        let (mut packets, mut last_ns, mut taken) = (0usize, self.last_ns, Ok(()));
        let dispatched = self.handle.dispatch(Some(BATCH_PACKETS), |packet| {
            let frame = Frame::from(&packet);
            (packets, last_ns) = (packets.saturating_add(1), frame.timestamp_ns);
            if taken.is_ok() {
                taken = each(frame);
            }
        });
        self.last_ns = last_ns;
        taken.context("the segment cannot be written")?;
        self.after_batch(packets, dispatched)
    }

    /// A broken loop and a broken interface look alike: what tells them apart is whether an end was asked for.
    fn after_batch(&self, packets: usize, dispatched: Result<usize, pcap::Error>) -> anyhow::Result<Batch> {
        match (self.end.asked_at_ns(), dispatched) {
            (None, Err(cause)) => Err(TapError::Read { interface: self.interface.clone(), cause }.into()),
            (Some(_), Err(_)) if packets == 0 => Ok(Batch::Over),
            (Some(asked_at_ns), _) if self.last_ns >= asked_at_ns => Ok(Batch::Over),
            _ => Ok(Batch::More(packets)),
        }
    }

    /// What libpcap and the kernel counted since the capture was opened.
    pub(crate) fn counters(&mut self) -> Result<Stat, pcap::Error> {
        self.handle.stats()
    }
}

fn activate(interface: &str, snaplen: u32) -> Result<Capture<Active>, pcap::Error> {
    let timeout_ms = i32::try_from(READ_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    let snaplen = i32::try_from(snaplen).unwrap_or(i32::MAX);
    Capture::from_device(interface)?.snaplen(snaplen).timeout(timeout_ms).buffer_size(RING_BYTES).open()
}

/// The number for the file. Raw IP alone is numbered differently by kernels.
fn link_type(link: Linktype) -> LinkType {
    match LinkType(u16::try_from(link.0).unwrap_or(u16::MAX)) {
        LinkType::RAW_BSD | LinkType::RAW_OPENBSD => LinkType::RAW,
        link => link,
    }
}

impl<'a> From<&Packet<'a>> for Frame<'a> {
    fn from(packet: &Packet<'a>) -> Self {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        let seconds_ns = part(packet.header.ts.tv_sec).saturating_mul(1_000_000_000);
        let timestamp_ns = seconds_ns.saturating_add(part(packet.header.ts.tv_usec).saturating_mul(1000));
        Self { timestamp_ns, wire_len: packet.header.len, bytes: packet.data }
    }
}

/// When the capture was asked to end, in the time of its packets; 0 as long as it was not.
#[derive(Clone, Debug, Default)]
struct End(Arc<AtomicU64>);

impl End {
    fn asked_at_ns(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|&ns| ns > 0)
    }

    fn wait(&self, mut signals: Signals, breakloop: &BreakLoop) {
        if let Some(signal) = signals.forever().next() {
            tracing::info!(signal, "ending");
            self.0.store(now_ns(), Ordering::Release);
            // Again and again: one break is used up by a loop that still has packets.
            loop {
                thread::sleep(READ_TIMEOUT.saturating_mul(2));
                breakloop.breakloop();
            }
        }
    }
}

fn now_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &str) -> String {
        let cause = pcap::Error::PcapError(words.to_owned());
        TapError::Open { interface: "eth0".to_owned(), cause }.to_string()
    }

    #[test]
    fn a_missing_permission_comes_with_advice() {
        assert_eq!(refusal("No such device exists"), "cannot capture on `eth0`: No such device exists");
        let refused = refusal("socket: Operation not permitted");
        assert!(refused.contains("`eth0`: socket: Operation not permitted; capturing needs CAP_NET_RAW"), "{refused}");
    }

    #[test]
    fn raw_ip_has_one_number_in_files() {
        assert_eq!(link_type(Linktype(12)), LinkType::RAW);
        assert_eq!(link_type(Linktype(1)), LinkType::ETHERNET);
        assert_eq!(link_type(Linktype(-1)), LinkType(u16::MAX));
    }
}
