//! The counters of one interface: written by its threads, read by those that report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A counter that one thread writes and others read. No other memory depends on it, so relaxed
/// ordering suffices.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A state that one thread sets and others read.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one interface since the agent began.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Packets and captured bytes that the kernel delivered.
    pub(crate) received: Count,
    pub(crate) received_bytes: Count,
    /// Packets that were lost before that, as libpcap counts them: in the kernel's buffer and in
    /// the interface.
    pub(crate) kernel_dropped: Count,
    pub(crate) interface_dropped: Count,
    /// Packets lost because the disk was too slow or refused them and the memory was full.
    pub(crate) disk_dropped: Count,
    /// Packets and bytes in segments, headers included.
    pub(crate) written: Count,
    pub(crate) written_bytes: Count,
    /// Closed segments.
    pub(crate) segments: Count,
    /// The last packet's time in nanoseconds since 1970; 0 before the first.
    pub(crate) last_packet_ns: Count,
    /// Grows as long as the capture thread is alive.
    pub(crate) heartbeat: Count,
    /// True when the capture thread has finished its work. A thread that ends before has died.
    pub(crate) is_done: Flag,
    /// True while the interface is open.
    pub(crate) is_capturing: Flag,
    /// True while the disk refuses writes.
    pub(crate) is_refused: Flag,
    pub(crate) segment_bytes: Count,
    /// Bytes of memory that wait for the disk.
    pub(crate) queue_bytes: Count,
}

/// The counters of the output directory.
#[derive(Debug, Default)]
pub(crate) struct SegmentDirTally {
    pub(crate) deleted: Count,
    pub(crate) deleted_unprocessed: Count,
    pub(crate) free_bytes: Count,
}

impl Tally {
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            received: self.received.get(),
            received_bytes: self.received_bytes.get(),
            kernel_dropped: self.kernel_dropped.get(),
            interface_dropped: self.interface_dropped.get(),
            disk_dropped: self.disk_dropped.get(),
            written: self.written.get(),
            written_bytes: self.written_bytes.get(),
            segments: self.segments.get(),
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) kernel_dropped: u64,
    pub(crate) interface_dropped: u64,
    pub(crate) disk_dropped: u64,
    pub(crate) written: u64,
    pub(crate) written_bytes: u64,
    pub(crate) segments: u64,
}

impl Snapshot {
    /// Returns the packets lost anywhere.
    pub(crate) fn dropped(&self) -> u64 {
        self.kernel_dropped
            .saturating_add(self.interface_dropped)
            .saturating_add(self.disk_dropped)
    }
}
