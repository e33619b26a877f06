//! What is counted of one interface: written by the threads that work for it, read by those that
//! report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number that one thread counts and others read. Nothing else depends on it, so no order is
/// needed.
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
    /// Packets that the kernel delivered, and their captured bytes.
    pub(crate) received: Count,
    pub(crate) received_bytes: Count,
    /// What libpcap says was lost before that: in the kernel's buffer, and in the interface.
    pub(crate) kernel_dropped: Count,
    pub(crate) interface_dropped: Count,
    /// Packets that the disk did not take while there was memory for them.
    pub(crate) disk_dropped: Count,
    /// Packets and bytes that are in segments, headers included.
    pub(crate) written: Count,
    pub(crate) written_bytes: Count,
    /// Segments that were closed.
    pub(crate) segments: Count,
    /// The last packet's time in nanoseconds since 1970; 0 before the first.
    pub(crate) last_packet_ns: Count,
    /// It grows as long as the capture's thread is alive.
    pub(crate) heartbeat: Count,
    /// Whether the capture's thread has done all that it was to do. One that ends before has died.
    pub(crate) is_done: Flag,
    /// Whether the interface is open.
    pub(crate) is_capturing: Flag,
    /// Whether the disk refuses what it is given.
    pub(crate) is_refused: Flag,
    pub(crate) segment_bytes: Count,
    /// Memory that waits for the disk.
    pub(crate) queue_bytes: Count,
}

/// What is counted of the output directory.
#[derive(Debug, Default)]
pub(crate) struct SpoolTally {
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
    /// All that was lost, wherever.
    pub(crate) fn dropped(&self) -> u64 {
        self.kernel_dropped
            .saturating_add(self.interface_dropped)
            .saturating_add(self.disk_dropped)
    }
}
