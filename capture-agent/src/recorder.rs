//! The thread of one interface: reads packets, waits for the interface while it is away, and ends
//! on request.
//!
//! No packet from before the request to end is lost: the thread reads until a packet is younger
//! than the request, or until the kernel's last block must have arrived. A change here must work on
//! a loaded interface (which always has a packet) and on a silent one (which never has one).

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pcap::Stat;
use shared::segment_drops::DropCauses;

use crate::{
    capture::{BLOCK_TIMEOUT, Source, Tap, TapError, Waited, pause},
    clock::{Pace, monotonic, wall_ns},
    gather::Gatherer,
    tally::Tally,
};

/// How many packets are read before the thread checks for requests.
const BATCH_PACKETS: usize = 4096;

/// After this time all packets of a moment have arrived, even from the kernel's last block.
const SETTLING: Duration = Duration::from_millis(250);

/// How long a loaded interface with old packets can delay the end. Waits for the disk do not count.
const MAX_ENDING: Duration = Duration::from_secs(3);

/// How often the agent tries to open an interface that is away.
const REOPEN_EVERY: Duration = Duration::from_millis(500);

/// How often the log repeats that the interface is away.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// How often the counters are read and the interface is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long the end waits for a disk that refuses writes, before packets without room are dropped.
/// (A disk that hangs delays the end anyway, because its writer waits: no packet is dropped then.)
const MAX_HOLDING_AT_END: Duration = Duration::from_secs(1);

/// How long the recorder sleeps before it asks again for room in the ring.
const HOLD: Duration = Duration::from_millis(5);

/// How many wake-ups in a row may find no packet before the recorder sleeps instead of polling.
const MAX_FALSE_ALARMS: u32 = 8;

/// No request has been made.
const NEVER: u64 = 0;

/// Requests to a recorder. Moments are nanoseconds since 1970, like the times of packets.
#[derive(Debug, Default)]
pub(crate) struct Control {
    end_at_ns: AtomicU64,
    rotate_at_ns: AtomicU64,
}

impl Control {
    /// Ends the capture: packets later than now are not wanted.
    pub(crate) fn end(&self) {
        self.end_at_ns.store(wall_ns(), Ordering::Release);
    }

    /// Ends the segment: packets later than now belong to the next one.
    pub(crate) fn rotate(&self) {
        self.rotate_at_ns.store(wall_ns(), Ordering::Release);
    }

    fn end_at_ns(&self) -> Option<u64> {
        Some(self.end_at_ns.load(Ordering::Acquire)).filter(|&ns| ns != NEVER)
    }
}

/// The capture of one interface.
pub(crate) struct Recorder {
    source: Source,
    tap: Option<Tap>,
    gatherer: Gatherer,
    control: Arc<Control>,
    tally: Arc<Tally>,
    /// How many more packets are wanted.
    wanted: u64,
    rotated_at_ns: u64,
    ending_since: Option<Instant>,
    /// How long the end has waited for the disk.
    held_at_end: Duration,
    last_ns: u64,
    counted: Stat,
    /// When the counters were last read, in nanoseconds since 1970.
    counted_at_ns: u64,
    /// True if packets were left in the kernel's buffer, because of the disk, since the counters
    /// were last read.
    has_held: bool,
    /// True once the counters are final: later drops are of packets that are not wanted.
    has_counted_all: bool,
    check: Pace,
    reopen: Pace,
    remind: Pace,
    false_alarms: u32,
}

impl Recorder {
    pub(crate) fn new(
        source: Source,
        tap: Tap,
        gatherer: Gatherer,
        control: Arc<Control>,
        tally: Arc<Tally>,
        wanted: u64,
    ) -> Self {
        Self {
            source,
            tap: Some(tap),
            gatherer,
            control,
            tally,
            wanted,
            rotated_at_ns: NEVER,
            ending_since: None,
            held_at_end: Duration::ZERO,
            last_ns: 0,
            counted: NOTHING_COUNTED,
            counted_at_ns: wall_ns(),
            has_held: false,
            has_counted_all: false,
            check: Pace::after(CHECK_EVERY),
            reopen: Pace::after(REOPEN_EVERY),
            remind: Pace::after(REMIND_EVERY),
            false_alarms: 0,
        }
    }

    /// Captures until the end.
    pub(crate) fn run(mut self) {
        self.tally.is_capturing.set(true);
        loop {
            self.tally.heartbeat.add(1);
            self.handle_requests();
            if self.must_hold() {
                self.hold();
                continue;
            }
            match self.read() {
                Ok(0) if self.is_over() => break,
                Ok(0) => self.wait(),
                Ok(_) if self.has_reached_end() => break,
                Ok(_) => {}
                Err(error) => self.handle_loss(&error),
            }
        }
        self.count();
        self.tally.is_capturing.set(false);
        self.gatherer.finish();
        self.tally.is_done.set(true);
    }

    fn handle_requests(&mut self) {
        let rotate_at_ns = self.control.rotate_at_ns.load(Ordering::Acquire);
        if rotate_at_ns != self.rotated_at_ns {
            self.rotated_at_ns = rotate_at_ns;
            self.gatherer.rotate(rotate_at_ns);
        }
        if self.ending_since.is_none() && self.control.end_at_ns().is_some() {
            self.ending_since = Some(monotonic());
        }
    }

    /// True when packets must stay in the kernel's buffer because the ring is full.
    fn must_hold(&self) -> bool {
        let is_refused_at_end =
            self.held_at_end >= MAX_HOLDING_AT_END && self.tally.is_refused.get();
        self.gatherer.room() == 0 && !is_refused_at_end
    }

    fn hold(&mut self) {
        self.has_held = true;
        if self.ending_since.is_some() {
            self.held_at_end = self.held_at_end.saturating_add(HOLD);
        }
        if self.check.is_due() {
            self.count();
        }
        pause(HOLD);
    }

    /// Reads a batch, and checks the interface at intervals.
    fn read(&mut self) -> Result<usize, TapError> {
        if let Some(tap) = &self.tap
            && self.check.is_due()
        {
            tap.check()?;
            self.count();
        }
        self.read_batch()
    }

    /// Reads a batch. An interface that is away gives no packets.
    fn read_batch(&mut self) -> Result<usize, TapError> {
        let Some(tap) = &mut self.tap else {
            return Ok(0);
        };
        let limit = BATCH_PACKETS
            .min(self.gatherer.room().max(1))
            .min(usize::try_from(self.wanted).unwrap_or(BATCH_PACKETS));
        let (mut packets, mut bytes, mut last_ns) = (0u64, 0u64, self.last_ns);
        let gatherer = &mut self.gatherer;
        let outcome = tap.read(limit, |frame| {
            last_ns = frame.timestamp_ns;
            packets = packets.saturating_add(1);
            bytes = bytes.saturating_add(u64::try_from(frame.bytes.len()).unwrap_or(0));
            gatherer.append(&frame);
        });
        if packets > 0 {
            self.last_ns = last_ns;
            self.wanted = self.wanted.saturating_sub(packets);
            self.tally.received.add(packets);
            self.tally.received_bytes.add(bytes);
            self.tally.last_packet_ns.set(last_ns);
            self.false_alarms = 0;
        }
        // The drops of a segment that has ended are known when the counters have been read.
        if self.gatherer.awaits_drops() {
            self.count();
        }
        outcome
    }

    /// True when the capture is over. The caller has found no packets.
    fn is_over(&self) -> bool {
        self.wanted == 0
            || self
                .ending_since
                .is_some_and(|since| self.tap.is_none() || since.elapsed() >= SETTLING)
    }

    /// True when the capture is over. The caller has found packets, which may be too young.
    fn has_reached_end(&self) -> bool {
        let is_younger = self
            .control
            .end_at_ns()
            .is_some_and(|end_ns| self.last_ns >= end_ns);
        let reading = |since: Instant| since.elapsed().saturating_sub(self.held_at_end);
        self.wanted == 0
            || is_younger
            || self
                .ending_since
                .is_some_and(|since| reading(since) >= MAX_ENDING)
    }

    /// Lets the disk have the gathered packets, then waits. The kernel has no more packets.
    fn wait(&mut self) {
        let settling_ns = u64::try_from(SETTLING.as_nanos()).unwrap_or(u64::MAX);
        self.gatherer.settle(wall_ns().saturating_sub(settling_ns));
        if self.gatherer.awaits_drops() {
            self.count();
        }
        match &self.tap {
            Some(tap) if self.false_alarms < MAX_FALSE_ALARMS => {
                if tap.wait(BLOCK_TIMEOUT) == Waited::Something {
                    self.false_alarms = self.false_alarms.saturating_add(1);
                }
            }
            Some(_) => {
                pause(BLOCK_TIMEOUT);
                self.false_alarms = 0;
            }
            None => {
                pause(BLOCK_TIMEOUT);
                self.reopen();
            }
        }
    }

    fn handle_loss(&mut self, error: &TapError) {
        tracing::error!("{error}; waiting for it to come back");
        // The kernel's buffer still has earlier packets, in a block that it has not handed over.
        pause(SETTLING);
        while matches!(self.read_batch(), Ok(1..)) {}
        self.count();
        self.tap = None;
        self.tally.is_capturing.set(false);
        (self.reopen, self.remind) = (Pace::after(REOPEN_EVERY), Pace::after(REMIND_EVERY));
    }

    fn reopen(&mut self) {
        if self.ending_since.is_some() || !self.reopen.is_due() {
            return;
        }
        match self.source.open() {
            Ok(tap) => {
                tracing::info!(interface = %self.source.interface, link = %tap.format().link, "capturing again");
                self.gatherer.set_format(tap.format());
                self.tap = Some(tap);
                self.counted = NOTHING_COUNTED;
                self.counted_at_ns = wall_ns();
                self.tally.is_capturing.set(true);
            }
            Err(error) if self.remind.is_due() => tracing::warn!("still waiting: {error}"),
            Err(_) => {}
        }
    }

    /// Reads the counters, and assigns the drops to the segments that have ended.
    fn count(&mut self) {
        self.read_counters();
        self.gatherer.assign_drops();
    }

    /// Adds what libpcap has counted since the last call; its 32-bit counters wrap around.
    fn read_counters(&mut self) {
        if self.has_counted_all {
            return;
        }
        self.has_counted_all = self
            .ending_since
            .is_some_and(|since| since.elapsed() >= SETTLING);
        let Some(counters) = self.tap.as_mut().and_then(Tap::counters) else {
            return;
        };
        let dropped = counters.dropped.wrapping_sub(self.counted.dropped).into();
        let mut causes = DropCauses {
            interface: counters
                .if_dropped
                .wrapping_sub(self.counted.if_dropped)
                .into(),
            ..DropCauses::default()
        };
        // Drops while the ring was full are the disk's fault, not the kernel's.
        if mem::take(&mut self.has_held) {
            causes.agent = dropped;
        } else {
            causes.kernel = dropped;
        }
        self.tally.kernel_dropped.add(causes.kernel);
        self.tally.disk_dropped.add(causes.agent);
        self.tally.interface_dropped.add(causes.interface);
        self.counted = counters;
        let now_ns = wall_ns();
        let since_ns = mem::replace(&mut self.counted_at_ns, now_ns);
        self.gatherer
            .note_drops(since_ns.min(now_ns), now_ns, causes);
    }
}

const NOTHING_COUNTED: Stat = Stat {
    received: 0,
    dropped: 0,
    if_dropped: 0,
};
